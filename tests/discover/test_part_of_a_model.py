"""The loss of a whole model is not that of one of its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.result import Request
from vaelint.discover.structure import find
from vaelint.pipeline.check import check_target

MODEL = """
import torch
from torch import nn

class Draw(nn.Module):
    def __init__(self, width=20, code=20):
        super().__init__()
        self.mu, self.log_var = nn.Linear(width, code), nn.Linear(width, code)

    def forward(self, x):
        mu, log_var = self.mu(x), self.log_var(x)
        return mu + torch.randn_like(mu) * torch.exp(0.5 * log_var), mu, log_var

class Whole(nn.Module):
    def __init__(self, width=20, code=20, draw=Draw):
        super().__init__()
        self.draw, self.back = draw(width, code), nn.Linear(code, width)

    def forward(self, x):
        z, mu, log_var = self.draw(x)
        return torch.exp(self.back(z)), mu, log_var
"""
TRAIN = """
import torch
from model import Whole

def elbo(x, r, mu, logvar):
    return torch.sum(x / r + torch.log(r)) - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

cuda = torch.cuda.is_available()

def main(loader):
    model = Whole()
    if cuda: model = model.to("cuda")
    optimizer = torch.optim.Adam(model.parameters())
    for x in loader:
        r, mu, logvar = model(x)
        loss = elbo(x, r, mu, logvar)
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("target", "has_loss"), [("Draw", False), ("Whole", True)])
def test_a_part_is_not_trained_as_the_whole_is(target: str, has_loss: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    result = check_target(Request(f"model.py:{target}", ("8x20",), laws="none"), lambda _: None)
    assert bool(result.loss) == has_loss, result.notes
    assert [f.code for f in result.findings if f.severity.value != "info"] == []


ALONE = """
import torch
from model import Draw

def main(loader):
    model = Draw()
    optimizer = torch.optim.Adam(model.parameters())
    for x in loader:
        z, mu, log_var = model(x)
        torch.sum((z - x) ** 2 + mu.pow(2)).backward()
        optimizer.step()
"""


def test_a_part_that_is_trained_by_itself_is_listed(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL.replace("draw=Draw", "").replace("draw(width", "Draw(width"))
    (tmp_path / "train.py").write_text(TRAIN)
    assert [c.name for c in find(tmp_path).candidates] == ["Whole"]
    (tmp_path / "alone.py").write_text(ALONE)
    assert [c.name for c in find(tmp_path).candidates] == ["Draw", "Whole"]
