"""Models as packages of the index ship them: what is found in them was read by eye beside their code, and what is said of them too.

One TOML file a package. Of a `[[model]]`, `target`, `init`, `input` and `step` are what a user would write in the configuration; the rest
is the judgement:

    name       where a target is there twice, what tells them apart
    true       warnings and errors that are right, each with the reason
    false      false alarms that are not mended yet: the test fails once they are gone
    terms      what the terms of its loss are: role and kernel. They are said; others may not be, "not measured" and the like may
    beta       its effective beta; without it, none may be given
    objective  what is said of the whole, clause by clause
    wrong      clauses and terms that are wrong and not mended yet: the test fails once they are gone

`make test-packages` installs the packages; without them the tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.packages

_HERE = Path(__file__).parent
_PACKAGES = {file.stem: tomllib.loads(file.read_text()) for file in sorted(_HERE.glob("*.toml"))}
_MODELS = [(package, at) for package, table in _PACKAGES.items() for at in range(len(table["model"]))]
_ASKED = ("target", "init", "input", "step")
_UNKNOWN_KERNELS = {
    "other",
    "not measured",
    "another divergence",
    "detached: no gradient",
    "cross-entropy",
    "negative log-probability",
    "log-sum-exp that mixes its parts",
    "a share made of parameters alone",
}
_UNKNOWN_CLAUSES = (
    "weights not all known",
    "an objective whose weights are not all known",
    "with a term that vaelint does not know",
    "an autoencoder, with draws that were not identified as a posterior",
    "a log-sum-exp that mixes reconstruction and divergence",
    "with a log-sum-exp that mixes its parts",
    "a reconstruction and a KL whose weight is not a fixed number",
)


def _name(model: dict[str, Any]) -> str:
    short = str(model["target"]).rpartition(":")[2]
    return f"{short} {model['name']}" if "name" in model else short


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k} = {_toml(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


@cache
def _results(package: str, folder: Path) -> list[dict[str, Any]]:
    """One run of the command line for all models of a package, as a repository's configuration asks for them."""
    lines = ["[tool.vaelint]", "jobs = 1", 'device = "cpu"', "timeout = 300"]
    for model in _PACKAGES[package]["model"]:
        lines += ["[[tool.vaelint.targets]]", *(f"{k} = {_toml(model[k])}" for k in _ASKED if k in model)]
    folder.mkdir()
    (folder / "pyproject.toml").write_text("\n".join(lines))
    for file in (_HERE / "builders").glob("*.py"):
        shutil.copy(file, folder)
    command = [sys.executable, "-m", "vaelint", "check", "--no-cache", "--output-format", "json:out.json"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode in (0, 1, 2), run.stderr
    return list(json.loads((folder / "out.json").read_text())["targets"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the configurations lie, one folder a package."""
    return tmp_path_factory.mktemp("packages")


@pytest.mark.parametrize(("package", "at"), _MODELS, ids=[f"{p}-{_name(_PACKAGES[p]['model'][i])}" for p, i in _MODELS])
def test_model(package: str, at: int, folder: Path) -> None:
    """True findings, none false, statements right or unknown."""
    if importlib.util.find_spec(_PACKAGES[package].get("module", package)) is None:
        pytest.skip(f"{package} is not installed; run make test-packages")
    model, result = _PACKAGES[package]["model"][at], _results(package, folder / package)[at]
    assert result["status"] in ("clean", "findings"), (result["incomplete"], [(f["code"], f["label"]) for f in result["findings"]])
    heard = {f["code"]: f["label"] for f in result["findings"] if f["severity"] != "info" and f["certainty"] != "refuted"}
    assert heard.keys() == {*model.get("true", ()), *model.get("false", ())}, heard
    assert not [t["note"] for t in result["loss"]["terms"] if "Error" in t["note"]]
    assert _wrongly_said(model, result["loss"]) == set(model.get("wrong", ()))
    assert not _no_longer_said(model, result["loss"])
    beta = (result["loss"].get("beta") or {}).get("value")
    if "wrong_beta" in model:
        assert beta == pytest.approx(model["wrong_beta"], rel=1e-3)
    else:
        assert beta == (pytest.approx(model["beta"], rel=1e-3) if "beta" in model else None)


def _wrongly_said(model: dict[str, Any], loss: dict[str, Any]) -> set[str]:
    """Terms and clauses that are neither right nor unknown."""
    terms = {f"{t['role']}: {t['kernel']}" for t in loss["terms"] if t["kernel"] not in _UNKNOWN_KERNELS}
    clauses = {c for c in loss["objective"].split("; ") if not any(u in c for u in _UNKNOWN_CLAUSES)}
    return (terms - set(model.get("terms", ()))) | (clauses - set(model.get("objective", ())))


def _no_longer_said(model: dict[str, Any], loss: dict[str, Any]) -> set[str]:
    """Terms and clauses that were said once, and were right."""
    said = {f"{t['role']}: {t['kernel']}" for t in loss["terms"]} | set(loss["objective"].split("; "))
    return {*model.get("terms", ()), *model.get("objective", ())} - said
