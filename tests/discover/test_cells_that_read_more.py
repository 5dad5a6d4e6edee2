"""The first layer of a recurrent cell may read more than the input: a step of data beside a draw."""

from __future__ import annotations

import json
from pathlib import Path

import commandline

MODEL = """
import torch
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, x_dim, h_dim, z_dim):
        super().__init__()
        self.h_dim = h_dim
        self.cell = nn.LSTMCell(x_dim + z_dim, h_dim)
        self.enc, self.prior = nn.Linear(h_dim + x_dim, 2 * z_dim), nn.Linear(h_dim, 2 * z_dim)
        self.dec = nn.Linear(h_dim + z_dim, x_dim)

    def forward(self, x):
        h = c = torch.zeros(x.size(0), self.h_dim, device=x.device)
        total = 0
        for t in range(x.size(1)):
            mu, logvar = self.enc(torch.cat([h, x[:, t]], 1)).chunk(2, 1)
            mu_p, logvar_p = self.prior(h).chunk(2, 1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            recon = self.dec(torch.cat([h, z], 1))
            kl = 0.5 * (logvar_p - logvar + (logvar.exp() + (mu - mu_p) ** 2) / logvar_p.exp() - 1).sum(1)
            total = total + 0.5 * ((recon - x[:, t]) ** 2).sum(1) + kl
            h, c = self.cell(torch.cat([x[:, t], z], 1), (h, c))
        return total.mean()
"""


def test_a_step_of_the_data_is_as_wide_as_an_argument_says(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "use.py").write_text("from model import Recurrent\n\nmodel = Recurrent(3, 16, 5)\n")
    done = commandline.vaelint("check", ".", "--output-format", "json", "--laws", "none", "--device", "none", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert target["status"] == "clean" and abs(target["loss"]["beta"]["value"] - 1) < 1e-6, done.stdout
