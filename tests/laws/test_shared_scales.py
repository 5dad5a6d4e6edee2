"""A scale that is learned once for several reconstructions: of the steps of a sequence, of two draws, of two inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.pipeline.check import check_target

MODEL = """
import torch
from torch import nn
from torch.nn.functional import softplus


class M(nn.Module):
    def __init__(self, d=5, z=3, h=8):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(z))
        self.enc, self.head, self.back = nn.GRU(d, h, batch_first=True), nn.Linear(h + z, 2 * z), nn.Linear(z, d)
        self.flat, self.prior = nn.Linear(d, 2 * z), nn.Linear(z, z)
        self.width, self.raw = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(z))

    def cost(self, x, z):
        return (0.5 * ((x - self.back(z)) / self.width.exp()).square() + self.width).sum(-1)

    def kl(self, mu, logvar, mean, spread):
        return (torch.log(spread) - 0.5 * logvar + (logvar.exp() + (mu - mean).square()) / (2 * spread.square()) - 0.5).sum(-1)

    def loss(self, {given}):
{body}
"""
STEPS = """
        states, z, total = self.enc(x)[0], self.first.expand(len(x), -1), 0.0
        for t in range(x.size(1)):
            mean, spread = self.prior(z), (softplus(self.raw) + 1e-3).expand(len(x), -1)
            mu, logvar = self.head(torch.cat([states[:, t], z], -1)).chunk(2, -1)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            total = total + (self.cost(x[:, t], z) + {beta} * self.kl(mu, logvar, mean, spread)){mask}
        return total.mean()"""
PAIR = """
        mu, logvar = self.flat(x).chunk(2, -1)
        by = torch.exp(0.5 * logvar) * torch.randn_like(mu)
        cost = 0.5 * (self.cost(x, mu + by) + self.cost(x, mu - by))
        return (cost + {beta} * self.kl(mu, logvar, torch.zeros_like(mu), torch.ones_like(mu))).mean()"""
UNLIKE = """
        mu, logvar = self.flat(x).chunk(2, -1)
        by = torch.exp(0.5 * logvar) * torch.randn_like(mu)
        cost = 0.25 * self.cost(x, mu + by) + 0.75 * self.cost(x, mu - by)
        return (cost + {beta} * self.kl(mu, logvar, torch.zeros_like(mu), torch.ones_like(mu))).mean()"""


@pytest.mark.parametrize(
    ("beta", "given", "body", "inputs"),
    [
        (3, "x", STEPS, ("x=6x4x5",)),
        (1, "x", PAIR, ("x=6x5",)),
        (1, "x", UNLIKE, ("x=6x5",)),
        (2, "x", UNLIKE, ("x=6x5",)),
    ],
    ids=["steps", "two draws", "two draws of unlike weight", "of unlike weight, beta 2"],
)
def test_beta_of_one_scale_for_all(tmp_path: Path, beta: int, given: str, body: str, inputs: tuple[str, ...]) -> None:
    filled = body.lstrip("\n").format(beta=beta, mask="")
    (tmp_path / "model.py").write_text(MODEL.format(given=given, body=filled))
    step = f"loss = model.loss({given})"
    result = check_target(Request(f"{tmp_path}/model.py:M", inputs, step=step, device="none"), lambda _: None)
    assert result.loss["beta"]["value"] == pytest.approx(beta), result.loss
    assert {t["role"] for t in result.loss["terms"]} == {"reconstruction", "kl"}, result.loss


def test_within_lengths_it_is_not_known_and_not_wrong(tmp_path: Path) -> None:
    filled = STEPS.lstrip("\n").format(beta=1, mask=" * (t < n).float()")
    (tmp_path / "model.py").write_text(MODEL.format(given="x, n", body=filled))
    inputs = ("x=6x4x5", "n=6:int64[1,4]")
    result = check_target(Request(f"{tmp_path}/model.py:M", inputs, step="loss = model.loss(x, n)", device="none"), lambda _: None)
    assert result.loss["beta"] is None or result.loss["beta"]["value"] == pytest.approx(1), result.loss
