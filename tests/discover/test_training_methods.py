"""A script whose loop hands its batches to a method of the model, which takes the gradients itself, is an entry."""

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
"""


@pytest.mark.parametrize(
    ("code", "starts"),
    [
        ("for x in range(3):\n    model.train(x)", True),
        ("model.update(1)", True),
        ("for x in range(3):\n    model.sample(x)", False),
        ("model.sample(1)", False),
        ("for x in range(3):\n    other.train(x)", False),
    ],
)
def test_a_method_that_trains_starts_a_training(tmp_path: Path, code: str, starts: bool) -> None:
    (tmp_path / "models.py").write_text(_MODEL)
    (tmp_path / "main.py").write_text(
        f"import torch\nfrom models import VAE\n\nmodel = VAE().to('cpu')\nother = torch.nn.Linear(1, 1)\n{code}\n"
    )
    assert [e.command for e in entries(tmp_path, tmp_path)] == ["main.py"] * starts
