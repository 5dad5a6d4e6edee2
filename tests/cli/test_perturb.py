"""`--perturb`: numbers that stay behind a constructor argument, on the command line, in the configuration, and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commandline
import pytest

BAD = "fixtures/vae109_hard_coded_size/bad.py:PosterVAE"
ROOT = Path(__file__).resolve().parents[2]


def _check(*words: str, cwd: Path = ROOT) -> tuple[int, dict[str, Any]]:
    done = commandline.vaelint("check", *words, "--device", "none", "--output-format", "json", cwd=cwd)
    return done.returncode, json.loads(done.stdout)["targets"][0]


def _codes(target: dict[str, Any]) -> list[str]:
    return [f["code"] for f in target["findings"]]


def test_nothing_is_perturbed_unless_asked_for() -> None:
    code, target = _check(BAD, "--input", "6x3x32x32")
    assert code == 0
    assert {"code": "VAE109", "reason": "other constructor arguments are tried with --perturb only"} in target["not_applicable"]


def test_the_literal_is_shown_with_what_it_would_have_to_be() -> None:
    code, target = _check(BAD, "--input", "6x3x32x32", "--perturb")
    colours = next(f for f in target["findings"] if f["facts"]["argument"] == "colours")
    assert code == 1
    assert (colours["span"]["line"], colours["facts"]["literal"], colours["facts"]["becomes"]) == (22, 3, 6)
    assert "colours=1 nothing raises" in colours["notes"][0]
    assert "--perturb: the model follows widths[0], widths[1], latent" in target["notes"]


def test_a_line_of_the_configuration_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text((ROOT / "fixtures/vae109_hard_coded_size/bad.py").read_text())
    table = '[tool.vaelint]\nperturb = true\n[[tool.vaelint.targets]]\ntarget = "model.py:PosterVAE"\ninput = "6x3x32x32"\n'
    (tmp_path / "pyproject.toml").write_text(table)
    assert _codes(_check(cwd=tmp_path)[1]) == ["VAE109"]
    assert _codes(_check("--no-perturb", cwd=tmp_path)[1]) == []


@pytest.mark.parametrize(
    ("signature", "build", "read", "culprit"),
    [
        ("config", "config['z'], config['z']", "config['z']", None),
        ("config", "config['z'], config['z']", "6", "config.z"),
        ("z=6, *, spare=6", "z, z", "6", "z"),
        ("z=6, *, spare=6", "z, z", "spare", None),
    ],
)
def test_numbers_in_a_configuration_and_arguments_that_must_agree(
    tmp_path: Path, signature: str, build: str, read: str, culprit: str | None
) -> None:
    """An argument that has to equal another one is no finding; a literal that has to is one."""
    (tmp_path / "model.py").write_text(f"""import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, {signature}):
        super().__init__()
        self.mu, self.logvar = (nn.Linear(31, n) for n in ({build}))
        self.decoder = nn.Linear({read}, 31)

    def forward(self, x):
        mu, logvar = self.mu(x), self.logvar(x)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

def loss_function(recon, x, mu, logvar):
    return ((recon - x).square().sum() - 0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()) / x.size(0)
""")
    init = ("--init", "config={'z': 6}") if signature == "config" else ()
    _, target = _check("model.py:VAE", "--input", "8x31", *init, "--perturb", cwd=tmp_path)
    found = [f for f in target["findings"] if f["code"] == "VAE109"]
    assert [(f["facts"]["argument"], f["span"]["line"]) for f in found] == ([(culprit, 8)] if culprit else [])
