"""The law on likelihoods, family by family: what is whole stays silent, what lacks a part or has it twice is found at its formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.core.finding import Severity
from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target

pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = '''
import math
import torch
import torch.nn.functional as F
from torch import nn
from torch import distributions as D


class VAE(nn.Module):
    def __init__(self, size=6, latent=3, hidden=16, outputs={outputs}):
        super().__init__()
        self.outputs, self.size = outputs, size
        self.encoder = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, outputs * size))
        self.own = nn.Parameter(torch.zeros(size))

    def likelihood(self, x, h):
        """log p(x), element by element."""
        a, b, c, *more = [*h, h[0], h[0]][:3] if len(h) < 4 else h
        own = self.own
{body}

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, -1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        h = self.decoder(z).view(-1, self.outputs, self.size).unbind(1)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(1)
        return (kl - self.likelihood(x, h).sum(1)).mean()
'''

LOGISTIC = """
inv = torch.exp(-b)
high, low = torch.sigmoid(inv * (x - a + {half})), torch.sigmoid(inv * (x - a - {half}))
high = torch.where(x > {top}, torch.ones_like(x), high)
low = torch.where(x < {bottom}, torch.zeros_like(x), low)
return torch.log((high - low).clamp(min=1e-12))
"""

WHOLE = {
    "Gaussian": (2, "return -0.5 * ((x - a) ** 2 / b.exp() + b + math.log(2 * math.pi))"),
    "Gaussian without its constant": (2, "return -0.5 * ((x - a) ** 2 / b.exp() + b)"),
    "Gaussian of one learned variance": (1, "return D.Normal(a, own.exp()).log_prob(x)"),
    "Gaussian by softplus": (2, "s = F.softplus(b) + 1e-3\nreturn -0.5 * ((x - a) / s) ** 2 - s.log()"),
    "squared error": (1, "return -((x - a) ** 2)"),
    "beta-NLL": (2, "return -0.5 * ((x - a) ** 2 / b.exp() + b) * b.exp().detach() ** 0.5"),
    "Laplace": (2, "return -(x - a).abs() * torch.exp(-b) - b"),
    "Student": (2, "return D.StudentT(4.0, a, b.exp()).log_prob(x)"),
    "Student by hand": (2, "return -2.5 * torch.log1p(((x - a) / b.exp()) ** 2 / 4) - b"),
    "logistic": (2, "u = (x - a) * torch.exp(-b)\nreturn -u - b - 2 * F.softplus(-u)"),
    "logistic in bins, -1 to 1": (2, LOGISTIC.format(half="1 / 255", top="0.999", bottom="-0.999")),
    "logistic in bins, 0 to 1": (2, LOGISTIC.format(half="0.5 / 255", top="0.999", bottom="0.001")),
    "logistic in 32 bins": (2, LOGISTIC.format(half="0.5 / 31", top="0.99", bottom="0.01")),
    "mixture of Gaussians": (
        6,
        "w = torch.stack(h[:2]).log_softmax(0)\nm, s = torch.stack(h[2:4]), torch.stack(h[4:])\n"
        "return torch.logsumexp(w - 0.5 * ((x - m) / s.exp()) ** 2 - s, 0)",
    ),
    "continuous Bernoulli": (1, "return D.ContinuousBernoulli(logits=a).log_prob(x)"),
    "Beta": (2, "return D.Beta(F.softplus(a) + 1, F.softplus(b) + 1).log_prob(x.clamp(0.01, 0.99))"),
}

BROKEN = {
    "no log sigma": (2, "return -0.5 * (x - a) ** 2 / b.exp() - 0.01 * own"),
    "log sigma of a Laplace twice": (2, "return -(x - a).abs() * torch.exp(-b) - 3 * b"),
    "sigma for sigma squared": (2, "s = F.softplus(b) + 1e-3\nreturn -0.5 * (x - a) ** 2 / s - s.log()"),
    "Student without its scale": (2, "return -2.5 * torch.log1p(((x - a) / b.exp()) ** 2 / 4) + 0.0 * b"),
    "logistic with half of its tail": (2, "u = (x - a) * torch.exp(-b)\nreturn -u - b - F.softplus(-u)"),
    "bins of twice the width, 0 to 1": (2, LOGISTIC.format(half="1 / 255", top="0.999", bottom="0.001")),
    "mixture of raw weights": (
        6,
        "w = torch.stack(h[:2])\nm, s = torch.stack(h[2:4]), torch.stack(h[4:])\n"
        "return torch.logsumexp(w - 0.5 * ((x - m) / s.exp()) ** 2 - s, 0)",
    ),
    "weights normalised over the elements": (
        6,
        "w = torch.stack(h[:2]).log_softmax(-1)\nm, s = torch.stack(h[2:4]), torch.stack(h[4:])\n"
        "return torch.logsumexp(w - 0.5 * ((x - m) / s.exp()) ** 2 - s, 0)",
    ),
}


def told(folder: Path, outputs: int, formula: str, values: str = "[0,1]") -> TargetResult:
    body = "\n".join(" " * 8 + line for line in formula.strip().splitlines())
    (folder / "model.py").write_text(MODEL.format(outputs=outputs, body=body))
    return check_target(Request("model.py:VAE", (f"x=5x6:float32{values}",), step="loss = model(x)", device="none"), lambda message: None)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_likelihood_keeps_the_law(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = told(tmp_path, *WHOLE[name], "[-1,1]" if name.endswith("-1 to 1") else "[0,1]")
    assert [f.code for f in result.findings if f.severity is not Severity.INFO and f.code == "VAE331"] == []
    assert {row["outcome"] for row in result.laws} == {"holds"}, result.laws


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_likelihood_is_found_at_its_formula(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs, formula = BROKEN[name]
    result = told(tmp_path, outputs, formula)
    text = (tmp_path / "model.py").read_text().splitlines()
    first = next(i for i, line in enumerate(text, 1) if line.strip() == formula.strip().splitlines()[0])
    found = [f.span.line for f in result.findings if f.code in ("VAE331", "VAE310") and f.severity is not Severity.INFO]
    assert found, [(row["law"], row["outcome"], row["reason"]) for row in result.laws]
    assert first <= found[0] < first + len(formula.strip().splitlines())
