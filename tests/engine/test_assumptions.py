"""What vaelint chose where nobody said it: named with its place, and nothing is said that holds at that choice alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commandline
import pytest

MODEL = """import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 2 * latent), nn.Linear(latent, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        return self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def loss_function(recon, x, mu, logvar{more}):
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).mean()
    return F.mse_loss(recon, x, reduction="none").sum(1).mean() + {weight} * kl
"""


def checked(folder: Path, more: str, weight: str, *options: str) -> tuple[dict[str, Any], str]:
    (folder / "model.py").write_text(MODEL.format(more=more, weight=weight))
    asked = ("check", "model.py:VAE", "--input", "8x12", "--device", "none", *options)
    told = commandline.vaelint(*asked, "-v", cwd=folder).stdout
    return json.loads(commandline.vaelint(*asked, "--output-format", "json", cwd=folder).stdout)["targets"][0], " ".join(told.split())


def test_each_choice_is_named_with_its_place(tmp_path: Path) -> None:
    result, told = checked(tmp_path, ", step", "min(1.0, (step + 1) / 10)")
    found = {a["name"]: (a["kind"], a["value"], (a["where"] or {}).get("line"), a["varied"]) for a in result["assumptions"]}
    assert found["latent"] == ("constructor argument", "20", 6, True)
    assert found["step"] == ("loss argument", "0", 16, True)
    assert found["loss"][0] == "loss" and found["loss"][3] is False
    assert "chosen by vaelint: latent=20 (constructor argument, asked for at model.py:6): " in told
    assert "chosen by vaelint: step=0 (loss argument, asked for at model.py:16): nothing says what it is" in told


def test_a_beta_at_a_chosen_counter_is_no_statement(tmp_path: Path) -> None:
    result, told = checked(tmp_path, ", step", "min(1.0, (step + 1) / 10)")
    assert result["loss"]["beta"] is None and not result["loss"]["objective"]
    assert "effective beta: unknown, as it depends on the guessed step=0" in told and "1 with step=1000" in told


@pytest.mark.parametrize(("more", "weight"), [(", step", "(-1 if step < 10 else 1)"), (", beta", "(-1 if beta == 1 else 1)")])
def test_a_finding_at_a_chosen_argument_alone_is_not_reported(tmp_path: Path, more: str, weight: str) -> None:
    result, told = checked(tmp_path, more, weight, "--init", "latent=3")
    assert [f["code"] for f in result["findings"] if f["severity"] != "info"] == []
    assert "VAE407 at model.py:18 is not reported: it occurs only with the guessed" in told
    assert "(loss argument, asked for at model.py:16)" in told


def test_a_finding_at_any_value_stays(tmp_path: Path) -> None:
    result, _ = checked(tmp_path, ", step", "-1.0", "--init", "latent=3")
    assert "VAE407" in [f["code"] for f in result["findings"]]


def test_what_the_user_said_is_no_choice(tmp_path: Path) -> None:
    step = "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"
    result, told = checked(tmp_path, "", "1.0", "--init", "latent=3", "--step", step)
    assert [(a["kind"], a["value"], a["varied"]) for a in result["assumptions"]] == [("values", "standard normal", False)]
    assert "chosen by vaelint: input 1=standard normal (values): no range given with --input" in told


def test_values_that_the_loss_wants_are_not_said_to_be_normal(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "data" / "mlp_vae.py").read_text()
    text = text.replace("recon = self.dec(z)", "recon = torch.sigmoid(self.dec(z))").replace("F.mse_loss", "F.binary_cross_entropy")
    (tmp_path / "model.py").write_text(text)
    told = " ".join(commandline.vaelint("check", "model.py:VAE", "--input", "32x784", "--device", "cpu", "-v", cwd=tmp_path).stdout.split())
    assert "were drawn from [0, 1], as the loss wants" in told and "standard normal (values)" not in told
    assert "chosen by vaelint: input 1=uniform in [0, 1] (values): no range given with --input, and the loss wants these" in told


ABSENT = """import absent_logger
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, input_dim, latent=3):
        super().__init__()
        self.enc, self.dec = nn.Linear(input_dim, 2 * latent), nn.Linear(latent, input_dim)

    def forward(self, x, scale):
        mu, logvar = self.enc(x).chunk(2, -1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
        return (scale * (self.dec(z) - x).pow(2).sum(1) + kl).mean()


def train(model, x):
    loss = model(x, scale=0.5)
    loss.backward()
"""


def test_what_stands_in_and_what_goes_where_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(ABSENT)
    asked = ("check", "model.py:VAE", "--input", "data=8x12:float32[0,1]", "--device", "none", "--output-format", "json")
    (result,) = json.loads(commandline.vaelint(*asked, cwd=tmp_path).stdout)["targets"]
    found = {(a["kind"], a["name"]): (a["value"], (a["where"] or {}).get("line"), a["varied"]) for a in result["assumptions"]}
    assert found["stand-in", "absent_logger"] == ("a placeholder", 1, False)
    assert found["input", "x"] == ("data", 11, False)
    assert found["input", "scale"] == ("0.5", 11, False)
    assert found["constructor argument", "input_dim"] == ("12", 6, False)
