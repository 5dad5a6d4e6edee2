"""What a check printed is said again without any work, and never once something that it rested on is another."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from keeping import LONG_AGO, VAELINT

from vaelint.cache.folder import own

DATA = Path(__file__).parents[1] / "data"
CONFIGURED = '[tool.vaelint]\n{top}[[tool.vaelint.targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\ndevice = "none"\n'
LACKS = "import os, sys\nfor name in os.environ.get('GIT_LACKS', '').split(): sys.modules[name] = None\n"
"""The variable is one that says nothing about a run."""
NO_WORK = "json vaelint.cli.checking vaelint.cache.store vaelint.process.front"


def variables(project: Path, **env: str) -> dict[str, str]:
    """Those of a run; pytest has one that is another for each test."""
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | {"PYTHONPATH": str(project / "site")} | env


def check(project: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A check of what is configured."""
    return subprocess.run(
        [VAELINT, "check", *words], cwd=project, env=variables(project, **env), capture_output=True, text=True, check=False
    )


def is_said_again(project: Path, *words: str, **env: str) -> bool:
    """Whether the answer came without reading options, results or configuration."""
    done = check(project, *words, GIT_LACKS=NO_WORK, **env)
    assert done.returncode in (0, 1, 3)
    return done.returncode != 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository that was checked, and the folder of its user."""
    home, project = tmp_path_factory.mktemp("user"), tmp_path_factory.mktemp("repo")
    (project / "site").mkdir()
    (project / "site" / "sitecustomize.py").write_text(LACKS)
    shutil.copy(DATA / "vae_three_bugs.py", project / "model.py")
    (project / "pyproject.toml").write_text(CONFIGURED.format(top=""))
    time.sleep(0.05)  # times of files are a clock tick behind
    for _ in range(2):  # the first makes folders of Python's own
        assert check(project, XDG_CACHE_HOME=str(home)).returncode == 1
    return project, home


@pytest.fixture
def project(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made[1]))
    if not is_said_again(made[0]):  # an earlier test changed something, and back
        time.sleep(0.05)
        check(made[0])
    return made[0]


def test_text_and_exit_code_come_again_without_any_work(project: Path) -> None:
    again = check(project, GIT_LACKS=NO_WORK, GIT_INDEX_FILE="another", SHLVL="7")
    truth = check(project, "--no-cache")
    assert (again.returncode, again.stdout, again.stderr) == (1, truth.stdout, "")
    assert is_said_again(project), "and again"


def rewritten(file: Path) -> None:
    """Another text of the same size under the same time."""
    before = file.stat()
    file.write_text(file.read_text().replace("0.5", "0.6"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


def moved(project: Path) -> None:
    """The same text in another file."""
    shutil.copy(project / "model.py", project / "copy")
    (project / "copy").replace(project / "model.py")


def without_results() -> None:
    """What was kept of the targets is no longer there."""
    for entry in Path(own()).glob("v1/*/*.result.json"):
        entry.unlink()


def aged() -> None:
    """What was printed is of long ago."""
    for entry in Path(own()).glob("said-*"):
        os.utime(entry, LONG_AGO)


CHANGES: dict[str, Callable[[Path], object]] = {
    "the model, under its old time": lambda p: rewritten(p / "model.py"),
    "the model, touched": lambda p: os.utime(p / "model.py", LONG_AGO),
    "the model is another file": moved,
    "the configuration": lambda p: (p / "pyproject.toml").write_text(CONFIGURED.format(top="exit-zero = true\n")),
    "a nearer configuration": lambda p: (p / "vaelint.toml").write_text("fail-on = 'never'\n"),
    "a module beside it": lambda p: (p / "torch.py").write_text(""),
    "a mark of a repository": lambda p: (p / ".git").mkdir(),
    "the results are gone": lambda p: without_results(),
    "the key is gone": lambda p: Path(own(), "key").unlink(),
    "others may read the key": lambda p: Path(own(), "key").chmod(0o644),
    "others may write what was kept": lambda p: Path(own()).chmod(0o777),
    "it is old": lambda p: aged(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_any_change_it_is_not_said_again(project: Path, change: str, tmp_path: Path) -> None:
    assert is_said_again(project)
    shutil.copytree(project, tmp_path / "before", symlinks=True)
    shutil.copytree(own(), tmp_path / "kept", symlinks=True)
    try:
        CHANGES[change](project)
        assert not is_said_again(project)
    finally:
        for folder, before in ((project, tmp_path / "before"), (Path(own()), tmp_path / "kept")):
            shutil.rmtree(folder)
            shutil.copytree(before, folder, symlinks=True)


@pytest.mark.parametrize("variable", ["NO_COLOR", "COLUMNS", "VAELINT_ANYTHING", "OMP_NUM_THREADS", "GITHUB_ACTIONS", "LC_ALL", "ANY"])
def test_another_environment_is_another_run(project: Path, variable: str) -> None:
    assert not is_said_again(project, **{variable: "77"})


def test_other_words_are_another_run(project: Path) -> None:
    for words in (["--exit-zero"], ["--no-cache"], ["--output-format", "json"]):
        assert not is_said_again(project, *words)


def test_what_somebody_else_wrote_is_not_said(project: Path) -> None:
    (kept,) = Path(own()).glob("said-*")
    whole = kept.read_bytes()
    for forged in (b"", whole[:32], whole[:-1], whole.replace(b"VAE", b"EAV"), bytes(32) + whole[32:], b"\xff" * 100, whole[32:]):
        kept.write_bytes(forged)
        assert not is_said_again(project)
    kept.write_bytes(whole)
    assert is_said_again(project)
    other = kept.with_name("said-" + "0" * 32)
    other.write_bytes(whole)
    other.replace(kept)
    assert is_said_again(project), "a copy under its own name is as good"


def test_what_writes_is_done_each_time(project: Path) -> None:
    words = ("--output-format", "json:report.json")
    for _ in range(2):
        assert check(project, *words).returncode == 1
        (project / "report.json").unlink()
    assert not is_said_again(project, *words)


def test_a_standard_output_that_takes_nothing_is_told_as_ever(project: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [VAELINT, "check"], cwd=project, env=variables(project), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("vaelint: cannot write standard output")
