"""A learned prior that only generation draws with (VAE432), in a model whose code lies in two files."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from vaelint.core.result import Request

MODEL = """
import torch
import torch.nn as nn
from bound import elbo


class CVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.dec = nn.Linear(25, 8), nn.Linear(9, 20)
        self.prior_mean = nn.Linear(5, 4)

    def forward(self, x, c):
        mu, lv = self.q(torch.cat([x, c], -1)).chunk(2, -1)
        z = mu + torch.exp(lv / 2) * torch.randn_like(mu)
        return self.dec(torch.cat([z, c], -1)), mu, lv, self.prior_mean(c)

    def generate(self, c):
        z = self.prior_mean(c) + torch.randn(c.size(0), 4, device=c.device)
        return self.dec(torch.cat([z, c], -1))
"""
BOUND = """
{gap}
def elbo(x, y, mu, lv):
    kl = 0.5 * (mu**2 + lv.exp() - lv - 1).sum(-1)
    return (0.5 * (y - x).pow(2).sum(-1) + kl).mean()
"""
STEP = "y, mu, lv, prior = model(x, c); loss = elbo(x, y, mu, lv)"


@pytest.mark.parametrize("gap", [0, 13, 17, 40])
def test_lines_of_another_file_say_nothing(gap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "bound.py").write_text(BOUND.format(gap="\n" * gap))
    request = Request("model.py:CVAE", ("x=16x20:float32", "c=16x5:float32"), step=STEP, device="none")
    result = importlib.import_module("vaelint.pipeline.check").check_target(request, lambda message: None)
    assert [f.code for f in result.findings if f.code == "VAE432"] == ["VAE432"]
