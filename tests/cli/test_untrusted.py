"""A repository that nobody trusts: which commands run none of its code, and what `--isolated` takes from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import commandline
import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")
TRAP = "import pathlib\npathlib.Path(__file__).with_name('ran').open('a').write(__name__ + '\\n')\n"
NAMES = ("typer", "click", "rich", "torch", "random", "json", "tomllib", "conftest", "setup", "usercustomize", "vaelint_rules")
READING = (
    ("discover", "--static"), ("discover", "--static", "--output-format", "json"), ("rules",), ("rules", "--output-format", "json"),
    ("explain", "VAE201"), ("config",), ("config", "--output-format", "json"), ("config", "--schema"), ("cache", "dir"), ("--version",),
    ("check", "--help"),
)  # fmt: skip


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder in which every module leaves a trace when it runs."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(TRAP)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(TRAP)
    (tmp_path / "model.py").write_text(TRAP + (DATA / "mlp_vae.py").read_text())
    (tmp_path / "vaelint.toml").write_text('[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n')
    return tmp_path


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_only_reads_runs_nothing_of_a_repository(trapped: Path, words: tuple[str, ...]) -> None:
    before = sorted(p.name for p in trapped.iterdir())
    done = subprocess.run([VAELINT, *words], cwd=trapped, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert sorted(p.name for p in trapped.iterdir()) == before


def test_static_discovery_names_the_model_that_it_did_not_run(trapped: Path) -> None:
    done = subprocess.run([VAELINT, "discover", "--static"], cwd=trapped, capture_output=True, text=True, timeout=120)
    assert "model.py:VAE: not tried" in done.stdout


@pytest.fixture
def lying(tmp_path: Path) -> Path:
    """A repository that has everything said about its bugs: configuration, baseline, comments, beta."""
    text = (DATA / "vae_three_bugs.py").read_text()
    noise = "eps = torch.randn(self.latent_dim, device=mu.device)"
    assert noise in text
    text = text.replace(noise, f"{noise}  # vaelint: ignore[VAE201] fine")
    (tmp_path / "model.py").write_text(f"# vaelint: ignore-file[VAE301] fine\n{text}")
    (tmp_path / "known.json").write_text('{"version": 1, "findings": []}')
    (tmp_path / "vaelint.toml").write_text(
        'baseline = "known.json"\nselect = ["VAE2", "VAE3", "VAE4"]\nfail-on = "error"\nper-file-ignores = { "model.py" = ["VAE301"] }\n'
        'severity = { VAE404 = "info", VAE402 = "info", VAE408 = "info" }\n\n'
        '[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\nbeta = 1\ndevice = "none"\n'
    )
    commandline.vaelint("check", "--update-baseline", cwd=tmp_path)
    return tmp_path


def test_isolated_takes_the_code_and_nothing_else(lying: Path) -> None:
    words = ("check", "model.py:VAE", "--input", "32x784", "--device", "none", "--output-format", "json")
    silent = commandline.vaelint(*words, cwd=lying)
    assert silent.returncode == 0, silent.stdout
    done = commandline.vaelint(*words, "--isolated", cwd=lying)
    assert done.returncode == 1
    (target,) = json.loads(done.stdout)["targets"]
    assert {"VAE201", "VAE301"} <= {f["code"] for f in target["findings"]}
    assert not [n for n in target["notes"] if "suppressed" in n or "baseline" in n]


def test_isolated_neither_uses_nor_keeps_results(lying: Path) -> None:
    kept = lying / "kept"
    words = ("check", "model.py:VAE", "--input", "32x784", "--device", "none", "--isolated", "--output-format", "concise")
    commandline.vaelint(*words, cwd=lying, env={"VAELINT_CACHE_DIR": str(kept)})
    assert not kept.exists()


def test_isolated_knows_no_configured_target(lying: Path) -> None:
    done = commandline.vaelint("check", "--isolated", cwd=lying)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no target is named" in done.stderr


def test_the_threat_model_names_every_command() -> None:
    told = (ROOT / "docs" / "threat-model.md").read_text()
    helped = subprocess.run([VAELINT, "--help"], capture_output=True, text=True, timeout=60).stdout
    listed = helped.partition("Commands:")[2].partition("Example:")[0]
    commands = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line.strip() and line[2] != " "]
    assert len(commands) > 5
    assert [c for c in commands if f"`{c}" not in told] == []
