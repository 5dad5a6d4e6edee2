"""A GPU that is named in a file of settings is the choice of whoever keeps that file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

MODEL = """{imports}
import torch
from torch import nn


class TernVae(nn.Module):
    def __init__(self, size=20, latent=4):
        super().__init__()
        self.enc, self.dec = nn.Linear(size, 2 * latent), nn.Linear(latent, size)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn(mu.shape, device={device})
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
        return ((self.dec(z) - x).pow(2).sum(1) + kl).mean()
"""


@pytest.mark.parametrize(
    ("imports", "device", "codes"),
    [
        ("import tern_settings", "tern_settings.WHERE", []),
        ("from tern_settings import WHERE", "WHERE", []),
        ("WHERE = 'cuda'", "WHERE", ["VAE602"]),
        ("import tern_settings", "'cuda'", ["VAE602"]),
    ],
)
def test_a_setting_of_another_file_is_no_device_of_the_model(tmp_path: Path, imports: str, device: str, codes: list[str]) -> None:
    (tmp_path / "tern_settings.py").write_text("WHERE = 'cuda'\n")
    (tmp_path / "model.py").write_text(MODEL.format(imports=imports, device=device))
    request = Request(f"{tmp_path}/model.py:TernVae", ("x=16x20",), step="loss = model(x)", device="cpu")
    result = check_target(request, lambda _: None)
    assert [f.code for f in result.findings if f.severity.value in ("error", "warning")] == codes
