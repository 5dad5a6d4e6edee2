"""Where the operands of a call that raises come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

CODE = """import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(30, 8), nn.Linear(4, 30)

    def divergence(self, mu, logvar):
        return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=0)

    def loss(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        rec = (self.dec(z) - x).pow(2).sum(dim=1)
        kl = self.divergence(mu, logvar)
        return (rec + 0.1 * kl).mean()
"""


def test_a_sum_over_the_wrong_axis_is_a_label_of_the_sum_that_it_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    result = check_target(Request("model.py:VAE", inputs=("7x30",), device="none"), lambda message: None)
    (finding,) = result.findings
    assert (finding.code, finding.span.line) == ("VAE101", 18)
    assert [(label.span.line, label.text) for label in finding.labels if "reduced" in label.text] == [(11, "reduced to (4) here")]
