"""A loss that a threshold holds at 0 says nothing of what moves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

MODEL = """
import torch
from torch import nn


class Bits(nn.Module):
    # their information is free below a threshold, which untrained logits do not reach
    def __init__(self, bits=16, free=0.7):
        super().__init__()
        self.scale, self.free = nn.Parameter(torch.ones(bits)), free

    def forward(self, logits):
        logits = 0.1 * self.scale * logits
        p = torch.sigmoid(logits)
        hard = torch.bernoulli(p)
        codes = hard + p - p.detach()
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, p, reduction="none")
        kl = (torch.log(torch.tensor(2.0)) - entropy).sum(1)
        return codes, torch.relu(kl - self.free).mean()
"""


def test_a_threshold_that_is_not_reached_is_no_unread_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    result = check_target(Request("model.py:Bits", ("logits=8x16",), step="codes, loss = model(logits)"), lambda _: None)
    assert "VAE324" not in [f.code for f in result.findings]
