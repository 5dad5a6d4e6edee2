"""Rows of the loss table have the names under which the training logs just these values."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
import pytest

SCRIPT = """import torch
from torch import nn
import wandb

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 8), nn.Linear(4, 20)

    def forward(self, x):
        mu, logvar = self.a(x).chunk(2, 1)
        return self.b(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

vae = VAE()
optimizer = torch.optim.Adam(vae.parameters())
for x in torch.utils.data.DataLoader(torch.randn(64, 20), batch_size=16):
    recon, mu, logvar = vae(x)
    rec = ((recon - x) ** 2).sum(1)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
    loss = (rec + 0.5 * kl).mean()
    weighed = 0.5 * kl.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    wandb.log({"loss": loss.item(), "lr": 0.001, %s})
"""


@pytest.mark.parametrize(
    ("logged", "names"),
    [
        ('"train/rec": rec.mean().item(), "kld": kl.mean()', {"reconstruction": "train/rec", "kl": "kld"}),
        ('"weighed": weighed, "first": rec[0]', {"reconstruction": None, "kl": "weighed"}),
        ('"kld": kl.mean().item() * 2, "wide": kl.max()', {"reconstruction": None, "kl": None}),
    ],
)
def test_what_is_logged_names_the_term_that_it_is(tmp_path: Path, logged: str, names: dict[str, str | None]) -> None:
    (tmp_path / "train.py").write_text(SCRIPT % logged)
    (tmp_path / "wandb.py").write_text("def log(values, step=None):\n    print(values)\n")
    words = ["run", "--output-format", "json", "--output-format", "full:said.txt", "train.py"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert {t["role"]: t.get("logged") for t in target["loss"]["terms"]} == names, done.stderr
    said = (tmp_path / "said.txt").read_text()
    assert all(f"{role} ({name})" in said for role, name in names.items() if name)
