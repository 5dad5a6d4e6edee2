"""`vaelint run SCRIPT`: a script as `python` runs it, watched, and checked."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

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


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and folder below, with what is in it and when it was changed."""
    found = [folder, *folder.rglob("*")]
    return {p.as_posix(): (p.read_bytes() if p.is_file() else b"", p.stat().st_mtime_ns) for p in found}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a training script and things that it would overwrite and remove."""
    for name in ("keep.txt", "notes.txt", "data/images/one.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name} as it was")
    shutil.copy(DATA / "writes.py", tmp_path)
    return tmp_path


def held_by_kernel() -> bool:
    """Whether this kernel has Landlock."""
    if sys.platform != "linux":
        return False
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return version >= 1


def test_a_watched_script_leaves_the_folder_byte_for_byte_as_it_was(project: Path) -> None:
    before, scratch = tree(project), set(Path(tempfile.gettempdir()).glob("vaelint-run-*"))
    done = run("-v", "writes.py", *(["--below"] if held_by_kernel() else []), cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(project) == before
    assert set(Path(tempfile.gettempdir()).glob("vaelint-run-*")) <= scratch
    said = " ".join(done.stdout.split())
    lines = (DATA / "writes.py").read_text().splitlines()
    for what, text in {
        "make the folder out/images": "os.makedirs(",
        "write log.txt": 'open("log.txt", "a")',
        "remove keep.txt": 'os.remove("keep.txt")',
        "rename notes.txt to moved.txt": "os.rename(",
        "start 'touch evil.txt'": "os.system(",
        "connect to 192.0.2.1:80": "socket.create_connection(",
        "save out/model.pt": "out/model.pt",
        "save last.pt": "last.pt",
        "remove data": "shutil.rmtree(",
    }.items():
        line = next(n for n, own in enumerate(lines, 1) if text in own)
        assert f"held back: {what} (writes.py:{line})" in said, what
    if held_by_kernel():
        assert "below: -1" in done.stdout


def test_writes_are_allowed_where_that_is_asked_for(project: Path) -> None:
    done = run("--allow-writes", "writes.py", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "out" / "model.pt").is_file() and (project / "evil.txt").is_file() and not (project / "data").exists()
    assert "held back" not in done.stdout


def test_a_script_that_does_not_come_to_train_is_stopped_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\n\nfor i in range(10**6):\n    time.sleep(0.01)  # here\n")
    done = run("--timeout", "8", "slow.py", cwd=tmp_path)
    assert done.returncode == 2 and "slow.py:4" in done.stdout and "vaelint run --timeout 16 slow.py" in " ".join(done.stdout.split())
    (tmp_path / "large.py").write_text("import torch\n\nheld = [torch.ones(10**9) for _ in range(100)]\n")
    done = run("large.py", cwd=tmp_path)
    assert done.returncode == 2 and "large.py:3" in done.stdout and "more memory than the" in " ".join(done.stdout.split())
