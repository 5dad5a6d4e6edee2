"""`vaelint run -- COMMAND`: the Python script within a command is found and observed; nothing else of the command has an effect."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import commandline
import pytest
from lefttrees import held_by_kernel, tree

from vaelint.core.errors import UsageError
from vaelint.core.launchers import RANK_ZERO, Started, script_within
from vaelint.core.run_request import observed_request
from vaelint.discover.started import started_by

DATA = Path(__file__).parents[1] / "data" / "runs"
needs_landlock = pytest.mark.skipif(not held_by_kernel(), reason="this kernel has no Landlock")


@pytest.mark.parametrize(
    ("command", "words", "ranked"),
    [
        ("python train.py --lr 1e-3", "train.py --lr 1e-3", False),
        ("python3.11 -u -W ignore -m package.train x", "-m package.train x", False),
        ("torchrun --nproc-per-node 2 train.py --a -m", "train.py --a -m", True),
        ("python -m torch.distributed.run --nproc_per_node=2 -m package.train x", "-m package.train x", True),
        ("accelerate launch --mixed_precision fp16 --num_processes 2 scripts/train.py", "scripts/train.py", False),
        ("srun -n 2 uv run python train.py", "train.py", True),
        ("nohup nice -n 5 python train.py", "train.py", False),
        ("train.py python", "train.py python", False),
        ("python -c pass", None, False),
        ("make train.py", None, False),
        ("python", None, False),
    ],
)
def test_the_words_of_a_launcher_are_taken_off(command: str, words: str | None, ranked: bool) -> None:
    expected = Started(tuple(words.split()), tuple(RANK_ZERO.items()) if ranked else ()) if words else None
    assert script_within(command.split()) == expected


def test_variables_before_a_command_go_along() -> None:
    assert script_within(["A=1=2", "python", "x.py"]) == Started(("x.py",), (("A", "1=2"),))
    assert script_within(["env", "B=", "torchrun", "x.py"]) == Started(("x.py",), (("B", ""), *RANK_ZERO.items()))


def test_a_configured_command_may_name_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    request = observed_request(["torchrun", "--standalone", "train.py", "--epochs", "1"])
    assert request.target == "train.py" and request.run == ("train.py", "--epochs", "1")
    assert dict(request.environment) == RANK_ZERO
    assert type(request).from_json(json.loads(json.dumps(request.to_json()))) == request


SHELL = f"""#!/bin/bash
set -e
mkdir -p results
export GREETING=hello
{sys.executable} -c 'print("counted")' > /dev/null
{sys.executable} prepare.py
rm -rf keep.txt
for size in 10; do
  "{sys.executable}" train.py --batch-size $size "$@" | tee results/log.txt
done
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a shell script that prepares and trains, and things that it would overwrite and remove."""
    shutil.copy(DATA / "train.py", tmp_path)
    (tmp_path / "prepare.py").write_text("open('data.bin', 'w').write('made')\n")
    (tmp_path / "keep.txt").write_text("keep")
    (tmp_path / "go.sh").write_text(SHELL)
    (tmp_path / "stops.sh").write_text(f"{sys.executable} train.py --epochs 1 > log.txt\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_landlock
def test_a_shell_script_is_followed_to_its_training_and_changes_nothing(project: Path) -> None:
    before = tree(project)
    (found,) = started_by(["bash", "go.sh", "--epochs", "2"])
    assert found.words == ("train.py", "--batch-size", "10", "--epochs", "2") and dict(found.environment)["GREETING"] == "hello"
    (direct,) = started_by(["./stops.sh"] if os.access("stops.sh", os.X_OK) else ["bash", "stops.sh"])
    assert direct.words == ("train.py", "--epochs", "1")  # its text says so: the shell could not open log.txt
    assert tree(project) == before


@needs_landlock
def test_a_make_target_is_observed(project: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (project / "Makefile").write_text(f"N = 3\ntrain:\n\tmkdir -p runs\n\tcd . && {sys.executable} train.py --epochs $(N)\n")
    words = ["run", "--device", "none", "--output-format", "json", "--", "make", "train"]
    done = commandline.vaelint(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["target"] == "train.py:VAE"
    assert any(n.startswith("observed: train.py --epochs 3; the loss is what") for n in target["notes"])
    assert not (project / "runs").exists()


@needs_landlock
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["true"], "`true` starts no Python script"),
        ([sys.executable, "-c", "print('only this')"], "starts no Python script: only this"),
        (["nothing.py"], "there is no file nothing.py"),
        (["no-such-program", "train.py"], "there is no file no-such-program"),
    ],
)
def test_a_command_that_starts_no_script_is_said_in_one_message(project: Path, command: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        started_by(command)


def test_an_observed_target_is_drawn_and_mended(project: Path) -> None:
    wrong = (project / "train.py").read_text().replace("torch.randn_like(mu)", "torch.randn(4, device=mu.device)")
    (project / "train.py").write_text(wrong)
    (project / "vaelint.toml").write_text('[[targets]]\nrun = "train.py --epochs 1"\n')

    def vaelint(*words: str) -> subprocess.CompletedProcess[str]:
        return commandline.vaelint(*words)

    drawn = vaelint("run", "--device", "none", "--output-format", "html", "train.py")
    assert "<svg" in drawn.stdout and "The way from input to loss" in drawn.stdout
    patch = vaelint("check", "--fix", "--diff")
    assert "+        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)" in patch.stdout, patch.stdout + patch.stderr
    assert "1 fix, each checked with a real pass on the edited source" in patch.stderr
    assert (project / "train.py").read_text() == wrong
