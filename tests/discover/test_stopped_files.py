"""Files that stop for want of data: a list that would have been filled is not an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

MODEL = """
import numpy as np
import torch
from torch import nn

rows = open("data.csv").read()
columns = []
for name in rows.split():
    columns.append({"kind": "number", "place": len(columns)})

class VAE(nn.Module):
    def __init__(self, width=20, code=4):
        super().__init__()
        self.mu, self.log_var, self.back = nn.Linear(width, code), nn.Linear(width, code), nn.Linear(code, width)

    def forward(self, x):
        mu, log_var = self.mu(x), self.log_var(x)
        return self.back(mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)), mu, log_var

def loss_function(recon, x, mu, log_var):
    loss = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
    for column in columns:
        loss = loss + ((recon[:, column["place"]] - x[:, column["place"]]) ** 2).sum()
    return loss
"""
LABELLED = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

class CVAE(nn.Module):
    def __init__(self, width=20, code=4, classes=10):
        super().__init__()
        self.mu, self.log_var = nn.Linear(width + classes, code), nn.Linear(width + classes, code)
        self.back = nn.Linear(code + classes, width)

    def one_hot(self, y):
        return torch.FloatTensor(np.eye(10)[y.numpy()])

    def forward(self, x, y):
        h = torch.cat((x, self.one_hot(y)), 1)
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        return self.back(torch.cat((z, self.one_hot(y)), 1)), mu, log_var

def loss_function(recon, x, mu, log_var):
    return F.mse_loss(recon, x, reduction="sum") - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
"""


def codes_of(source: str, target: str, inputs: tuple[str, ...], folder: Path) -> list[str]:
    (folder / "model.py").write_text(source)
    result = check_target(Request(f"model.py:{target}", inputs), lambda _: None)
    return [f.code for f in result.findings if f.severity.value != "info"]


def test_a_list_that_was_not_filled_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "VAE314" not in codes_of(MODEL, "VAE", ("8x20",), tmp_path)


def test_a_label_that_passes_through_numpy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "VAE324" not in codes_of(LABELLED, "CVAE", ("x=8x20", "y=8:int64[0,10)"), tmp_path)
