"""Layers in a plain list, under `vaelint run`: a finding where no optimizer moves them, none where the script hands them to one."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
import pytest

SCRIPT = """import torch
from torch import nn


class Towers(nn.Module):
    def __init__(self, size=20, latent=4):
        super().__init__()
        self.steps = [nn.Linear(size, 16), nn.Linear(16, 12)]
        self.mu, self.logvar = nn.Linear(12, latent), nn.Linear(12, latent)
        self.back = nn.Sequential(nn.Linear(latent, 16), nn.ReLU(), nn.Linear(16, size))

    def forward(self, x):
        for step in self.steps:
            x = torch.relu(step(x))
        mu, logvar = self.mu(x), self.logvar(x)
        return self.back(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


model = Towers()
optimizer = torch.optim.Adam({held}, 1e-3)
data = torch.rand(320, 20)
for i in range(0, 320, 16):
    x = data[i : i + 16]
    out, mu, logvar = model(x)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    loss = (x - out).square().sum(1).mean() + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ALL = "[*model.parameters(), *(p for step in model.steps for p in step.parameters())]"


@pytest.mark.parametrize(("held", "codes"), [("model.parameters()", ["VAE502"]), (ALL, [])])
def test_layers_in_a_list_are_found_where_nothing_moves_them(tmp_path: Path, held: str, codes: list[str]) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("{held}", held))
    words = ["run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert [(f["code"], f["span"]["line"]) for f in target["findings"] if f["severity"] != "info"] == [(c, 8) for c in codes], done.stdout
    assert all(f["certainty"] == "confirmed" for f in target["findings"] if f["code"] == "VAE502")
