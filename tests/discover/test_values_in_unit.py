"""Values that vaelint makes up are no fault of the loss that takes only [0, 1]."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean, self.logvar, self.back = nn.Linear(20, 4), nn.Linear(20, 4), nn.Linear(4, 20)

    def forward(self, x):
        mu, logvar = self.mean(x), self.logvar(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.tanh(self.back(z)), mu, logvar

def loss_function(recon, x, mu, logvar):
    x, recon = (x + 1) / 2, (recon + 1) / 2
    if x.min() < 0:
        print("out of range")
    return F.binary_cross_entropy(recon, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
"""


@pytest.mark.parametrize(("given", "codes"), [("8x20", []), ("8x20:float32[-3,3]", ["VAE309"])])
def test_a_loss_that_looks_at_values(given: str, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    result = check_target(Request("model.py:VAE", (given,), laws="none"), lambda _: None)
    assert [f.code for f in result.findings if f.severity.value != "info"] == codes


def test_what_fails_besides_is_told_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = MODEL.replace(
        "    return F.binary", "    rec = F.binary_cross_entropy(recon, x)\n    rec = rec + (recon @ x).sum()\n    return rec + F.binary"
    )
    (tmp_path / "model.py").write_text(lines)
    monkeypatch.chdir(tmp_path)
    result = check_target(Request("model.py:VAE", ("8x20",), laws="none"), lambda _: None)
    wrong = 1 + lines[: lines.index("rec + (recon @ x)")].count("\n")
    assert [f.span.line for f in result.findings if f.severity.value != "info"] == [wrong]
