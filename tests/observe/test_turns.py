"""Which step ends an iteration, told from the order in which optimizers step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from observedscripts import observed

from vaelint.core.finding import Span
from vaelint.observe.iterations.turns import Turns


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ("ABABAB", "...b.b"),
        ("ABCABCABC", ".....c..c"),
        ("AABAABAAB", ".....b..b"),
        ("PPPABABAB", "......b.b"),
        ("1A2A3A4A5A6A7A8A9A0A", "...............a.a.a"),
        ("ABAAAAAAAAAA", "........aaaa"),
        ("AAAAAAAA", ".....aaa"),
    ],
)
def test_an_iteration_ends_with_the_last_step_before_the_first_comes_again(steps: str, ends: str) -> None:
    turns, held = Turns(), {name: [torch.zeros(())] for name in set(steps)}
    found = [s.lower() if turns.ends(held[s], Span("train.py", ord(s)), alone=False) else "." for s in steps]
    assert "".join(found) == ends


def test_the_only_optimizer_ends_each_iteration_wherever_it_steps() -> None:
    turns, held = Turns(), [torch.zeros(())]
    assert all(turns.ends(held, Span("train.py", line), alone=True) for line in (1, 1, 2, 1))


AGAIN = """
from itertools import cycle
import torch
from torch import nn

def draw(mu, std):
    noise = torch.randn(mu.size())
    PLACED
    return mu.addcmul(std, noise)

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(18, 6), nn.Linear(3, 18)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        y = self.dec(draw(mu, torch.exp(0.5 * logvar)))
        return (0.5 * (y - x).pow(2).sum(1) + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()

cuda = torch.cuda.is_available()
model = VAE().cuda() if cuda else VAE()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
few = torch.utils.data.DataLoader(torch.randn(12, 18), batch_size=12)
many = torch.utils.data.DataLoader(torch.randn(120, 18), batch_size=12)
for x, u in zip(cycle(few), many):
    if cuda:
        x, u = x.cuda(), u.cuda()
    loss = model(x) + model(u)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_a_batch_that_is_given_again_is_not_left_behind(tmp_path: Path) -> None:
    assert observed(tmp_path, AGAIN.replace("PLACED", "noise = noise.cuda() if mu.is_cuda else noise")) == set()
    assert observed(tmp_path, AGAIN.replace("PLACED", "noise = noise * 1.0")) == {("VAE601", "train.py", 7)}
