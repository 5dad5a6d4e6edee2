"""A script whose top level calls a method or function that takes the gradients itself, or inherits one, is an entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.discover.entries import entries

_MODEL = """
import torch

class VAE(torch.nn.Module):
    def loss(self, x):
        return x.sum()

    def sample(self, n):
        return torch.randn(n)

    def update(self, x):
        self.loss(x).backward()

    def train(self, x):
        self.update(x)

class Trainer:
    def __init__(self, model):
        self.model = model

    def run(self):
        return self.model.loss(1).backward()

class Scored(Trainer):
    def score(self):
        return 1

def fit_all(model):
    return once(model)

def once(model):
    return Trainer(model).model.loss(1).backward()

def plot(model):
    return model.sample(1)
"""


@pytest.mark.parametrize(
    ("code", "starts"),
    [
        ("for x in range(3):\n    model.train(x)", True),
        ("model.update(1)", True),
        ("for x in range(3):\n    model.sample(x)", False),
        ("model.sample(1)", False),
        ("for x in range(3):\n    other.train(x)", False),
        ("for x in range(3):\n    trainer = Scored(model)\n    history = trainer.run()", True),
        ("history = Scored(model).run()", True),
        ("history = Scored(model).score()", False),
        ("history = fit_all(model)", True),
        ("if True:\n    history = fit_all(model)", True),
        ("history = plot(model)", False),
    ],
)
def test_a_method_that_trains_starts_a_training(tmp_path: Path, code: str, starts: bool) -> None:
    (tmp_path / "models.py").write_text(_MODEL)
    (tmp_path / "main.py").write_text(
        f"import torch\nfrom models import VAE, Scored, fit_all, plot\n\nmodel = VAE().to('cpu')\nother = torch.nn.Linear(1, 1)\n{code}\n"
    )
    assert [e.command for e in entries(tmp_path, tmp_path)] == ["main.py"] * starts
