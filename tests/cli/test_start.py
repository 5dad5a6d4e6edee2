"""How the command starts and how it ends: nothing of the folder it runs in is imported, and every end has its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vaelint.cli.ends import ended

SCRIPT = [str(Path(sys.executable).with_name("vaelint"))]
MODULE = [sys.executable, "-m", "vaelint"]
SAFE = [sys.executable, "-P", "-m", "vaelint"]
POISON = "import pathlib\npathlib.Path({mark!r}).open('a').write(__name__ + ' ')\nraise ImportError('poisoned')\n"
OTHERS = ("typer", "click", "rich", "torch", "jaxtyping", "vaelint_rules", "numpy")


def run(command: list[str], *args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *args], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False)


def poisoned(folder: Path, names: list[str]) -> Path:
    """A repository whose files have the names of modules; the file that each notes its name in."""
    mark = folder.parent / "imported"
    for name in names:
        (folder / f"{name}.py").write_text(POISON.format(mark=str(mark)))
    return mark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    made.mkdir()
    return made


@pytest.mark.parametrize("words", [("--version",), ("rules",), ("explain", "VAE201"), ("config",)], ids=" ".join)
@pytest.mark.parametrize("command", [SCRIPT, SAFE], ids=["the console script", "python -P -m"])
def test_no_file_of_the_folder_is_imported(folder: Path, command: list[str], words: tuple[str, ...]) -> None:
    mark = poisoned(folder, [*(n for n in sys.stdlib_module_names if not n.startswith("_") or n == "__future__"), *OTHERS])
    done = run(command, *words, cwd=folder)
    assert not mark.exists(), mark.read_text()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [("--version",), ("rules",)], ids=" ".join)
def test_python_m_takes_what_it_imports_itself_from_its_environment(folder: Path, words: tuple[str, ...]) -> None:
    mark = poisoned(folder, ["__future__", "random", "json", "typing", "inspect", "hashlib", "socket", "subprocess", *OTHERS])
    done = run(MODULE, *words, cwd=folder)
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0


def test_the_code_of_a_model_still_sees_its_own_folder(folder: Path) -> None:
    mark = poisoned(folder, ["random", "typer", "json", "rich"])
    (folder / "parts.py").write_text("import torch\nfrom torch import nn\nWIDTH = 6\n")
    (folder / "model.py").write_text(
        "from parts import WIDTH, nn, torch\n\n\nclass VAE(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.enc, self.dec = nn.Linear(WIDTH, 4), nn.Linear(2, WIDTH)\n\n    def forward(self, x):\n"
        "        mu, logvar = self.enc(x).chunk(2, dim=1)\n        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)\n"
        "        return ((self.dec(z) - x) ** 2).sum(1).mean() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()\n"
    )
    done = run(MODULE, "check", "model.py:VAE", "--input", "5x6", "--device", "none", "--step", "loss = model(x)", cwd=folder)
    assert not mark.exists(), mark.read_text()
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_start_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('broken here')\n")
    done = run(SCRIPT, "merge-sarif", cwd=tmp_path, PYTHONPATH=str(tmp_path))  # others do without typer
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("vaelint: internal error: RuntimeError: broken here\nhelp: ")
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, int] = {}
    with pytest.raises(SystemExit) as end:
        ended(lambda: nothing["no such key"])
    assert end.value.code == 3
    assert "internal error: KeyError" in capsys.readouterr().err


PRESS = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PRESS_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

if "-c" not in sys.orig_argv:  # the worker is another session's: Ctrl-C does not reach it
    sys.meta_path.insert(0, Press())
"""


@pytest.mark.parametrize(
    "moment",
    ["vaelint.cache.early", "vaelint.process.front", "typer", "vaelint.cli.trace", "vaelint.report.full", "vaelint.config.settings"],
)
def test_ctrl_c_while_the_front_imports_is_130_and_silent(tmp_path: Path, moment: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRESS)
    (tmp_path / "model.py").write_text("class VAE: ...\n")
    done = subprocess.run(
        [*SCRIPT, "check", "model.py:VAE", "-j2"],  # which is left to typer
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PRESS_AT": moment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background has it ignored
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
