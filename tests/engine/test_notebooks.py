"""Notebooks as targets and as training code; places are those of the notebook's file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.report.formats import FORMATS
from vaelint.report.parts.places import place_words
from vaelint.report.parts.view import View
from vaelint.source.notebook import as_module, cell_of

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


def test_people_are_told_the_cell_and_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Jupyter counts: the first cell is the title's."""
    head = "%matplotlib inline\n!pip install torch\n"
    text = notebook(head + SHARED + FORWARD, "oops:\n  )", PLAIN_LOSS)
    result = check(tmp_path, monkeypatch, "vae.ipynb:VAE", vae__ipynb=text)
    line = (head + SHARED).split("\n").index("        return mu + torch.randn(4) * torch.exp(0.5 * logvar)") + 1
    full = FORMATS["full"].load()([result], View())
    assert f"--> vae.ipynb: cell 2, line {line}, column 21" in full
    assert f" {line} |         return mu + torch.randn(4)" in full
    assert "vae.ipynb: cell 3, line 2: this cell is not Python" in " ".join(full.split())
    assert ".ipynb:" + str(result.findings[0].span.line) not in full
    for form in ("concise", "grouped", "html"):
        assert f"cell 2, line {line}" in FORMATS[form].load()([result], View())
    sarif = json.loads(FORMATS["sarif"].load()([result], View()))["runs"][0]["results"]
    assert result.findings[0].span.line in [r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in sarif], "of the file"


def test_cells_are_known_of_notebooks_without_line_breaks(tmp_path: Path) -> None:
    file = tmp_path / "flat.ipynb"
    file.write_text(notebook("a = 1\nb = 2", "c = 3", indent=None))
    assert [cell_of(str(file), n) for n in (1, 2, 3, 4)] == [(2, 1), (2, 2), (3, 1), None]
    assert cell_of("model.py", 1) is None
    assert cell_of(str(tmp_path / "gone.ipynb"), 1) is None


def test_in_a_kernel_a_place_is_what_its_own_tracebacks_say(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "/tmp/ipykernel_77/123456.py"
    named = {name: ("Cell", "In[3]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=named.get))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert place_words(name, 2) == "Cell In[3], line 2"
    assert place_words("model.py", 2, 5) == "model.py:2:5"
