"""What rules on bounds need beside their fixtures: models that give more than one finding, and models that ask for none."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target

TIED = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, batch):
        super().__init__()
        self.start = torch.zeros(batch, 16)
        self.enc, self.body, self.out = nn.Linear(12, 2 * 5), nn.GRUCell(5, 16), nn.Linear(16, 12)

    def loss(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        recon = self.out(self.body(z, self.start))
        rec = ((recon - x) ** 2).REC()
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).KL()
        return rec + kl
"""


def checked(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, **told: object) -> TargetResult:
    (folder / "model.py").write_text(text)
    monkeypatch.chdir(folder)
    request = Request(target="model.py:VAE", inputs=("x=6x12:float32",), step="loss = model.loss(x)", device="none", **told)  # type: ignore[arg-type]
    return check_target(request, lambda message: None)


@pytest.mark.parametrize(
    ("rec", "kl", "found"), [("sum", "mean", True), ("mean", "sum", True), ("sum", "sum", False), ("mean", "mean", False)]
)
def test_the_batch_is_read_off_the_reductions_where_one_size_alone_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rec: str, kl: str, found: bool
) -> None:
    result = checked(tmp_path, TIED.replace("REC", rec).replace("KL", kl), monkeypatch, init=("batch=6",))
    assert result.rung == "concrete" and "VAE102" in {f.code for f in result.findings}
    assert [f.span.line for f in result.findings if f.code == "VAE401"] == ([17] if found else [])
