"""`vaelint run SCRIPT`: a script as `python` runs it, watched, and checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data" / "runs"


def run(*words: str, cwd: Path = DATA) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vaelint", "run", *words], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_a_script_is_run_with_its_own_arguments_and_its_loss_is_known_by_line() -> None:
    done = run("--output-format", "json", "train.py", "--epochs", "2", "--batch-size", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["target"] == "train.py:VAE" and target["status"] == "clean" and target["symbols"]["B"] == 10
    line = next(n for n, text in enumerate((DATA / "train.py").read_text().splitlines(), 1) if "loss.backward()" in text)
    assert any(
        n == f"observed: train.py --epochs 2 --batch-size 10; the loss is what train.py:{line} calls backward() on" for n in target["notes"]
    )


def test_what_is_no_script_and_what_does_not_train_is_said_in_one_message() -> None:
    missing = run("nothing.py")
    assert missing.returncode == 2 and "there is no file nothing.py" in missing.stderr
    broken = run("train.py", "--epochs", "none")
    assert broken.returncode == 2, broken.stdout
    assert "no training iteration was seen: it ended with sys.exit(2)" in broken.stdout
    assert "Traceback" not in broken.stdout + broken.stderr
