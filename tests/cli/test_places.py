"""The places where a repository is checked: pre-commit, GitHub, shards, watching, shells. Each as it really runs, as far as it can here."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import commandline
import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
BIN = Path(sys.executable).parent
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": PATH} | env, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def vaelint(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint(*words, cwd=folder)
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
    with (repository / "pyproject.toml").open("a") as file:
        file.write("# a remark\n")
    run(repository, "git", "add", ".")
    commit = run(repository, "git", "commit", "-qm", "configuration", **env)
    assert commit.returncode == 0
    assert "2 targets: 2 clean" in commit.stdout + commit.stderr, "a changed configuration checks all that it names"


@pytest.mark.parametrize(
    ("changed", "checked"),
    [
        ("src/layers/noise.py", {"first"}),
        ("src/models/second.py", {"second"}),
        ("src/models/extra.py", {"first", "second"}),
        ("pyproject_tools.py", {"first", "second"}),
        ("docs/conf.py", set()),
        ("pyproject.toml", {"first", "second"}),
        ("other.toml", set()),
    ],
)
def test_a_changed_file_stands_for_the_targets_it_may_change(repository: Path, changed: str, checked: set[str]) -> None:
    (repository / changed).touch()
    done = vaelint(repository, "check", changed, "--output-format", "json")
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
        watching = subprocess.Popen(
            words,
            cwd=tmp_path,
            env=os.environ | {"PATH": PATH},
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background has it ignored
        )
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
        assert watching.wait(60) == 130
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


def test_whoever_watches_sees_a_bar_and_the_report_is_untouched(tmp_path: Path) -> None:
    """Standard error is a terminal, standard output a pipe."""
    for i in range(3):
        shutil.copy(DATA / "mlp_vae.py", tmp_path / f"m{i}.py")
    words = ["vaelint", "check", *(f"m{i}.py:VAE" for i in range(3)), "--input", "32x784", "--device", "none", "--output-format", "json"]
    main, terminal = pty.openpty()
    with subprocess.Popen(words, cwd=tmp_path, env=os.environ | {"PATH": PATH, "TERM": "xterm"}, stdout=-1, stderr=terminal) as checking:
        os.close(terminal)
        assert checking.stdout is not None
        report = checking.stdout.read()
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(main, 1 << 16):
                seen += part
    os.close(main)
    assert [t["status"] for t in json.loads(report)["targets"]] == ["clean"] * 3
    assert b"3/3" in seen
    assert b"Traceback" not in seen


def write_models(folder: Path, count: int, targets: bool = True) -> None:
    """Small models in files of their own, older than any run; every third one draws one noise vector for the whole batch."""
    for i in range(count):
        source = "vae_three_bugs.py" if i % 3 == 2 else "mlp_vae.py"
        shutil.copyfile(DATA / source, folder / f"m{i}.py")
        os.utime(folder / f"m{i}.py", (1e9, 1e9))
    table = "".join(f'[[tool.vaelint.targets]]\ntarget = "m{i}.py:VAE"\ninput = "32x784"\n' for i in range(count))
    (folder / "pyproject.toml").write_text('[tool.vaelint]\ndevice = "none"\n' + table)


def test_shards_are_the_whole_and_their_sarif_is_one(tmp_path: Path) -> None:
    write_models(tmp_path, 5)
    whole = vaelint(tmp_path, "check", "--output-format", "sarif:whole.sarif", "--output-format", "json:whole.json")
    assert whole.returncode == 1
    names = [t["target"] for t in json.loads((tmp_path / "whole.json").read_text())["targets"]]
    seen: list[str] = []
    for part in (1, 2):
        formats = ("--output-format", f"sarif:{part}.sarif", "--output-format", "json")
        done = vaelint(tmp_path, "check", "--shard", f"{part}/2", *formats)
        seen += [t["target"] for t in json.loads(done.stdout)["targets"]]
    assert sorted(seen) == sorted(names)
    vaelint(tmp_path, "merge-sarif", "1.sarif", "2.sarif", "--output-file", "both.sarif")
    both, one = (json.loads((tmp_path / f).read_text()) for f in ("both.sarif", "whole.sarif"))
    jsonschema.validate(both, json.loads((DATA / "schemas" / "sarif-2.1.0.schema.json").read_text()))
    assert _said(both) == _said(one)
    again = vaelint(tmp_path, "merge-sarif", "both.sarif", "1.sarif")
    assert _said(json.loads(again.stdout)) == _said(one), "what several found is there once"
    for wrong in ("0/2", "3/2", "x", "1"):
        assert vaelint(tmp_path, "check", "--shard", wrong).returncode == 2
    assert vaelint(tmp_path, "check", "--shard", "9/9").returncode == 0
    (tmp_path / "bad.sarif").write_text("{}")
    bad = vaelint(tmp_path, "merge-sarif", "1.sarif", "bad.sarif")
    assert (bad.returncode, "bad.sarif is not a SARIF report written by vaelint" in bad.stderr) == (2, True)


def _said(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    (one,) = report["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in one["results"])
    return sorted((r["ruleId"], json.dumps(r["locations"]), r["message"]["text"]) for r in one["results"])


def test_the_action_annotates_summarises_and_ends_as_the_check_does(tmp_path: Path) -> None:
    """The shell script of action.yml, with the variables that GitHub sets."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    (check,) = [s for s in action["runs"]["steps"] if s.get("id") == "check"]
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), "what comes from outside is never part of a script"
    write_models(tmp_path, 3)
    values = {"inputs.python": sys.executable, "inputs.targets": "", "inputs.args": "--fail-on error", "inputs.summary": "true"}
    values |= {"inputs.sarif-file": "out.sarif"}
    env = {k: values[v.removeprefix("${{ ").removesuffix(" }}")] for k, v in check["env"].items()}
    env |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    env |= {"GITHUB_WORKSPACE": str(tmp_path)}
    done = run(tmp_path, "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", check["run"], **env)
    assert done.returncode == 1, done.stderr
    assert "::error file=m2.py,line=19," in done.stdout
    assert "VAE201" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "out.sarif").read_text())["runs"][0]["results"]
    assert (tmp_path / "output").read_text().splitlines() == ["exit-code=1", f"sarif-file={tmp_path}/out.sarif"]
    env |= {
        "VAELINT_TARGETS": "m0.py:VAE(input_dim=784, latent_dim=5)\n  m1.py:VAE\n",
        "VAELINT_SARIF": "two.sarif",
        "VAELINT_ARGS": "--input 32x784",
    }
    done = run(tmp_path, "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", check["run"], **env)
    assert done.returncode == 0, done.stderr
    env |= {"VAELINT_TARGETS": "m0.py:VAE;echo${IFS}owned", "VAELINT_SARIF": "other.sarif"}
    done = run(tmp_path, "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", check["run"], **env)
    assert done.returncode == 2
    assert "owned\n" not in done.stdout
