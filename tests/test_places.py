"""The places where a repository is checked: pre-commit, GitHub, shards, watching, shells. Each as it really runs, as far as it can here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
BIN = Path(sys.executable).parent
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH} | env, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a model whose layers lie in a sibling package, another model, and both configured."""
    repo = tmp_path / "repo"
    for folder in ("src/models", "src/layers", "docs"):
        (repo / folder).mkdir(parents=True)
    source = (DATA / "mlp_vae.py").read_text()
    (repo / "src/models/first.py").write_text(source.replace("import torch\n", "import torch\nfrom layers.noise import draw\n", 1))
    shutil.copy(DATA / "mlp_vae.py", repo / "src/models/second.py")
    (repo / "src/layers/noise.py").write_text("import torch\n\n\ndef draw(mu):\n    return torch.randn_like(mu)\n")
    (repo / "docs/conf.py").write_text("project = 'x'\n")
    (repo / "pyproject.toml").write_text(
        '[tool.vaelint]\ndevice = "none"\n'
        '[[tool.vaelint.targets]]\ntarget = "src/models/first.py:VAE"\ninput = "32x784"\n'
        '[[tool.vaelint.targets]]\ntarget = "src/models/second.py:VAE"\ninput = "32x784"\n'
    )
    for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "A"]):
        run(repo, "git", *words)
    return repo


def test_the_hook_under_the_real_pre_commit(repository: Path) -> None:
    """The hook is taken from this project's own `.pre-commit-hooks.yaml`; a change to a helper checks the model that imports it."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    local = {k: v for k, v in hook.items() if k != "minimum_pre_commit_version"} | {"verbose": True}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [local]}]}))
    noise = repository / "src/layers/noise.py"
    assert "draw" in (repository / "src/models/first.py").read_text()
    first = repository / "src/models/first.py"
    first.write_text(first.read_text().replace("torch.randn_like(std)", "draw(std)"))
    run(repository, "git", "add", ".")
    env = {"PRE_COMMIT_HOME": str(repository.parent / "home")}
    run(repository, "pre-commit", "install", **env)
    commit = run(repository, "git", "commit", "-qm", "all", **env)
    assert commit.returncode == 0, commit.stdout + commit.stderr
    noise.write_text(noise.read_text().replace("torch.randn_like(mu)", "torch.randn(mu.shape[1])"))
    run(repository, "git", "add", ".")
    commit = run(repository, "git", "commit", "-qm", "helper", **env)
    said = commit.stdout + commit.stderr
    assert commit.returncode == 1
    assert "VAE201" in said
    assert "second.py" not in said, "only what the change touches is checked"
    run(repository, "git", "checkout", "-q", "HEAD", "src/layers/noise.py")
    (repository / "docs/conf.py").write_text("project = 'y'\n")
    (repository / "README.md").write_text("words\n")
    run(repository, "git", "add", ".")
    commit = run(repository, "git", "commit", "-qm", "no model", **env)
    assert commit.returncode == 0, "what holds and touches no model is skipped: " + commit.stdout + commit.stderr


@pytest.mark.parametrize(
    ("changed", "checked"),
    [
        ("src/layers/noise.py", {"first"}),
        ("src/models/second.py", {"second"}),
        ("src/models/extra.py", {"first", "second"}),
        ("pyproject_tools.py", {"first", "second"}),
        ("docs/conf.py", set()),
    ],
)
def test_a_changed_file_stands_for_the_targets_it_may_change(repository: Path, changed: str, checked: set[str]) -> None:
    (repository / changed).touch()
    done = run(repository, "vaelint", "check", changed, "--output-format", "json")
    assert {Path(t["target"].partition(":")[0]).stem for t in json.loads(done.stdout)["targets"]} == checked


def test_each_snippet_of_the_guide_is_what_the_command_takes() -> None:
    """YAML that parses, options that exist, inputs that the action has."""
    guide = (ROOT / "docs" / "ci.md").read_text()
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    blocks = [part.partition("\n") for part in guide.split("```")[1::2]]
    steps = [yaml.safe_load(text) for kind, _, text in blocks if kind == "yaml"]
    assert len(steps) == 3
    used = steps[1]["jobs"]["vaelint"]["steps"][-1]
    assert set(used["with"]) <= set(action["inputs"])
    help = run(ROOT, "vaelint", "check", "--help", COLUMNS="200").stdout
    for command in [line.strip("- ") for *_, text in blocks for line in text.splitlines() if "vaelint check" in line]:
        for word in command.split("vaelint check")[1].split():
            if word.startswith("--"):
                assert word in help


def test_watching_checks_again_when_something_changes(tmp_path: Path) -> None:
    """A helper is changed, then the configuration; each brings a new round, and Ctrl-C ends it."""
    source = (DATA / "mlp_vae.py").read_text().replace("import torch\n", "import torch\nfrom noise import draw\n", 1)
    (tmp_path / "model.py").write_text(source.replace("torch.randn_like(std)", "draw(std)"))
    (tmp_path / "noise.py").write_text("import torch\n\n\ndef draw(mu):\n    return torch.randn_like(mu)\n")
    out = tmp_path / "out"
    words = ["vaelint", "check", "model.py:VAE", "--input", "32x784", "--device", "none", "--output-format", "concise", "--watch"]
    with out.open("w") as stream:
        watching = subprocess.Popen(words, cwd=tmp_path, env=os.environ | {"PATH": PATH}, stdout=stream, stderr=subprocess.STDOUT)
    try:
        _wait_for(out, 1, watching)
        assert "VAE201" not in out.read_text()
        (tmp_path / "noise.py").write_text("import torch\n\n\ndef draw(mu):\n    return torch.randn(mu.shape[1])\n")
        _wait_for(out, 2, watching)
        assert "VAE201" in out.read_text()
        (tmp_path / "pyproject.toml").write_text("[tool.vaelint]\nselekt = 1\n")
        _wait_for(out, 3, watching)
        assert "unknown key 'selekt'" in out.read_text()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    finally:
        watching.kill()
        watching.wait()
    assert "Traceback" not in out.read_text()


def _wait_for(out: Path, rounds: int, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 60
    while out.read_text().count("Ctrl-C ends it") < rounds:
        assert process.poll() is None, out.read_text()
        assert time.monotonic() < limit, out.read_text()
        time.sleep(0.05)


def test_shells_complete_commands_and_options() -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        env = {"_VAELINT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return run(ROOT, "vaelint", **env).stdout.split()

    assert "check" in complete("vaelint che")
    assert {"--jobs", "--no-cache"} <= set(complete("vaelint check --"))
