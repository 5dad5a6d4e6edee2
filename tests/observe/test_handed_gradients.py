"""Trainings that take gradients with `torch.autograd.grad` and hand them to their optimizers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MODEL = """
import torch
import torch.nn.functional as F
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

model = VAE()
own = list(model.parameters())
optimizer = torch.optim.Adam(own)
batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(640, 12)), batch_size=16)
"""
LOOP = """
for (x,) in batches:
    y, mu, logvar = model(x)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    loss = F.mse_loss(y, x, reduction="sum") / len(x) + REDUCED
    for parameter, gradient in zip(own, torch.autograd.grad(loss, own)):
        parameter.grad = gradient
    optimizer.step()
"""
TWO = """
judge = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))
others = list(judge.parameters())
second = torch.optim.Adam(others)
for (x,) in batches:
    y, mu, logvar = model(x)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    first_loss = F.mse_loss(y, x, reduction="sum") / len(x) + kl.sum(1).mean() - 0.1 * judge(y).mean()
    second_loss = judge(y.detach()).mean() - judge(x).mean()
    for loss, parameters in ((first_loss, own), (second_loss, others)):
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
    optimizer.step()
    second.step()
"""
WEIGHED = """
for (x,) in batches:
    y, mu, logvar = model(x)
    rec, kl = F.mse_loss(y, x, reduction="sum") / len(x), -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    size = torch.autograd.grad(rec, model.dec.weight, retain_graph=True)[0].norm()
    print(float(size))
    optimizer.zero_grad()
    (rec + kl).backward()
    optimizer.step()
"""


def observed(folder: Path, script: str) -> list[dict[str, Any]]:
    (folder / "train.py").write_text(script)
    command = [sys.executable, "-m", "vaelint", "run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    targets: list[dict[str, Any]] = json.loads(done.stdout)["targets"]
    return targets


def faults(target: dict[str, Any]) -> dict[str, str]:
    return {f["code"]: f["certainty"] for f in target["findings"] if f["severity"] != "info"}


def test_what_is_differentiated_and_handed_over_is_what_is_minimised(tmp_path: Path) -> None:
    script = MODEL + LOOP.replace("REDUCED", "kl.mean()")
    (target,) = observed(tmp_path, script)
    line = next(n for n, text in enumerate(script.splitlines(), 1) if "autograd.grad" in text)
    assert faults(target) == {"VAE403": "confirmed"}
    assert any(note.endswith(f"the loss is what train.py:{line} differentiates") for note in target["notes"])
    assert target["confirm"]["optimizer"]["name"] == "Adam"


def test_each_of_two_networks_has_its_loss(tmp_path: Path) -> None:
    (target, *_) = observed(tmp_path, MODEL + TWO)
    assert faults(target) == {} and target["loss"]["beta"]["value"] == 1


def test_a_gradient_that_is_only_looked_at_is_no_loss(tmp_path: Path) -> None:
    (target,) = observed(tmp_path, MODEL + WEIGHED)
    assert faults(target) == {} and target["loss"]["beta"]["value"] == 1
    assert any("calls backward() on" in note for note in target["notes"])
