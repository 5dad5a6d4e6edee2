"""In a real kernel: one output for a report, places as its tracebacks say them, the magics. The kernel takes seconds: one for all."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

MODEL = """
from torch import nn, randn
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(6, 8)
        self.dec = nn.Linear(4, 6)
    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        std = (0.5 * logvar).exp()
        return self.dec(mu + randn(4) * std), mu, logvar
def loss_fn(recon, x, mu, logvar):
    return (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
"""
TRAINING = """%%vaelint
model = VAE()
opt = torch.optim.SGD(model.parameters(), 1e-3)
for (x,) in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(40, 6)), 8):
    loss = loss_fn(model(x)[0], x, *model(x)[1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
FIXED = """%%vaelint
class Sound(VAE):
    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar
model, x = Sound(), torch.rand(4, 6)
opt = torch.optim.SGD(model.parameters(), 1e-3)
for _ in range(9):
    loss = loss_fn(model(x)[0], x, *model(x)[1:]) / 4
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
CELLS = (
    "import torch, vaelint",
    "%load_ext vaelint",
    f"%%vaelint --input 5x6{MODEL}",
    "vaelint.check(VAE(), input=torch.rand(5, 6), loss=loss_fn)",
    TRAINING,
    "%vaelint VAE() --input 5x6 --loss loss_fn --ignore VAE2,VAE6",
    "%%vaelint\nclass Empty(torch.nn.Module): pass",
    "%vaelint --nonsense",
    FIXED,
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What each cell has put out, by its text."""
    folder = tmp_path_factory.mktemp("kernel")
    spec = folder / "kernels" / "tried" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=CRITICAL"]
    spec.write_text(json.dumps({"argv": command, "display_name": "tried", "language": "python"}))
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None} for text in CELLS
    ]
    book = nbformat.from_dict({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells})  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own libraries
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder))
        NotebookClient(book, timeout=120, kernel_name="tried", allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    yield {cell.source: cell.outputs for cell in book.cells}


def page_of(outputs: list[Any]) -> str:
    """The HTML of a cell's one output."""
    assert [o.output_type for o in outputs] == ["execute_result"], outputs
    return str(outputs[0].data["text/html"])


def test_a_cell_is_checked_and_its_lines_are_those_that_people_see(outputs: dict[str, Any]) -> None:
    page = page_of(outputs[CELLS[2]])
    line = CELLS[2].split("\n").index("        return self.dec(mu + randn(4) * std), mu, logvar") + 1
    assert f"Cell In[3], line {line}, column 30" in page
    css = page[: page.index("</style>")]
    for block in re.findall(r"@media \(prefers-color-scheme:dark\)\{[^{]*\{(--[^}]*)\}\}", css):
        assert css.count(block) == 2, "a dark theme has the colours of a dark system"
    assert "VAE201" in page and "<svg" in page and "Effective beta" in page and "<script" not in page


def test_a_report_is_one_output_with_picture_loss_and_findings(outputs: dict[str, Any]) -> None:
    first, again = page_of(outputs[CELLS[2]]), page_of(outputs[CELLS[3]])
    assert "(4), wanted (B, L)" in again[again.index("<svg") :]
    assert "Cell In[3], line" in again, "the class was typed there"
    ids = [set(re.findall(r'id="(v[^"]+)"', p)) for p in (first, again)]
    assert ids[0] and ids[1] and not ids[0] & ids[1], "a page may hold both"


def test_a_training_is_watched(outputs: dict[str, Any]) -> None:
    page = page_of(outputs[CELLS[4]])
    assert "VAE201" in page and "Cell In[5]" in page and "ipykernel" not in page


def test_an_expression_is_checked_and_rules_are_chosen(outputs: dict[str, Any]) -> None:
    page = page_of(outputs[CELLS[5]])
    assert "shared-noise" not in page and "no findings" in page


def test_what_cannot_be_checked_says_what_to_type(outputs: dict[str, Any]) -> None:
    (nothing,), (wrong,) = outputs[CELLS[6]], outputs[CELLS[7]]
    assert nothing.text == "vaelint: the cell trains nothing\nhelp: to check Empty, say the shape of a batch: %%vaelint --input 32x784\n"
    assert wrong.text.startswith("vaelint: there is no option --nonsense\nhelp: %%vaelint")


def test_one_batch_for_all_steps_accuses_nobody(outputs: dict[str, Any]) -> None:
    page = page_of(outputs[FIXED])
    assert "no findings" in page and "Effective beta" in page
