"""Iterations that take different ways through the model: what belongs to the batch is known all the same."""

from __future__ import annotations

from pathlib import Path

import commandline

TWO_VIEWS = """import torch
from torch import nn


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(12, 6) for _ in range(2))
        self.decoders = nn.ModuleList(nn.Linear(3, 12) for _ in range(2))

    def forward(self, views):
        rows = next(v for v in views if v is not None).shape[0]
        loc, precision = [torch.zeros(1, rows, 3)], [torch.ones(1, rows, 3)]
        for view, encoder in zip(views, self.encoders):
            if view is not None:
                mu, logvar = encoder(view).chunk(2, -1)
                loc, precision = [*loc, mu[None]], [*precision, (-logvar).exp()[None]]
        loc, precision = torch.cat(loc), torch.cat(precision)
        variance = 1 / precision.sum(0)
        mean = variance * (loc * precision).sum(0)
        z = mean + torch.randn_like(mean) * variance.sqrt()
        recons = [d(z) for d in self.decoders]
        error = sum(((r - v) ** 2).sum(1).mean() for r, v in zip(recons, views) if v is not None)
        kl = (-0.5 * torch.sum(1 + variance.log() - mean**2 - variance, dim=1)).mean(0)
        return 0.5 * error + kl


model = Views()
optimizer = torch.optim.Adam(model.parameters())
data = torch.utils.data.TensorDataset(torch.randn(200, 12), torch.randn(200, 12))
for turn, (left, right) in enumerate(torch.utils.data.DataLoader(data, batch_size=20)):
    optimizer.zero_grad()
    loss = model([left, None if turn % 2 else right])
    loss.backward()
    optimizer.step()
"""


def test_a_view_left_out_of_one_iteration_leaves_the_batch_known(tmp_path: Path) -> None:
    for reduced in ("mean", "sum"):
        (tmp_path / "train.py").write_text(TWO_VIEWS.replace("dim=1)).mean(0)", f"dim=1)).{reduced}(0)"))
        said = " ".join(commandline.vaelint("run", "train.py", "--device", "cpu", cwd=tmp_path).stdout.split())
        assert ("VAE401" in said) is (reduced == "sum"), said
        assert {"mean": "mean over B, sum over L + 1/B", "sum": "sum over B, L + 1 "}[reduced] in said
