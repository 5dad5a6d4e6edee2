# mypy: disable-error-code="no-untyped-call"
"""Watched loops: a generator that is set anew, data that the loop draws, and nothing drawn at all."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from vaelint.discover.argparse_options import compared_options

LOOP = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        BEFORE
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

model = VAE()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(60):
    x = torch.rand(16, 12)
    y, mu, logvar = model(x)
    optimizer.zero_grad()
    loss = F.mse_loss(y, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    loss.backward()
    optimizer.step()
"""


GRAPH = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.offset = nn.Linear(7, 8), nn.Parameter(torch.zeros(()))

    def loss(self, marks, links):
        mu, logvar = self.enc(marks + links @ marks / len(marks)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        rec = F.binary_cross_entropy_with_logits(z @ z.T + self.offset, links, reduction="none").sum(1)
        return (rec + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()

model = VAE()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(60):
    marks = torch.randn(18, 7)
    links = torch.randint(0, 2, (18, 18)).float()
    optimizer.zero_grad()
    model.loss(marks, links).backward()
    optimizer.step()
"""

PLAIN = LOOP.replace("mu + torch.randn_like(mu) * (0.5 * logvar).exp()", "mu")
CHOSEN = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--kind")
args = parser.parse_args()
if args.kind is None:
    raise ValueError("which kind?")
"""


def found(folder: Path, script: str, *words: str) -> dict[str, int]:
    """The codes that a script has under `vaelint`, with their lines; without remarks."""
    (folder / "train.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "vaelint", *words, "--output-format", "json", *(["train.py"] if words[0] == "run" else [])],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    targets = json.loads(done.stdout)["targets"]
    assert targets and all(t["status"] != "failed" for t in targets), done.stdout
    return {f["code"]: f["span"]["line"] for t in targets for f in t["findings"] if f["severity"] != "info"}


def test_a_generator_that_is_set_anew_in_each_iteration_gives_the_same_noise(tmp_path: Path) -> None:
    seeded = LOOP.replace("BEFORE", "torch.manual_seed(5)")
    line = next(n for n, text in enumerate(seeded.splitlines(), 1) if "manual_seed" in text)
    assert found(tmp_path, seeded, "run", "--device", "cpu") == {"VAE204": line}


def test_a_generator_of_the_models_own_goes_on_from_step_to_step(tmp_path: Path) -> None:
    own = LOOP.replace("torch.randn_like(mu) *", "torch.randn(mu.shape, generator=self.source) *").replace("BEFORE", "pass")
    own = own.replace("super().__init__()", "super().__init__()\n        self.source = torch.Generator()")
    own = own.replace("for _ in range(60):\n    x = torch.rand(16, 12)", "for x in torch.rand(960, 12).split(16):")
    assert found(tmp_path, own, "run", "--device", "cpu") == {}


def test_a_target_that_the_loop_draws_and_the_encoder_reads_is_the_data(tmp_path: Path) -> None:
    assert found(tmp_path, GRAPH, "run", "--device", "cpu") == {}


def test_a_number_of_the_batch_is_the_number_of_the_run(tmp_path: Path) -> None:
    """`/ len(x)` stands in the record as what moves with B: an experiment on one run divides by the size of that run."""
    usual = 'F.mse_loss(y, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())'
    assert usual in LOOP
    each = 'F.mse_loss(y, x, reduction="sum") / len(x) - 0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp())'
    (tmp_path / "train.py").write_text(LOOP.replace("BEFORE", "pass").replace(usual, each))
    command = [sys.executable, "-m", "vaelint", "run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    (target,) = json.loads(done.stdout)["targets"]
    (finding,) = target["findings"]
    assert (finding["code"], finding["certainty"]) == ("VAE403", "confirmed"), finding["evidence"]
    assert "0.25 times" in finding["evidence"]["measured"]


def test_a_bare_check_shows_a_training_that_should_draw_and_does_not(tmp_path: Path) -> None:
    script = CHOSEN + PLAIN.replace("BEFORE", "pass")
    (tmp_path / "README.md").write_text("    $ python train.py --kind a\n")
    assert "VAE216" in found(tmp_path, script, "check", ".", "--device", "none")


def test_an_option_is_known_by_a_comparison_in_small_letters() -> None:
    text = "p.add_argument('--backend')\nif args.backend.lower() == 'keras':\n    pass\n"
    assert compared_options([ast.parse(text)]) == ("--backend", "keras")
