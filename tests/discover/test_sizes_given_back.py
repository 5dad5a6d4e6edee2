"""A made-up image gets the sizes that the decoder gives back; where none fits, vaelint says that it made the sizes up."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
import pytest

MODEL = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        down = [nn.Conv2d(a, b, 5, 2, 2) for a, b in ((3, 8), (8, 8), (8, 8), (8, 8))]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mean, self.logvar = nn.Linear(8 * 5 * 5, latent), nn.Linear(8 * 5 * 5, latent)
        self.into = nn.Linear(latent, 8 * 5 * 5)
        up = [nn.ConvTranspose2d(8, c, 5, 2, 2, output_padding=p) for c, p in ((8, 0), (8, 0), (8, 1), (3, 1))]
        self.decoder = nn.Sequential(nn.Unflatten(1, (8, 5, 5)), *up)

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mean(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(self.into(z))EDGE, mu, logvar

    def loss_function(self, recon, x, mu, logvar):
        error = 0.5 * (recon - x).pow(2).flatten(1).sum(1)
        return (error - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean()
"""


@pytest.mark.parametrize(("edge", "found"), [("", []), ("[..., : x.shape[-1] - 1]", ["VAE003"])])
def test_made_up_sizes_are_no_fault_of_the_model(tmp_path: Path, edge: str, found: list[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL.replace("EDGE", edge))
    done = commandline.vaelint("check", ".", "--output-format", "json", "--laws", "none", "--device", "none", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert [f["code"] for f in target["findings"] if f["severity"] != "info"] == found
    assert found or target["loss"]["beta"]["value"] == pytest.approx(1.0)
