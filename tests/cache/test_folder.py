"""The folder of kept results: nothing is deleted, written or believed in a folder that is not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from keeping import LONG_AGO, Run, command

from vaelint.cache.folder import clear, refusal
from vaelint.cache.store import Cache


def aged(folder: Path) -> None:
    """Everything in a folder was last used long ago."""
    for path in folder.rglob("*"):
        os.utime(path, LONG_AGO, follow_symlinks=False)


def end_of_a_run(folder: Path, said: list[str]) -> None:
    """What a run does at its end, without a result."""
    Cache(str(folder), said.append).close(["check"], 0)


def test_old_entries_go_and_nothing_else_does(run: Run, tmp_path: Path, said: list[str]) -> None:
    kept = tmp_path / ".kept"
    run("pass")
    entries = [*kept.glob("v1/??/*.json")]
    assert len(entries) == 2
    theirs = [kept / p for p in ("venv/bin/python", "v1/ab/notes.txt", "v1/mine.json", "v2/ab/x.json", "last-words", "v1/abc/d")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    half = kept / "v1" / "ab" / f".{'0' * 32}.result.json.77"
    half.write_text("")
    aged(kept)
    end_of_a_run(kept, said)
    assert not [p for p in (*entries, half) if p.exists()]
    assert [p for p in theirs if not p.exists()] == []


def test_a_link_inside_is_not_followed(run: Run, tmp_path: Path, said: list[str]) -> None:
    kept, away = tmp_path / ".kept", tmp_path / "away"
    run("pass")
    (away / "ab").mkdir(parents=True)
    precious = [away / "ab" / f"{'0' * 32}.result.json", away / f"{'0' * 32}.reads.json"]
    for path in precious:
        path.write_text("")
    next(p for p in (kept / "v1" / b for b in ("ab", "cd", "ef")) if not p.exists()).symlink_to(away)
    aged(away)
    end_of_a_run(kept, said)
    clear(str(kept))
    assert all(p.exists() for p in precious)


@pytest.mark.parametrize("how", ["a link", "other files", "a tag of another program", "a file"])
def test_a_folder_of_somebody_else_is_refused_and_the_check_still_runs(run: Run, tmp_path: Path, said: list[str], how: str) -> None:
    away, folder = tmp_path / "away", tmp_path / "cache"
    run("pass", keep=away)
    (old,) = away.glob("v1/??/*.result.json")
    aged(away)
    if how == "a link":
        folder.symlink_to(away)
    elif how == "a file":
        folder.write_text("")
    else:
        away.rename(folder)
        (folder / "CACHEDIR.TAG").unlink()
        if how == "a tag of another program":
            (folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n")
    before = sorted(p.relative_to(tmp_path) for p in (folder, *folder.rglob("*")))
    checked = run(keep=folder)
    end_of_a_run(folder, said)
    assert (checked.result.status, checked.kept) == ("clean", False)
    assert [line.startswith(f"results are not kept: {folder} ") for line in said] == [True, True], "one line a run"
    assert sorted(p.relative_to(tmp_path) for p in (folder, *folder.rglob("*"))) == before
    assert old.exists() or how != "a link"


def test_a_folder_that_is_empty_or_missing_becomes_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/below"):
        folder = tmp_path / name
        run("pass", keep=folder)
        assert run(keep=folder).kept
        assert (folder / ".gitignore").read_text().endswith("*\n")
        assert clear(str(folder))
        assert not folder.exists()
        assert not clear(str(folder))


def test_clearing_leaves_what_is_not_ours(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / ".kept"
    run("pass")
    (kept / "mine.txt").write_text("")
    (kept / "v1" / "mine.json").write_text("")
    (kept / ".gitignore").write_text("my own words")
    assert clear(str(kept))
    assert sorted(str(p.relative_to(kept)) for p in kept.rglob("*")) == [".gitignore", "mine.txt", "v1", "v1/mine.json"]
    assert refusal(str(kept)), "and it is not taken again"


def test_an_entry_that_is_no_file_is_none(run: Run, tmp_path: Path) -> None:
    run("pass")
    for entry in tmp_path.glob(".kept/v1/??/*.json"):
        for put in (lambda p: os.mkfifo(p), lambda p: p.symlink_to("/dev/zero"), lambda p: p.mkdir()):
            entry.unlink()
            put(entry)
            assert not run().kept
            if entry.is_dir():
                entry.rmdir()
                run()


def test_the_command_refuses_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    cleared = command(tmp_path, "cache", "clear", VAELINT_CACHE_DIR=str(folder))
    assert (cleared.returncode, cleared.stdout) == (2, "")
    assert cleared.stderr.startswith(f"vaelint: nothing was removed: {folder} holds other files")
    (tmp_path / "link").symlink_to(folder)
    linked = command(tmp_path, "cache", "clear", VAELINT_CACHE_DIR=str(tmp_path / "link"))
    assert (linked.returncode, "is a symbolic link" in linked.stderr) == (2, True)
    assert (folder / "bin" / "python").exists()
