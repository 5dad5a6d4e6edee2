"""Notebooks as targets and as training code; places are those of the notebook's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.source.notebook import as_module

SHARED = HEAD.replace("torch.randn_like(mu)", "torch.randn(4)")


def notebook(*cells: str, indent: int | None = 1) -> str:
    """A notebook of code cells, with an output that looks like code."""
    output = {"output_type": "stream", "name": "stdout", "text": ["import torch\n"]}
    code = [{"cell_type": "code", "metadata": {}, "outputs": [output], "source": c.splitlines(keepends=True)} for c in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Title"]}, *code], "nbformat": 4}, indent=indent)


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, **files: str) -> TargetResult:
    monkeypatch.chdir(folder)
    (folder / ".git").mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return check_target(Request(target, ("5x6",), device="none"), lambda message: None)


def test_a_notebook_is_a_target_and_its_lines_are_those_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = notebook("%matplotlib inline\n!pip install torch\n" + SHARED + FORWARD, "from __future__ import annotations\n" + PLAIN_LOSS)
    result = check(tmp_path, monkeypatch, "vae.ipynb:VAE", vae__ipynb=text)
    (found,) = [f for f in result.findings if f.severity.value == "error"]
    assert (found.code, found.span.file) == ("VAE201", "vae.ipynb")
    assert "torch.randn(4)" in text.split("\n")[found.span.line - 1]


def test_training_code_in_a_notebook_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = "from model import VAE\nmodel = VAE()\nfor x in loader:\n    loss = vae_loss(*model(x), x)\n    loss.backward()\n"
    loss = PLAIN_LOSS.replace("loss_function(recon, x, mu, logvar)", "vae_loss(recon, mu, logvar, x)")
    files = {"model__py": HEAD + FORWARD, "run__ipynb": notebook("import torch\nimport torch.nn.functional as F\n" + loss, train)}
    result = check(tmp_path, monkeypatch, "model.py:VAE", **files)
    assert sorted(t["role"] for t in result.loss["terms"]) == ["kl", "reconstruction"]
    assert any("the step is that of the training code at run.ipynb:" in note for note in result.notes)


def test_a_notebook_without_line_breaks_is_read_cell_after_cell() -> None:
    assert as_module(notebook("a = 1\nb = 2", "%%bash\nls", "c = 3?", indent=None)) == "a = 1\nb = 2\n\n\nc = 3"


def test_what_is_no_notebook_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, "vae.ipynb:VAE", vae__ipynb="no json")
    assert (result.status, [f.code for f in result.findings]) == ("failed", ["VAE001"])


def test_a_cell_that_is_not_python_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = notebook(SHARED + FORWARD, " ate(x):\n    return x\n", PLAIN_LOSS)
    result = check(tmp_path, monkeypatch, "vae.ipynb:VAE", vae__ipynb=text)
    line = 1 + next(i for i, stated in enumerate(text.split("\n")) if " ate(x)" in stated)
    assert f"vae.ipynb:{line}: this cell is not Python (unexpected indent) and was left out" in result.notes
    assert "VAE201" in [f.code for f in result.findings] and result.loss


def test_a_target_in_a_cell_that_is_not_python_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = notebook("a = 1\n", SHARED + FORWARD + "    def unfinished(\n")
    result = check(tmp_path, monkeypatch, "vae.ipynb:VAE", vae__ipynb=text)
    (finding,) = result.findings
    assert finding.code == "VAE001" and "was never closed" in finding.message
    assert "def unfinished(" in text.split("\n")[finding.span.line - 1]
