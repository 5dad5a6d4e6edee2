"""What is written for platforms that are not here, against the schemas and tools that they publish."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import xmlschema
import yaml

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
BIN = Path(sys.executable).parent
GUIDE = (ROOT / "docs" / "ci.md").read_text()
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HOOK, WORKFLOW, GITLAB = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)


def run(*command: str | Path, text: str = "", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("vendor.github-actions", (ROOT / "action.yml").read_text()),
        ("vendor.github-workflows", f"on: [push]\n{WORKFLOW}"),
        ("vendor.gitlab-ci", GITLAB),
        *(("vendor.github-workflows", file.read_text()) for file in OWN),
    ],
    ids=["action", "workflow", "gitlab", *(file.stem for file in OWN)],
)
def test_the_platforms_schema_takes_it(tmp_path: Path, kind: str, text: str) -> None:
    (tmp_path / "file.yml").write_text(text)
    done = run(BIN / "check-jsonschema", "--builtin-schema", kind, tmp_path / "file.yml")
    assert done.returncode == 0, done.stdout


def test_pre_commit_takes_the_hook_and_the_snippet(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(HOOK)
    for words in (("validate-config", tmp_path / "config.yaml"), ("validate-manifest", ROOT / ".pre-commit-hooks.yaml")):
        done = run(BIN / "pre-commit", *words)
        assert done.returncode == 0, done.stdout


def test_the_scripts_of_the_action_are_sound() -> None:
    scripts = [s["run"] for s in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"] if "run" in s]
    assert len(scripts) == 3
    for script in scripts:
        done = run(BIN / "shellcheck", "--shell=bash", "-", text=script)
        assert done.returncode == 0, done.stdout


def test_the_job_for_gitlab_leaves_what_its_artifacts_name(tmp_path: Path) -> None:
    """Its line that checks, run by a shell; the files, against GitLab's schema and JUnit's."""
    job = yaml.safe_load(GITLAB)["vaelint"]
    (line,) = [s for s in job["script"] if s.startswith("vaelint check")]
    shutil.copy(DATA / "vae_three_bugs.py", tmp_path / "model.py")
    (tmp_path / "vaelint.toml").write_text('device = "none"\n[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n')
    done = run("sh", "-c", f"PATH={BIN}:$PATH; {line}", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error[VAE201]" in done.stdout
    reports = job["artifacts"]["reports"]
    issues = json.loads((tmp_path / reports["codequality"]).read_text())
    jsonschema.validate(issues, {"type": "array", "items": json.loads((DATA / "schemas" / "codeclimate.json").read_text("utf-8-sig"))})
    assert {i["check_name"] for i in issues} >= {"VAE201", "VAE301"}
    xmlschema.XMLSchema(str(DATA / "schemas" / "junit-10.xsd")).validate((tmp_path / reports["junit"]).read_text())
