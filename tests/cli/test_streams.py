"""Standard output and error that are closed or full, a working directory that is gone: one message, exit code 2, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import commandline
import pytest

DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")
CHECKED = ("check", f"{DATA / 'mlp_vae.py'}:VAE", "--input", "32x784", "--device", "none", "--no-cache")
CHECK = " ".join([VAELINT, *CHECKED])


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "command", [CHECK, f"{CHECK} --output-format json", f"{VAELINT} rules", f"{VAELINT} rules --help", f"{VAELINT} --version"]
)
def test_a_full_disk_is_told_once(command: str, tmp_path: Path) -> None:
    done = shell(f"{command} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, "vaelint: cannot write standard output: No space left on device\n")


@pytest.mark.parametrize("command", [CHECK, f"{VAELINT} rules", f"{sys.executable} -m vaelint rules"])
def test_a_reader_that_leaves_is_no_finding(command: str, tmp_path: Path) -> None:
    """Exit code 1 is that of findings, also where nobody reads to the end."""
    line = f"import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.execvp({command.split()[0]!r}, {command.split()!r})"
    done = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("command", [CHECK, f"{VAELINT} explain VAE201"])
def test_a_closed_standard_output_is_told_once(command: str, tmp_path: Path) -> None:
    done = shell(f"{command} >&-", tmp_path)
    assert (done.returncode, done.stderr) == (2, "vaelint: cannot write standard output: it is closed\n")


def test_where_all_streams_are_closed_a_report_is_written_nevertheless(tmp_path: Path) -> None:
    done = shell(f"{CHECK} --output-format json:{tmp_path / 'r.json'} <&- >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "r.json").stat().st_size > 1000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_messages_that_cannot_be_written_change_no_exit_code(tmp_path: Path) -> None:
    assert shell(f"{VAELINT} check nowhere.py:VAE --input 3x 2> /dev/full", tmp_path).returncode == 2
    assert shell(f"{VAELINT} explain VAE201 2>&-", tmp_path).returncode == 0


@pytest.mark.parametrize("command", [CHECK, f"{VAELINT} rules", f"{sys.executable} -P -m vaelint config"])
def test_a_working_directory_that_is_gone_is_told_once(command: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(f"cd gone && rmdir ../gone && {command}", tmp_path)
    assert done.returncode == 2
    assert done.stderr == ("vaelint: the working directory cannot be read: No such file or directory\nhelp: cd to a folder that is there\n")


def test_a_configuration_writes_no_baseline_outside_of_its_repository(tmp_path: Path) -> None:
    """The command line may."""
    inside = tmp_path / "checkout"
    (inside / ".git").mkdir(parents=True)
    (inside / "vaelint.toml").write_text('baseline = "link.json"\n')
    (inside / "link.json").symlink_to("../outside.json")
    done = commandline.vaelint(*CHECKED, "--update-baseline", cwd=inside)
    assert done.returncode == 2
    assert "is outside the repository" in done.stderr and "--baseline" in done.stderr
    assert not (tmp_path / "outside.json").exists()
    assert commandline.vaelint(*CHECKED, "--update-baseline", "--baseline", "../outside.json", cwd=inside).returncode == 0
    assert (tmp_path / "outside.json").is_file()
    (inside / "vaelint.toml").write_text('baseline = "known.json"\n')
    assert commandline.vaelint(*CHECKED, "--update-baseline", cwd=inside).returncode == 0
    assert (inside / "known.json").is_file()
    os.unlink(inside / "link.json")  # noqa: PTH108
    (inside / "vaelint.toml").write_text('baseline = "/dev/zero"\n')
    assert "not a regular file" in commandline.vaelint(*CHECKED, cwd=inside).stderr.lower()
