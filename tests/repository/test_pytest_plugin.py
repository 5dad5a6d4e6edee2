"""vaelint inside somebody's pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
# A checkout that was installed before it had the entry point names the plugin itself.
NAMED = [] if any(p.name == "vaelint" for p in entry_points(group="pytest11")) else ["-p", "vaelint.pytest_plugin"]

LEFT_OUT = [word for name in ("cacheprovider", "asyncio", "pytest-lsp") for word in ("-p", f"no:{name}")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(DATA / "mlp_vae.py", tmp_path / "model.py")
    shutil.copy(DATA / "vae_three_bugs.py", tmp_path / "buggy.py")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.vaelint]\ndevice = "none"\n[tool.pytest.ini_options]\naddopts = "--strict-markers"\n'
        '[[tool.vaelint.targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n'
        '[[tool.vaelint.targets]]\ntarget = "buggy.py:VAE"\ninput = "32x784"\n'
    )
    return tmp_path


def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", *NAMED, *LEFT_OUT, *args]
    return subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": f"{project}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )


def test_the_fixture_passes_a_sound_model_and_shows_the_report_of_another(project: Path) -> None:
    (project / "test_mine.py").write_text(
        "import buggy, model\n\n"
        'def test_sound(vaelint):\n    assert vaelint.assert_clean(model.VAE(latent_dim=7), input="32x784").symbols["L"] == 7\n\n'
        'def test_wrong(vaelint):\n    vaelint.assert_clean(buggy.VAE, input="32x784")\n\n'
        'def test_misspelt(vaelint):\n    vaelint.assert_clean(model.VAE, input="32y784:")\n\n'
        'def test_chosen(vaelint):\n    vaelint.assert_clean(buggy.VAE, input="32x784", ignore=["VAE2", "VAE3", "VAE4"])\n'
    )
    done = run(project, "-q")
    assert done.returncode == 1
    assert "2 failed, 2 passed" in done.stdout
    assert "error[VAE201] shared-noise" in done.stdout
    assert "vaelint: input='32y784:' is not understood\nhelp: write " in done.stdout
    assert "test_wrong - Failed: VAE" in done.stdout and " at buggy.py:19" in done.stdout.partition("short test summary")[2]
    assert "Traceback" not in done.stdout + done.stderr and "inputs.py" not in done.stdout


def test_configured_targets_are_tests(project: Path) -> None:
    (project / "test_mine.py").write_text("def test_nothing(): pass\n")
    assert "1 passed" in run(project, "-q").stdout, "not unless asked for"
    done = run(project, "--vaelint", "-q", "-rA")
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert "PASSED vaelint::model.py:VAE" in done.stdout
    assert "FAILED vaelint::buggy.py:VAE" in done.stdout
    assert "error[VAE201] shared-noise" in done.stdout
    chosen = run(project, "--vaelint", "-q", "-k", "model.py")
    assert (chosen.returncode, "1 passed, 2 deselected" in chosen.stdout) == (0, True)
    assert "vaelint::buggy.py:VAE" in run(project, "--vaelint", "--collect-only", "-q").stdout
    assert "2 passed" not in run(project, "--vaelint", "-q", "-m", "not vaelint").stdout


def test_a_rule_package_that_is_broken_is_one_message(project: Path) -> None:
    (project / "broken_rules").mkdir()
    (project / "broken_rules" / "__init__.py").write_text("import nothing_of_this_name\n")
    info = project / "broken_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vaelint.rules]\nbroken = broken_rules\n")
    done = run(project, "--vaelint", "-q", "-k", "model.py")
    assert done.returncode == 1
    assert "vaelint: rule package 'broken_rules' cannot be loaded: ModuleNotFoundError" in done.stdout
    assert "front.py" not in done.stdout


def test_a_wrong_configuration_is_wrong_usage(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.vaelint]\nselekt = 1\n")
    done = run(project, "--vaelint")
    assert done.returncode == 4
    assert "unknown key 'selekt'" in done.stderr
    assert "Traceback" not in done.stderr
    (project / "pyproject.toml").write_text("")
    assert "no target is configured" in run(project, "--vaelint").stderr


def test_pytest_starts_without_torch(project: Path) -> None:
    (project / "test_mine.py").write_text("import sys\n\ndef test_lean():\n    assert not {'torch', 'typer', 'rich'} & set(sys.modules)\n")
    done = run(project, "-q")
    assert done.returncode == 0, done.stdout
