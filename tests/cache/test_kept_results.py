"""What is kept of earlier runs: it answers for the same files and for nothing else, and no mishap breaks it.

The pipeline is the small one of tests/data/fake: it runs the target's module, so a target here reads what it likes. The last
tests are of the command.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import commandline
import pytest
from keeping import VAELINT, Run, command

from vaelint.cache.folder import own

DATA = Path(__file__).parents[1] / "data"


def test_the_same_files_give_the_same_answer(run: Run, tmp_path: Path) -> None:
    first = run("print('hello')")
    again = run()
    assert (first.kept, again.kept) == (False, True)
    assert again.result.to_json() == first.result.to_json()
    assert again.output == "hello\n"
    os.utime(tmp_path / "model.py")
    time.sleep(0.05)
    assert run().kept, "a file that is merely touched is the same"


def test_another_request_is_another_result(run: Run) -> None:
    assert not run("pass").kept
    assert not run(inputs=("4x4",)).kept
    assert not run(select=("VAE2",)).kept
    assert run().kept


CHANGES: dict[str, tuple[str, Callable[[Path, pytest.MonkeyPatch], object]]] = {
    "the target": ("pass", lambda p, m: (p / "model.py").write_text("x = 1")),
    "a module": ("import helper", lambda p, m: (p / "helper.py").write_text("y = 2")),
    "a module of a package": ("import pack.part", lambda p, m: (p / "pack" / "part.py").write_text("y = 2")),
    "a data file": ("open(f'{sys.path[0]}/data.txt').read()", lambda p, m: (p / "data.txt").write_text("2")),
    "a file that was not there": (
        "try: open(f'{sys.path[0]}/no.txt')\nexcept OSError: pass",
        lambda p, m: (p / "no.txt").write_text("2"),
    ),
    "a folder that was listed": ("import os\nos.listdir(sys.path[0])", lambda p, m: (p / "new.txt").write_text("2")),
    "a variable": ("import os\nos.environ.get('MODEL_SIZE')", lambda p, m: m.setenv("MODEL_SIZE", "2")),
    "any variable": ("import os\ndict(os.environ)", lambda p, m: m.setenv("MODEL_SIZE", "2")),
    "a module that comes to stand before another": ("import wave_of_mine", lambda p, m: (p / "wave_of_mine.py").write_text("")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_result_is_not_used_once_something_it_was_made_from_has_changed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (tmp_path / "helper.py").write_text("y = 1")
    (tmp_path / "data.txt").write_text("1")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "part.py").write_text("")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "wave_of_mine.py").write_text("")
    code, change = CHANGES[what]
    run(f"sys.path.append({str(tmp_path / 'later')!r})\n{code}")
    assert run().kept
    change(tmp_path, monkeypatch)
    assert not run().kept


def test_what_a_target_does_not_read_may_change(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("import os\nos.environ.get('MODEL_SIZE')")
    (tmp_path / "neighbour.py").write_text("x = 1")
    monkeypatch.setenv("ANOTHER", "2")
    assert run().kept


def test_a_branch_that_is_switched_back_to_finds_its_own(run: Run) -> None:
    run("x = 1")
    run("x = 2")
    assert run("x = 1").kept
    assert run("x = 2").kept


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError",
        "import os\nos._exit(3)",
        "import subprocess\nsubprocess.run(['true'])",
        "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError: pass",
        "open(f'{sys.path[0]}/model.py', 'a').write('#')",
    ],
    ids=["raises", "exits", "starts a program", "asks the network", "changes itself"],
)
def test_what_the_next_run_may_see_otherwise_is_not_kept(run: Run, code: str) -> None:
    run(code)
    assert not run().kept


def test_a_broken_entry_is_as_good_as_none(run: Run, tmp_path: Path) -> None:
    first = run("pass")
    entries = [f for f in (tmp_path / ".kept").rglob("*.json") if f.is_file()]
    assert len(entries) == 2
    for entry in entries:
        whole = entry.read_bytes()
        for broken in (b"", whole[: len(whole) // 2], whole[:-3] + b"xyz", b"\xff\xfe\x00", b"0\n{}", b"[]"):
            entry.write_bytes(broken)
            again = run()
            assert not again.kept
            assert again.result.to_json() == first.result.to_json()
            assert run().kept, "and it is mended"


def test_a_folder_that_cannot_be_written_is_said_once(run: Run, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / ".kept").write_text("a file, not a folder")
    assert run("pass").result.status == "clean"
    assert len(said) == 1
    assert said[0].startswith("results are not kept: ")


def test_a_full_disk_is_said_and_leaves_nothing_broken(run: Run, tmp_path: Path, said: list[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run("x = 1")
    (tmp_path / "model.py").write_text("y = 1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        assert run().result.status == "clean"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(said) == 1
    assert not list((tmp_path / ".kept").rglob(".*.json.*")), "no half of an entry stays"
    assert run("x = 1").kept


def test_an_unchanged_target_answers_without_torch(tmp_path: Path) -> None:
    shutil.copy(DATA / "vae_three_bugs.py", tmp_path / "model.py")
    os.utime(tmp_path / "model.py", (1e9, 1e9))
    check = ("check", "model.py:VAE", "--input", "32x784", "--device", "none", "--output-format", "json")
    first = command(tmp_path, *check)
    assert first.returncode == 1
    again = command(tmp_path, *check, LACKS="torch")
    assert (again.returncode, again.stdout) == (1, first.stdout)
    without = command(tmp_path, *check, "--no-cache", LACKS="torch")
    assert (without.returncode, "'torch'" in without.stderr) == (2, True)
    assert command(tmp_path, "cache", "dir").stdout.strip() == own()
    assert command(tmp_path, "cache", "clear").stdout.startswith("removed ")
    assert command(tmp_path, *check, LACKS="torch").returncode == 2
    assert command(tmp_path, "cache", "clear").stdout.startswith("nothing to remove")


def test_two_runs_at_once_agree_and_break_nothing(tmp_path: Path) -> None:
    for i in range(3):
        shutil.copy(DATA / "mlp_vae.py", tmp_path / f"m{i}.py")
        os.utime(tmp_path / f"m{i}.py", (1e9, 1e9))
    words = [VAELINT, "check", *(f"m{i}.py:VAE" for i in range(3)), "--input", "32x784", "--device", "none", "--output-format", "json"]
    both = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    after = command(tmp_path, *words[1:], LACKS="")
    assert [t["status"] for t in json.loads(after.stdout)["targets"]] == ["clean"] * 3
    assert not [f for f in Path(own()).rglob(".*") if f.name != ".gitignore"]


def test_one_of_several_is_checked_alone(tmp_path: Path) -> None:
    for i in range(3):
        shutil.copy(DATA / "mlp_vae.py", tmp_path / f"m{i}.py")
        os.utime(tmp_path / f"m{i}.py", (1e9, 1e9))
    words = ["check", *(f"m{i}.py:VAE" for i in range(3)), "--input", "32x784", "--device", "none", "--timings", "--output-format", "json"]

    def times() -> list[float]:
        done = commandline.vaelint(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return [t["timing"]["trace_s"] for t in json.loads(done.stdout)["targets"]]

    before = times()
    (tmp_path / "m1.py").write_text((tmp_path / "m1.py").read_text() + "\n")
    os.utime(tmp_path / "m1.py", (1e9, 1e9))
    after = times()
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]
