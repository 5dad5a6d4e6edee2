"""Kernels that are told by their values: any spelling of one gives the same name, exponents and weight, and a wrong normaliser is found."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lawmodels import settle, verdict
from thorough import examples

from vaelint.core.finding import Severity
from vaelint.core.result import Request, TargetResult

LAW = settings(phases=[Phase.generate], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
HEAD = """import math
import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self, data=24, latent=4):
        super().__init__()
        self.k = nn.Parameter(torch.zeros(data))
        self.enc = nn.Sequential(nn.Linear(data, 16), nn.ReLU(), nn.Linear(16, 2 * latent))
        self.dec = nn.Sequential(nn.Linear(latent, 16), nn.ReLU(), nn.Linear(16, data))

    def loss(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)
        r, k = self.dec(z), self.k.exp()
        m, h = F.softplus(r) + 1e-3, 0.5 / 256
"""

LIKELIHOODS = {
    "negative binomial": (
        "torch.lgamma(k) + torch.lgamma(x + 1) - torch.lgamma(x + k) - k * (k.log() - (k + m).log()) - x * (m.log() - (k + m).log())",
        "-td.NegativeBinomial(k, logits=m.log() - k.log(), validate_args=False).log_prob(x)",
        "torch.lgamma(k) - torch.lgamma(x + k) - k * F.logsigmoid(k.log() - m.log()) - x * F.logsigmoid(m.log() - k.log())",
    ),
    "Student's t, nu = 4": (
        "-td.StudentT(4.0, r, k, validate_args=False).log_prob(x)",
        "2.5 * torch.log1p(((x - r) / k) ** 2 / 4) + k.log()",
        "2.5 * torch.log(4 * k**2 + (r - x).square()) - 4 * self.k",
    ),
    "Gaussian with learned variance": (
        "F.gaussian_nll_loss(r, x, k.expand_as(r), reduction='none')",
        "0.5 * (self.k + (x - r).pow(2) / k)",
        "-td.Normal(r, k.sqrt(), validate_args=False).log_prob(x)",
    ),
    "continuous Bernoulli": (
        "-td.ContinuousBernoulli(logits=r, validate_args=False).log_prob(x)",
        "torch.log(torch.expm1(r) / r) - x * r",
    ),
    "discretised logistic": (
        "-torch.log(torch.sigmoid((x + h - r) / k) - torch.sigmoid((x - h - r) / k))",
        "-torch.log(torch.tanh((x - r + h) / (2 * k)) - torch.tanh((x - r - h) / (2 * k)))",
    ),
}

PAIRS = "        q, p = td.Normal(mu, (0.5 * logvar).exp()), td.Normal(0.0, 1.0)\n"
PENALTIES = {
    "tc": (
        PAIRS + "        pairs = td.Normal(mu[None], (0.5 * logvar).exp()[None]).log_prob(z[:, None])\n"
        "        joint, each = pairs.sum(2).logsumexp(1), pairs.logsumexp(1).sum(1)\n"
        "        own, prior = q.log_prob(z).sum(1), p.log_prob(z).sum(1)\n"
        "        more = (own - joint) + {a} * (joint - each) + (each - prior)\n",
        "        pairs = -0.5 * ((z.unsqueeze(1) - mu.unsqueeze(0)) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi))\n"
        "        own = -0.5 * ((z - mu) ** 2 / logvar.exp() + logvar).sum(1)\n"
        "        joint = torch.logsumexp(pairs.sum(-1), dim=1) - math.log(x.size(0) * 5000)\n"
        "        each = (torch.logsumexp(pairs, dim=1) - math.log(x.size(0) * 5000)).sum(-1)\n"
        "        more = own + {a} * joint - joint - {a} * each + each + 0.5 * z.square().sum(1)\n",
    ),
    "dip": (
        "        c = mu - mu.mean(0)\n        c = c.t() @ c / x.size(0)\n        d = torch.diagonal(c)\n"
        "        more = kl + {a} * (c - torch.diag(d)).pow(2).sum() + {b} * (d - 1).pow(2).sum()\n",
        "        c = torch.cov(mu.t(), correction=0)\n        off = ~torch.eye(mu.size(1), dtype=torch.bool)\n"
        "        more = kl + {a} * c[off].square().sum() + {b} * ((c.diagonal() - 1) ** 2).sum()\n",
    ),
}

Checked = Callable[[str, str], TargetResult]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    """Checks a model in a process of its own: in this one every call of vaelint has its types checked."""
    folder = tmp_path_factory.mktemp("kernels")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), settle, (str(folder),)) as pool:

        def check(lines: str, span: str) -> TargetResult:
            head = HEAD if re.search(r"\bk\b", lines) else HEAD.replace("nn.Parameter(torch.zeros(data))", "torch.zeros(data)")
            (folder / "model.py").write_text(head + lines)
            request = Request("model.py:VAE", (f"x=12x24:float32{span}",), step="loss = model.loss(x)", device="none")
            return TargetResult.from_json(pool.submit(verdict, request.to_json()).result())

        yield check


@settings(LAW, max_examples=examples(5, 14))
@given(name=st.sampled_from(sorted(LIKELIHOODS)), pick=st.integers(0, 5), weight=st.sampled_from(("1", "0.5", "3.0")), mean=st.booleans())
def test_a_likelihood_is_its_slope_in_the_data(checked: Checked, name: str, pick: int, weight: str, mean: bool) -> None:
    spelled = LIKELIHOODS[name][pick % len(LIKELIHOODS[name])]
    total = f"({weight} * nll.{'mean' if mean else 'sum'}(1) + kl).mean()"
    result = checked(f"        nll = {spelled}\n        return {total}\n", "[0,1]")
    (term,) = [t for t in result.loss["terms"] if t["role"] == "reconstruction"]
    where = f"{spelled}\n{total}\n{result.loss}"
    assert term["kernel"].startswith(name), where
    assert term["reduction"] == f"mean over B, {'mean' if mean else 'sum'} over D", where
    assert term["value"] == pytest.approx(float(weight) / 12 / (24 if mean else 1), rel=1e-4), where
    assert mean or [f for f in result.findings if f.severity is not Severity.INFO] == [], where


@settings(LAW, max_examples=examples(2, 6))
@given(pick=st.sampled_from((0, 2)), sign=st.sampled_from(("torch.lgamma(x + k)", "torch.lgamma(k)")))
def test_a_wrong_sign_in_a_normaliser_is_found(checked: Checked, pick: int, sign: str) -> None:
    spelled = LIKELIHOODS["negative binomial"][pick]
    changed = f"-({spelled})".replace(sign, f"(-{sign})")
    result = checked(f"        nll = -({changed})\n        return (nll.sum(1) + kl).mean()\n", "[0,inf)")
    codes = [f.code for f in result.findings if f.severity is not Severity.INFO]
    assert codes in (["VAE310"], ["VAE331"], []) and (codes or sign != "torch.lgamma(k)"), f"{spelled}\n{codes}\n{result.loss}"


@settings(LAW, max_examples=examples(3, 6))
@given(name=st.sampled_from(("tc", "dip")), pick=st.integers(0, 1), a=st.sampled_from((2.0, 6.5)), b=st.sampled_from((1.5, 10.0)))
def test_a_penalty_on_the_minibatch_has_the_weights_of_its_paper(checked: Checked, name: str, pick: int, a: float, b: float) -> None:
    lines = PENALTIES[name][pick].format(a=a, b=b)
    result = checked(f"{lines}        return (F.mse_loss(r, x, reduction='none').sum(1) + more).mean()\n", "")
    wanted = {"alpha": 1.0, "beta": a, "gamma": 1.0} if name == "tc" else {"lambda_od": a, "lambda_d": b}
    assert result.loss["weights"] == pytest.approx(wanted, rel=1e-6), f"{lines}\n{result.loss}"
