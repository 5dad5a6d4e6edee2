"""A model whose number of classes is 0 unless it is conditional: the label that its forward asks for is made up all the same."""

from __future__ import annotations

import json
from pathlib import Path

import commandline

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self, latent_size=8, num_labels=0):
        super().__init__()
        self.labels = num_labels
        self.fc1 = nn.Linear(784 + num_labels, 32)
        self.mean, self.logvar = nn.Linear(32, latent_size), nn.Linear(32, latent_size)
        self.fc2 = nn.Linear(latent_size + num_labels, 784)

    def forward(self, x, c):
        x = x.view(-1, 784)
        h = torch.relu(self.fc1(torch.cat((x, F.one_hot(c, self.labels)), -1) if self.labels else x))
        mu, logvar = self.mean(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.fc2(torch.cat((z, F.one_hot(c, self.labels)), -1) if self.labels else z)), mu, logvar

def loss_function(recon, x, mu, logvar):
    bce = F.binary_cross_entropy(recon, x.view(-1, 784), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
"""


def test_no_classes_are_no_range_of_labels(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    done = commandline.vaelint("check", ".", "--output-format", "json", "--laws", "none", "--device", "none", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert done.returncode == 0, [f["message"] for f in target["findings"]]
    assert "is empty" not in done.stderr
