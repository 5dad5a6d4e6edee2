"""A family is named only where what defines it was measured; a weight that is no number of the objective is no beta."""

from __future__ import annotations

from pathlib import Path

import pytest
from expectations import fixture_of

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.replay.replay import Replay

MODEL = """
import torch
from torch import nn


class M(nn.Module):
    def __init__(self, d=12, z=3):
        super().__init__()
        self.enc, self.dec, self.top = nn.Linear({read}, 2 * z), nn.Linear({decoded}, d), nn.Linear(z, 2 * z)
        self.low = nn.Linear(z, 2 * z)
        self.prior = nn.Parameter(torch.zeros(2, z), requires_grad=False)

    def forward(self, {given}):
        mu, logvar = self.enc({encoded}).chunk(2, -1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        error = 0.5 * (self.dec({code}) - x).square().sum(-1)
        kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(-1)
        {loss}
"""
PLAIN = {"read": "d", "decoded": "z", "given": "x", "encoded": "x", "code": "z", "loss": "return (error + kl).mean()"}
BESIDE = PLAIN | {"given": "x, y", "encoded": "torch.cat([x, y], -1)", "code": "torch.cat([z, y], -1)"}


def said_of(tmp_path: Path, change: dict[str, str], *inputs: str) -> TargetResult:
    (tmp_path / "model.py").write_text(MODEL.format(**(PLAIN | change)))
    return check_target(Request(f"{tmp_path}/model.py:M", inputs or ("8x12",), device="none"), lambda _: None)


@pytest.mark.parametrize(
    ("change", "inputs", "words", "named"),
    [
        (BESIDE | {"read": "d + 5", "decoded": "z + 5"}, ("x=8x12", "y=8x5"), "CVAE", True),
        (BESIDE | {"read": "2 * d", "decoded": "z + d"}, ("x=8x12", "y=8x12"), "CVAE", False),  # it may be a shifted copy, or a mask
        ({"loss": "return (error + kl).mean() + 1e-3 * self.dec.weight.square().sum()"}, (), "penalty on parameters", True),
        ({"loss": "return (error + kl).mean() + (self.dec.bias + self.dec.bias.exp()).sum()"}, (), "penalty on parameters", False),
        ({"loss": "return (error + 1.0004 * kl).mean()"}, (), "beta-VAE", False),
        ({"loss": "return (error + 1.01 * kl).mean()"}, (), "beta-VAE with beta = 1.01", True),
    ],
)
def test_a_name_needs_its_mark(tmp_path: Path, change: dict[str, str], inputs: tuple[str, ...], words: str, named: bool) -> None:
    result = said_of(tmp_path, change, *inputs)
    assert (words in result.loss["objective"]) is named, result.loss["objective"]


HIERARCHY = """m, v = self.top(z).chunk(2, -1)
        u = m + torch.exp(0.5 * v) * torch.randn_like(m)
        q = -0.5 * (logvar + (z - mu).square() / logvar.exp() + v + (u - m).square() / v.exp()).sum(-1)
        n, w = self.low(u).chunk(2, -1)
        p = -0.5 * (u.square() + w + (z - n).square() / w.exp()).sum(-1)
        return (error + q - p).mean()"""


def test_a_second_latent_is_no_flow(tmp_path: Path) -> None:
    assert "flow" not in said_of(tmp_path, {"loss": HIERARCHY}).loss["objective"]


CONDITIONED = """
        logits = self.dec(z) + self.top(y).repeat(1, 2)
        return (nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1) + kl).mean()"""


def test_a_condition_added_in_the_decoder_is_no_target(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"given": "x, y", "loss": CONDITIONED}, "x=8x12:float32[0,1]", "y=8x3").loss
    assert loss["terms"][0]["kernel"] == "Bernoulli on logits" and loss["beta"]["value"] == 1


FROZEN = """
        m, s = self.prior
        q = -0.5 * (logvar + (z - mu).square() / logvar.exp()).sum(-1)
        return (error + q + 0.5 * (s + (z - m).square() / s.exp()).sum(-1)).mean()"""


def test_the_frozen_parameters_of_a_prior_are_neither_a_flow_nor_a_term(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"loss": FROZEN}).loss
    assert [term["role"] for term in loss["terms"]] == ["reconstruction", "kl"]
    assert "flow" not in loss["objective"] and loss["beta"]["value"] == 1


@pytest.mark.parametrize("name", ["ok_coupling_flow", "ok_planar_flow"])
def test_a_flow_takes_its_volume_off(name: str) -> None:
    assert "with a normalising flow" in check_target(fixture_of(name).request("none"), lambda _: None).loss["objective"]


@pytest.mark.parametrize("name", ["ok_kl_balancing", "ok_capacity_by_multiplier"])
def test_a_weight_that_is_no_beta_is_unknown_with_its_reason(name: str) -> None:
    loss = check_target(fixture_of(name).request("none"), lambda _: None).loss
    assert loss["beta"] is None
    assert loss["notes"][0].startswith("effective beta: unknown, as ")


def test_a_weight_of_zero_is_told_without_the_batch() -> None:
    loss = check_target(fixture_of("ok_annealed_by_argument").request("none"), lambda _: None).loss
    assert loss["objective"].endswith("where it is 1, beta = 1")


def test_a_mixture_of_the_decoder_weighs_no_draws() -> None:
    assert "importance" not in check_target(fixture_of("ok_mixture_of_logistics").request("none"), lambda _: None).loss["objective"]


LEARNED = """s = self.top.bias.mean().exp()
        error = ((self.dec(z) - x) ** 2 / 2 / s**2).sum() + s.log() * x.numel()
        return (2 * error + kl.sum()) / len(x)"""


def test_a_learned_scale_weighs_as_its_logarithm_does(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"loss": LEARNED}).loss
    assert loss["beta"]["value"] == pytest.approx(0.5)
    assert [t["kernel"] for t in loss["terms"] if t["role"] == "reconstruction"] == ["Gaussian with learned variance"]


def test_an_error_over_a_scale_that_the_decoder_puts_out_is_no_weight() -> None:
    """Each step has its mask, and its density is not read: what the error weighs moves with the scale."""
    beta = check_target(fixture_of("ok_masked_learned_scale_by_time").request("none"), lambda _: None).loss["beta"]
    assert beta is None or beta["value"] == pytest.approx(1.0)


TEMPERED = """
        q, p = (-0.5 * t.sum(-1) for t in (logvar + (z - mu).square() / logvar.exp(), z.square()))
        return (q - 0.2 * (p - error)).mean()"""
BENT = """
        z0, z = z, z + 0.1 * torch.tanh(self.dec.bias[:3] * z)
        error = 0.5 * (self.dec(z) - x).square().sum(-1)""" + TEMPERED.replace("(z - mu)", "(z0 - mu)")
MASKED = """
        kept = y > 0
        return (self.dec(z)[kept] - x[kept]).square().mean() + kl.mean()"""
PARTS = """
        out = self.dec(z)
        error = (out[:, :6] - x[:, :6]).square().mean(-1) + 0.1 * (out[:, 6:] - x[:, 6:]).square().mean(-1)
        return (error + kl).mean()"""
JUDGED = """
        score = torch.nn.functional.binary_cross_entropy_with_logits(self.low(z), torch.ones(len(z), 6, device=z.device))
        return (error + kl).mean() + 10 * score + self.dec.weight.square().sum()"""


def test_rows_that_a_mask_picks_grow_with_the_batch(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"given": "x, y", "loss": MASKED}, "x=8x12", "y=8:int64[0,3)").loss
    assert loss["terms"][0]["reduction"] == "mean over B, mean over D"


def test_parts_that_are_weighed_apart_have_no_one_beta(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"loss": PARTS}).loss
    assert [t["role"] for t in loss["terms"]] == ["reconstruction", "reconstruction", "kl"]
    assert loss["beta"] is None and "one part of the data more than one of another" in loss["notes"][0]


@pytest.mark.parametrize("loss", [TEMPERED, BENT])
def test_a_tempered_joint_density_has_no_beta(tmp_path: Path, loss: str) -> None:
    """log q and log p have two weights: neither is that of a KL."""
    told = said_of(tmp_path, {"loss": loss}).loss
    assert told["beta"] is None and "another for the prior" in told["notes"][0]
    plain = said_of(tmp_path, {"loss": loss.replace("0.2 * (p - error)", "p + error")}).loss
    assert plain["beta"]["value"] == pytest.approx(1.0)


def test_what_is_one_number_already_is_no_sum_over_the_batch(tmp_path: Path) -> None:
    loss = said_of(tmp_path, {"loss": JUDGED}).loss
    rows = {t["kernel"]: t["reduction"] for t in loss["terms"]}
    assert rows["a penalty on parameters"] == ""


OF_THE_MODEL_ALONE = """
        n, w = self.low(torch.zeros(1, 3, device=x.device)).chunk(2, -1)
        kl = 0.5 * (w - logvar + (logvar.exp() + (mu - n).square()) / w.exp() - 1).sum(-1)
        return (error + kl).mean()"""
DENSITY_OF_THE_MODEL_ALONE = """
        n, w = self.low(torch.zeros(1, 3, device=x.device)).chunk(2, -1)
        prior = torch.distributions.Normal(n, nn.functional.softplus(w))
        q = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
        return (error + (q.log_prob(z) - prior.log_prob(z)).sum(-1)).mean()"""
DRAWN_FROM_THE_PRIOR = """
        m, v = self.low(mu).chunk(2, -1)
        n, w = self.top(z).chunk(2, -1)
        u, t = m + torch.exp(0.5 * v) * torch.randn_like(m), n + torch.exp(0.5 * w) * torch.randn_like(n)
        q = -0.5 * (logvar + (z - mu).square() / logvar.exp() + v + (u - m).square() / v.exp()).sum(-1)
        p = -0.5 * (z.square() + w + (u - n).square() / w.exp()).sum(-1)
        return (0.5 * (self.dec(t) - x).square().sum(-1) + q - p).mean()"""
TO_THE_PRIOR_ALONE = """
        s = torch.tanh(self.top(z)[:, :1])
        q = -0.5 * (logvar + (z - mu).square() / logvar.exp()).sum(-1)
        p = -0.5 * (z + 0.1 * s).square().sum(-1)
        return (error + q - p - (1 + 0.1 * (1 - s.square())).log().sum(-1)).mean()"""


@pytest.mark.parametrize(("loss", "divergences"), [(OF_THE_MODEL_ALONE, 1), (DENSITY_OF_THE_MODEL_ALONE, 1), (DRAWN_FROM_THE_PRIOR, 2)])
def test_a_divergence_has_one_row_with_all_of_its_prior(tmp_path: Path, loss: str, divergences: int) -> None:
    rows = said_of(tmp_path, {"loss": loss}).loss["terms"]
    assert [t["role"] for t in rows] == ["reconstruction"] + divergences * ["kl"]


def test_a_flow_to_the_prior_is_no_critic(tmp_path: Path) -> None:
    assert "score of z" not in said_of(tmp_path, {"loss": TO_THE_PRIOR_ALONE}).loss["objective"]


@pytest.mark.parametrize(
    ("summed", "weight"), [("0.5 * ({}).mean(-1)", "0.333333/B"), ("0.5 * ({}).sum(-1)", "1/B"), ("0.7 * ({}).sum(-1)", None)]
)
def test_a_kl_of_codes_that_nothing_is_drawn_from(tmp_path: Path, summed: str, weight: str | None) -> None:
    """The formula is measured without a draw; one that is off is none."""
    formula = "logvar.exp() + mu**2 - 1 - " + ("logvar" if weight else "2 * logvar")
    loss = f"return ((self.dec(mu) - x).square().sum(-1) + {summed.format(formula)}).mean()"
    text = MODEL.format(**(PLAIN | {"loss": loss})).replace(" + torch.exp(0.5 * logvar) * torch.randn_like(mu)", "")
    (tmp_path / "model.py").write_text(text)
    rows = check_target(Request(f"{tmp_path}/model.py:M", ("8x12",), device="none"), lambda _: None).loss["terms"]
    found = {t["kernel"]: t["weight"] for t in rows if t["role"] != "reconstruction"}
    assert found == ({"Gaussian KL to N(0, 1) of codes that are not drawn": weight} if weight else {"other": "?/B"})


PAIRS = """a, b = z[y[0]], z[y[1]]
        there = -torch.log(torch.sigmoid((a * b).sum(-1)) + 1e-15).mean()
        absent = -torch.log({absent} + 1e-15).mean()
        return there + absent + kl.mean() / len(x)"""
ABSENT = "1 - torch.sigmoid((z[y[0]] * z[y[1].flip(0)]).sum(-1))"


@pytest.mark.parametrize(("absent", "known"), [(ABSENT, True), (ABSENT.replace("torch.sigmoid", "0.5 * torch.sigmoid"), False)])
def test_a_likelihood_of_pairs(tmp_path: Path, absent: str, known: bool) -> None:
    """Products of two rows of z, scored as there or not there; another function of the product is not named."""
    loss = said_of(tmp_path, {"given": "x, y", "loss": PAIRS.format(absent=absent)}, "x=8x12", "y=2x10:int64[0,8)").loss
    kernels = [t["kernel"] for t in loss["terms"]]
    words = [f"Bernoulli likelihood of pairs that are {w}there, on products of their z" for w in ("", "not ")]
    assert words[0] in kernels and (words[1] in kernels) is known and loss["beta"] is None, loss


def test_products_of_the_draw_are_looked_for_in_two_runs_however_long_the_way_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = list[int]()
    replayed = Replay.__call__
    monkeypatch.setattr(Replay, "__call__", lambda self, *a, **k: runs.append(1) or replayed(self, *a, **k))  # type: ignore[func-returns-value]
    seen = []
    for layers in (2, 30):
        runs.clear()
        score = "s = (z[y[0]] * z[y[1]]).sum(-1)\n        " + "s = torch.tanh(s)\n        " * layers
        loss = score + "return -torch.log(torch.sigmoid(s) + 1e-15).mean() + kl.mean() / len(x)"
        said_of(tmp_path, {"given": "x, y", "loss": loss}, "x=8x12", "y=2x10:int64[0,8)")
        seen.append(len(runs))
    assert seen[1] < seen[0] + 20, seen


def test_a_weight_by_the_last_part_of_a_batch_is_no_power_of_it(tmp_path: Path) -> None:
    """1 / (B - 8) looks like 1 / B^2 between batches of 12 and 24."""
    terms = said_of(tmp_path, {"loss": "return (error + kl)[8:].mean()"}, "x=12x12").loss["terms"]
    assert [t["weight"] for t in terms] == ["0.125", "0.25"]  # of the squared error, half of it
    assert all(t["reduction"].startswith("at a fixed B") for t in terms)


def test_errors_of_drawn_elements_tell_no_beta() -> None:
    loss = check_target(fixture_of("ok_counts_dropped_and_scored").request("none"), lambda _: None).loss
    assert loss["beta"] is None and "counts elements that are drawn" in loss["notes"][0]
