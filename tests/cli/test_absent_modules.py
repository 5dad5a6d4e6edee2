"""`vaelint run` where a module that the script imports is not there: it trains on as long as nothing depends on it."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
import pytest

SCRIPT = """import torch
from torch import nn
import scorer_of_music as som
from player_of_music import Instrument, play
from own_package.absent_part import {name}

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 8), nn.Linear(4, 20)

    def forward(self, x):
        mu, logvar = self.a(x).chunk(2, 1)
        return self.b(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

def sound(x) -> Instrument | None:
    return play(x) if x else None

vae = VAE()
optimizer = torch.optim.Adam(vae.parameters())
job = som.Job("vae", {{"lr": 1e-3}})
job.every = 20
for x in torch.utils.data.DataLoader(torch.randn(64, 20), batch_size=16):
    recon, mu, logvar = vae(x)
    loss = ((recon - x) ** 2).sum(1).mean() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    {step}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    job.record(loss.item())
    try:
        import fast_but_optional
    except ImportError:
        print("without it")
"""


def run(folder: Path, step: str) -> tuple[dict[str, object], str]:
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "train.py").write_text(SCRIPT.format(name="scale", step=step))
    words = ["run", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=folder)
    (target,) = json.loads(done.stdout)["targets"]
    return target, done.stdout


def test_what_nothing_depends_on_is_not_missed(tmp_path: Path) -> None:
    target, said = run(tmp_path, "pass")
    assert target["status"] == "clean", said
    assert "scorer_of_music is not installed, and what was observed does without it (train.py:3)" in said
    assert "own_package.absent_part is not installed, and what was observed does without it (train.py:5)" in said
    assert "fast_but_optional" not in said and "without it" in said  # what asks in `try` hears that it is not there


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("loss = loss + som.penalty(1)", "the package scorer_of_music is not installed here"),
        ("som.watch(vae)", "the package scorer_of_music is not installed here"),
        ("loss = som.scaled(loss)", "the package scorer_of_music is not installed here"),
        ("Instrument(1) == 'piano'", "the package player_of_music is not installed here"),
        ("loss = loss * scale(2)", "own_package.absent_part is imported, which the repository does not have"),
    ],
)
def test_what_the_training_depends_on_is_named(tmp_path: Path, step: str, told: str) -> None:
    target, said = run(tmp_path, step)
    assert target["status"] == "failed" and told in said, said
