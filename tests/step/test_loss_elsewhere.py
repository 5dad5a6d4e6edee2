"""The loss of another file, and the loss that is told by name."""

from __future__ import annotations

import sys
from pathlib import Path

import commandline
import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS, Make, failure


def test_losses_of_files_nearby_are_proposed(make: Make) -> None:
    losses = "def vae_loss(recon, x, mu, logvar): ...\ndef is_loss(name): ...\ndef _loss(recon, x): ...\ndef lossless(path): ...\n"
    note = make(HEAD + FORWARD, losses=losses, helpers=losses.replace("vae_", "my_")).none()
    assert note.endswith("other files define losses: --loss helpers.py:my_loss or --loss losses.py:vae_loss")


def test_losses_of_folders_nearby_are_proposed_too(make: Make, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "losses.py").write_text("def vae_loss(recon, x, mu, logvar): ...\n")
    assert "--loss project/losses.py:vae_loss" in make(HEAD + FORWARD).none()


def test_a_loss_of_another_file_is_taken_if_it_runs(make: Make) -> None:
    losses = "import torch\nimport torch.nn.functional as F\n" + PLAIN_LOSS
    case = make(HEAD + FORWARD, losses=losses)
    assert case.code() == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"
    assert any("loss_function is that of losses.py:" in note for note in case.found().notes)


def test_of_two_losses_elsewhere_the_one_that_trains_the_model_is_taken(make: Make) -> None:
    losses = (
        "import torch\nimport torch.nn.functional as F\n"
        + PLAIN_LOSS
        + PLAIN_LOSS.replace("loss_function", "other_loss").replace("return ", "return 2 * ")
    )
    trains = "from model import VAE\nfrom losses import other_loss\nfor batch in load():\n    other_loss(prepare(batch)).backward()\n"
    assert "other files define losses" in make(HEAD + FORWARD, losses=losses).none()
    assert "loss = other_loss(" in make(HEAD + FORWARD, losses=losses, train=trains).code()


CHECKED = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 6), nn.Linear(3, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        return self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar
"""
LOSSES = """
import torch
import torch.nn.functional as F


def vae_loss(recon, x, mu, logvar):
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return F.binary_cross_entropy(recon, x, reduction="sum") + kl
"""
TRAIN = """
from model import VAE
from losses import vae_loss


def run(model, batches):
    for x in prepared(batches):
        recon, mu, logvar = model(x)
        vae_loss(recon, x, mu, logvar).backward()
"""


@pytest.mark.parametrize(
    ("losses", "train", "reported"),
    [
        (LOSSES, "", True),
        (LOSSES + "\n\ndef squared_loss(recon, x, mu, logvar, args): ...\n", "", False),
        (LOSSES + "\n\ndef squared_loss(recon, x, mu, logvar, args): ...\n", TRAIN, True),
    ],
)
def test_of_several_losses_none_is_held_against_a_model_that_nothing_joins_to_it(
    tmp_path: Path, losses: str, train: str, reported: bool
) -> None:
    (tmp_path / "model.py").write_text(CHECKED)
    (tmp_path / "losses.py").write_text(losses)
    if train:
        (tmp_path / "train.py").write_text(train)
    done = commandline.vaelint("check", "model.py:VAE", "--input", "16x12:float32[0,1]", cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert ("error[VAE304]" in said) is reported, said
    assert ("VAE304 at losses.py:8 is not reported: nothing says with which loss" in said) is not reported


# -- the loss, told by name


def test_a_loss_told_by_name(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "other")
    assert "loss = other(recon, x, mu, logvar)" in make(text).code("other")


def test_a_loss_told_in_another_file(make: Make) -> None:
    train = "import torch\nimport torch.nn.functional as F\nfrom model import VAE\n" + PLAIN_LOSS
    case = make(HEAD + FORWARD, train=train)
    assert case.code("train.py:loss_function") == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"
    assert "train" not in sys.modules


def test_only_what_a_told_loss_needs_is_run(make: Make) -> None:
    train = """
        import torch.nn.functional as F
        import nosuchpackage
        raise SystemExit("this trains for a week")
        beta = 0.5
        def part(mu): return mu.pow(2).mean()
        def loss_function(recon, x, mu, logvar): return F.mse_loss(recon, x) + beta * part(mu) + part(logvar)
    """
    assert make(HEAD + FORWARD, train=train).code("train.py:loss_function").endswith("loss_function(recon, x, mu, logvar)")


@pytest.mark.parametrize(
    ("told", "part"),
    [
        ("nosuch", "there is no loss nosuch"),
        ("nosuch.py:loss", "there is no file nosuch.py"),
        ("model.py:nosuch", "has no nosuch"),
        ("odd", "has parameters that nothing fits"),
        ("F", "not a function"),
    ],
)
def test_a_told_loss_that_cannot_be_used(make: Make, told: str, part: str) -> None:
    case = make(HEAD + FORWARD + PLAIN_LOSS + "\ndef odd(recon, x, schedule): return recon\n")
    error = failure(lambda: case.seek(told))
    assert error.code == "VAE004" and part in error.message
