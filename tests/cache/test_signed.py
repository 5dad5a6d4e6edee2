"""Only what this user's vaelint wrote is believed: entries are signed with a key that no repository can ship."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import commandline
import pytest
from keeping import LONG_AGO, Run

from vaelint.cache.folder import own
from vaelint.cache.key import key, made_key
from vaelint.cache.tracked import tracked

DATA = Path(__file__).parents[1] / "data"
KEY = "as long as a secret of a CI service"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has kept nothing yet."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))


def test_an_entry_that_somebody_else_wrote_is_not_used(run: Run, tmp_path: Path) -> None:
    truth = run("print('found')")
    assert run().output == "found\n"
    (entry,) = tmp_path.glob(".kept/v1/??/*.result.json")
    whole = entry.read_bytes()
    told = json.loads(whole.partition(b"\n")[2])
    body = json.dumps({**told, "output": "forged"}).encode()
    for mac in (
        hashlib.blake2b(body, digest_size=16).hexdigest(),
        hashlib.sha256(body).hexdigest(),
        whole.partition(b"\n")[0].decode(),
        "",
    ):
        entry.write_bytes(mac.encode() + b"\n" + body)
        again = run()
        assert (again.kept, again.output) == (False, truth.output)
        assert run().kept, "and it is written anew"


def test_a_true_entry_says_nothing_under_another_name(run: Run, tmp_path: Path) -> None:
    run("print('first')")
    (first,) = tmp_path.glob(".kept/v1/??/*.result.json")
    kept = first.read_bytes()
    run("print('second')")
    for entry in tmp_path.glob(".kept/v1/??/*.result.json"):
        entry.write_bytes(kept)
    assert run().output == "second\n"


def test_a_shared_folder_answers_for_those_who_share_the_key(
    run: Run, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pass")
    another_user(tmp_path, monkeypatch)
    assert not run().kept
    monkeypatch.setenv("VAELINT_CACHE_KEY", KEY)
    run()
    shutil.rmtree(tmp_path / "another user")
    assert run().kept, "no file is needed where a variable has the key"
    monkeypatch.setenv("VAELINT_CACHE_KEY", KEY + "!")
    assert not run().kept
    assert said == []
    monkeypatch.setenv("VAELINT_CACHE_KEY", "short")
    assert not run().kept
    assert said == ["results are not kept: VAELINT_CACHE_KEY has fewer than 16 characters"]


def test_user_code_does_not_get_the_key(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import os\nprint('KEY', os.environ.get('VAELINT_CACHE_KEY'))\nraise SystemExit(3)\n")
    done = commandline.vaelint("check", "model.py:VAE", "--input", "4x4", "-v", cwd=tmp_path, env={"VAELINT_CACHE_KEY": KEY})
    assert "KEY None" in done.stdout, done.stdout


@pytest.mark.parametrize("how", ["others may read it", "it is tracked", "it is a link", "it is something else"])
def test_a_key_that_others_may_know_is_refused(
    run: Run, tmp_path: Path, said: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run("pass")
    assert run().kept
    file = Path(own(), "key")
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, os.geteuid())
    if how == "others may read it":
        file.chmod(0o640)
    elif how == "it is tracked":
        subprocess.run(["git", "init", "-q"], cwd=home, check=True)
        assert run().kept
        subprocess.run(["git", "add", "-f", "vaelint/key"], cwd=home, check=True)
    elif how == "it is a link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text("words")
    checked = run()
    assert (checked.kept, checked.result.status) == (False, "clean")
    assert len(said) == 1
    assert said[0].startswith("results are not kept: ")
    assert str(file) in said[0]


def test_without_a_folder_of_ones_own_a_variable_may_hold_the_key(run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert run("pass").result.status == "clean"
    assert len(said) == 1
    assert said[0].startswith("results are not kept: no key can be made in /proc/nowhere/vaelint (")
    assert said[0].endswith("; VAELINT_CACHE_KEY may hold one")
    monkeypatch.setenv("VAELINT_CACHE_KEY", KEY)
    run()
    assert run().kept
    assert len(said) == 1


def test_what_git_tracks_is_read_from_its_index(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "key"
    file.write_text("")
    assert not tracked(str(file))
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    assert not tracked(str(file))
    (tmp_path / "other").write_text("")
    subprocess.run([*git, "add", "other"], cwd=tmp_path, check=True)
    assert not tracked(str(file))
    subprocess.run([*git, "add", "a"], cwd=tmp_path, check=True)
    assert tracked(str(file))
    subprocess.run([*git, "commit", "-qm", "x"], cwd=tmp_path, check=True)
    subprocess.run([*git, "worktree", "add", "-q", "tree"], cwd=tmp_path, check=True)
    assert tracked(str(tmp_path / "tree" / "a" / "key"))
    subprocess.run([*git, "update-index", "--index-version", "4"], cwd=tmp_path, check=True)
    assert tracked(str(file))


def test_two_runs_make_one_key() -> None:
    assert key() is None
    made = made_key()
    assert made_key() == key() == made
    assert [p.name for p in Path(own()).iterdir() if p.name.startswith((".key", "key"))] == ["key"]


def test_a_shipped_cache_is_not_believed_and_none_is_left_in_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    shutil.copy(DATA / "vae_three_bugs.py", repo / "model.py")
    os.utime(repo / "model.py", LONG_AGO)
    check = ("check", "model.py:VAE", "--input", "32x784", "--device", "none", "--output-format", "json")
    found = commandline.vaelint(*check, cwd=repo)
    assert found.returncode == 1
    assert sorted(p.name for p in repo.iterdir()) == ["model.py"]
    shutil.copytree(own(), repo / ".vaelint_cache")
    for entry in repo.glob(".vaelint_cache/v1/??/*.result.json"):
        told = json.loads(entry.read_text().partition("\n")[2])
        told["result"]["findings"], told["result"]["status"] = [], "clean"
        body = json.dumps(told)
        entry.write_text(hashlib.blake2b(body.encode(), digest_size=16).hexdigest() + "\n" + body)
    another_user(tmp_path, monkeypatch)
    for told_of in ({}, {"VAELINT_CACHE_DIR": str(repo / ".vaelint_cache")}):
        after = commandline.vaelint(*check, cwd=repo, env=told_of)
        assert (after.returncode, json.loads(after.stdout)["targets"][0]["status"]) == (1, "findings")
