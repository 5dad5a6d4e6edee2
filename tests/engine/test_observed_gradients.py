# mypy: disable-error-code="no-untyped-call"
"""Watched training in which gradients or draws go ways of their own, all of them right: nothing is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import vaelint
from vaelint.core.result import Request
from vaelint.observe.session import Session
from vaelint.pipeline.watched_run import observe, results_or_failure
from vaelint.trace.spans import SpanFinder


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


@pytest.mark.parametrize("whole", [False, True])
def test_a_gradient_that_is_handed_over_by_hand_is_minimised_as_a_product(whole: bool) -> None:
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
            if whole:
                (held + recon).backward(retain_graph=True)
            else:
                held.backward(retain_graph=True)
                recon.backward()
            z.backward(handed.grad)
            optimizer.step()
    codes_found = {f.code for f in seen.report.findings}
    assert not codes_found & {"VAE420", "VAE505", "VAE007"}, str(seen.report)
    assert {t["role"] for t in seen.report.loss["terms"]} >= {"reconstruction", "vq"}


def test_a_step_that_raises_is_no_goal_and_an_older_draw_runs_again() -> None:
    """The critic's backward() fails."""
    torch.manual_seed(0)

    def fails(gradient: torch.Tensor) -> None:
        raise ArithmeticError

    def train() -> None:
        encode, decode, critic = nn.Linear(12, 8), nn.Linear(4, 12), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        first, second = torch.optim.Adam([*encode.parameters(), *decode.parameters()]), torch.optim.Adam(critic.parameters())
        for x in DataLoader(torch.rand(80, 12), batch_size=16):  # type: ignore[arg-type]
            mu, logvar = encode(x).chunk(2, dim=1)
            std = (0.5 * logvar).exp()
            z = mu + std * std.data.new(std.size()).normal_()
            score = critic(z)
            loss = 0.5 * (decode(z) - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() + score.sum()
            first.zero_grad()
            loss.backward()
            first.step()
            again = critic(z.detach() * score.detach())
            again.register_hook(fails)
            again.sum().backward()
            second.step()

    request = Request("train.py", run=("train.py",))
    session = Session(SpanFinder(str(Path(__file__).parent)))
    (result,) = results_or_failure(session, observe(session, train), request, 1.0)
    assert result.status != "failed" and not [f for f in result.findings if f.code == "VAE501"], result.findings
    assert not [n for n in result.notes if "cannot be run again" in n]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_layer_that_only_turns_without_labels_train_is_learned(labelled: bool) -> None:
    """Semi-supervised: the classifier is trained by turns of its own. Where no turn trains it, it is found."""
    torch.manual_seed(0)
    with vaelint.observe() as seen:
        encode, decode, guess = nn.Linear(15, 8), nn.Linear(7, 12), nn.Linear(12, 3)
        optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters(), *guess.parameters()])
        for turn, x in enumerate(DataLoader(torch.rand(80, 12), batch_size=16)):  # type: ignore[arg-type]
            guessed = torch.softmax(guess(x), dim=1)
            y = (x[:, :3] > 0.5).float() if turn % 2 == 1 or not labelled else guessed
            mu, logvar = encode(torch.cat([x, y], 1)).chunk(2, dim=1)
            recon = decode(torch.cat([mu + (logvar / 2).exp() * torch.randn_like(mu), y], 1))
            kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
            optimizer.zero_grad()
            (F.mse_loss(recon, x, reduction="sum") + kl).backward()
            optimizer.step()
    assert [f.code for f in seen.report.findings] == ([] if labelled else ["VAE501"])


class Trained(CopiedDraw):
    """A model that makes its optimizer and trains itself."""

    def fit(self, data: torch.Tensor) -> None:
        optimizer = torch.optim.Adam(self.parameters())
        for x in DataLoader(data, batch_size=16):  # type: ignore[arg-type]
            recon, mu, logvar = self(x)
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            optimizer.zero_grad()
            (F.binary_cross_entropy(recon, x, reduction="sum") + kl).backward()
            optimizer.step()


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_a_model_that_trains_itself_is_checked_to_its_end() -> None:
    torch.manual_seed(0)
    with vaelint.observe() as seen:
        Trained().fit(torch.rand(80, 12))
    assert seen.report.clean, str(seen.report)
