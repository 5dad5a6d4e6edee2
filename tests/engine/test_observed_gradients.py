# mypy: disable-error-code="no-untyped-call"
"""Watched training in which gradients or draws go ways of their own, all of them right: nothing is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import vaelint


class CopiedDraw(nn.Module):
    """The draw is made on the CPU and copied to where the standard deviation is."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mu, logvar = self.enc(x).chunk(2, dim=1)
        std = torch.exp(0.5 * logvar)
        return torch.sigmoid(self.dec(mu + std * std.new_tensor(torch.randn(std.size())))), mu, logvar


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_a_draw_that_is_copied_to_where_another_tensor_is_is_not_left_behind() -> None:
    torch.manual_seed(0)
    with vaelint.observe() as seen:
        model = CopiedDraw()
        optimizer = torch.optim.Adam(model.parameters())
        for x in DataLoader(torch.rand(80, 12), batch_size=16):  # type: ignore[arg-type]
            recon, mu, logvar = model(x)
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            optimizer.zero_grad()
            (F.binary_cross_entropy(recon, x, reduction="sum") + kl).backward()
            optimizer.step()
    assert seen.report.clean, str(seen.report)


def test_a_gradient_that_is_handed_over_by_hand_is_minimised_as_a_product() -> None:
    torch.manual_seed(0)
    with vaelint.observe() as seen:
        encode, decode, codes = nn.Linear(12, 4), nn.Linear(4, 12), nn.Parameter(torch.randn(16, 4))
        optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters(), codes])
        for x in DataLoader(torch.rand(80, 12), batch_size=16):  # type: ignore[arg-type]
            z = encode(x)
            picked = codes[torch.cdist(z.detach(), codes.detach()).argmin(1)]
            handed = picked.detach().requires_grad_()
            recon = F.mse_loss(decode(handed), x)
            held = F.mse_loss(picked, z.detach()) + 0.25 * F.mse_loss(z, picked.detach())
            optimizer.zero_grad()
            held.backward(retain_graph=True)
            recon.backward()
            z.backward(handed.grad)
            optimizer.step()
    codes_found = {f.code for f in seen.report.findings}
    assert not codes_found & {"VAE420", "VAE505", "VAE007"}, str(seen.report)
    assert {t["role"] for t in seen.report.loss["terms"]} >= {"reconstruction", "vq"}
