"""A batch that is written into the code is met by the input that is made up, and reported."""

from __future__ import annotations

import json
from pathlib import Path

import commandline

from vaelint.discover.learning import asked_for

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.batch_size = 64
        self.fc1 = nn.Linear(784, 32)
        self.mean, self.logvar = nn.Linear(32, 8), nn.Linear(32, 8)
        self.fc2 = nn.Linear(8, 784)

    def forward(self, x):
        h = torch.relu(self.fc1(x))
        mu, logvar = self.mean(h), self.logvar(h)
        eps = torch.randn(self.batch_size, 8)
        return torch.sigmoid(self.fc2(mu + torch.exp(0.5 * logvar) * eps)), mu, logvar

def loss_function(recon, x, mu, logvar):
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
"""


def test_a_batch_in_the_code_is_no_noise_for_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    done = commandline.vaelint("check", ".", "--output-format", "json", "--laws", "none", cwd=tmp_path)
    found = [f["code"] for t in json.loads(done.stdout)["targets"] for f in t["findings"] if f["severity"] != "info"]
    assert found == ["VAE102"]


def test_every_input_gets_the_batch_that_torch_asks_for() -> None:
    real = "The size of tensor a (4) must match the size of tensor b (64) at non-singleton dimension 0"
    fake = (
        "Attempting to broadcast a dimension of length 64 at -2! Mismatching argument at index 1 had torch.Size([64, 100]); "
        "but expected shape should be broadcastable to [4, 100]"
    )
    for said in (real, fake):
        assert list(asked_for(("4x784", "4x10"), said, None)) == [("64x784", "64x10")]
    assert list(asked_for(("4x784",), real.replace("dimension 0", "dimension 1"), None)) == []
