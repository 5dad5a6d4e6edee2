"""Sizes of inputs that vaelint chose: what is found with one choice alone is not said, and what is found with each choice is."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.finding import Severity
from vaelint.core.result import Request, TargetResult
from vaelint.discover.probe import probe
from vaelint.pipeline.check import check_target
from vaelint.pipeline.other_sizes import at_sizes_that_fit, other_inputs

MODEL = """import torch
from torch import nn


class SeriesVAE(nn.Module):
    def __init__(self, steps=16, features=16, latent=3):
        super().__init__()
        self.steps, self.features = steps, features
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(steps * features, 2 * latent))
        self.decoder = nn.Linear(latent, steps * features)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        recon = self.decoder(z).view(-1, self.steps, self.features)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)
        return recon, (recon - x).pow(2).sum() / x.size(0) {sign} kl.mean()
"""


def checked(folder: Path, sign: str, *ours: str, sizes: str = "4x1x16x16") -> TargetResult:
    (folder / "model.py").write_text(MODEL.format(sign=sign))
    step = "recon, loss = model(x)"
    return check_target(Request(f"{folder}/model.py:SeriesVAE", (f"x={sizes}",), step=step, device="none", ours=ours), lambda _: None)


def loud(result: TargetResult) -> list[str]:
    return [f.code for f in result.findings if f.severity is not Severity.INFO]


def test_what_occurs_only_with_chosen_sizes_is_not_reported(tmp_path: Path) -> None:
    result = checked(tmp_path, "+", "--input")
    assert result.status == "clean" and any(n.startswith("VAE301 at ") and "only with the guessed x=4x1x16x16" in n for n in result.notes)
    assert [(a.name, a.varied) for a in result.assumptions if a.kind == "input sizes"] == [("x", True)]
    assert result.symbols == {"B": 4, "T": 16, "F": 16, "L": 3}


def test_what_occurs_with_other_sizes_too_is_reported(tmp_path: Path) -> None:
    assert loud(checked(tmp_path, "-", "--input")) == ["VAE407"]


def test_sizes_at_which_the_code_raises_take_nothing_back(tmp_path: Path) -> None:
    """What is found at the first sizes stands where the others do not run."""
    first = checked(tmp_path, "-", "--input")
    first.anatomy["sites"] = []  # codes are picked, nothing is drawn
    raised = TargetResult(first.target, rung="real", findings=[])
    request = Request(first.target, ("x=4x1x16x16",), ours=("--input",))
    assert at_sizes_that_fit(request, first, lambda other: raised) is first


def test_what_the_user_gave_is_reported_as_it_is(tmp_path: Path) -> None:
    assert loud(checked(tmp_path, "+")) == ["VAE301"]


@pytest.mark.parametrize(
    ("texts", "others"),
    [
        (["x=4x1x28x28:float32[0,1]"], ["4x28x28", "4x784", "4x1x56x56"]),
        (["x=4x12x6", "y=4"], ["4x72", "4x24x6"]),
        (["4x6"], ["4x12"]),
    ],
)
def test_other_sizes_keep_type_and_range(texts: list[str], others: list[str]) -> None:
    made = list(other_inputs(texts))
    assert [way[0].partition(":")[0].removeprefix("x=") for way in made] == others
    assert all(
        way[0].endswith("[0,1]") == texts[0].endswith("[0,1]") and way[1:] == tuple(f"{t}:float32" for t in texts[1:]) for way in made
    )


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ("", ["steps", "features", "--input"]),
        ("\n\ndef main():\n    data = torchvision.datasets.MNIST('.')\n    return SeriesVAE(28, 28)\n", []),
    ],
)
def test_a_proposal_says_what_vaelint_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, ours: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    source = MODEL.format(sign="+").replace("=16", "").replace("recon - x", "recon - x.view_as(recon)") + told
    (tmp_path / "model.py").write_text(source)
    result = probe(Request("model.py:SeriesVAE", device="none"), lambda _: None)
    assert result.anatomy["proposal"]["ours"] == ours, result.anatomy
