"""Wrong findings, put on models that are right: each experiment must refute its own, or say that it cannot tell, and confirm none.

And right findings, put on models that are wrong and show it badly: all weights tiny, or so large that every layer saturates, or NaN among
them. There an experiment may say that it cannot tell; it must never refute.

Run as a script, it prints for each experiment its claim, its tolerance, and how often it refuted a wrong finding, and a right one:

    PYTHONPATH=tests/support python tests/support/injections.py
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from otherclaims import TWINS, WHOLE, by_op
from realpass import SLOTS, measured, traced, write
from torch import fx

from vaelint import claims
from vaelint.anatomy.model import Model
from vaelint.core.finding import Certainty
from vaelint.experiment.runs import Runner
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import experiment_of, experiments
from vaelint.rule import Claim

Build = Callable[[Model], Claim]
Slots = dict[str, str]

SOFTPLUS = {"std": "F.softplus(logvar) + 1e-4", "kl": "0.5 * (mu**2 + std**2 - 1 - 2 * std.log()).sum()"}
RIGHT: dict[str, Slots] = {
    "plain": {},
    "batch normalisation": {"init": "self.norm = nn.BatchNorm1d(12)", "flat": "self.norm(x)"},
    "dropout": {"init": "self.drop = nn.Dropout(0.3)", "flat": "self.drop(x)"},
    "functional dropout": {"flat": "F.dropout(x, 0.3, self.training)"},
    "a standard deviation by softplus": SOFTPLUS,
    "sums over the batch": {"loss": "rec + weight * kl"},
    "float64": {"init": "self.double()", "flat": "x.double()", "rec": "F.mse_loss(recon, x.double(), reduction='sum')"},
    "bfloat16": {"init": "self.bfloat16()", "flat": "x.bfloat16()", "rec": "F.mse_loss(recon.float(), x, reduction='sum')",
                 "kl": "-0.5 * (1 + logvar.float() - mu.float()**2 - logvar.float().exp()).sum()"},
    "float16": {"init": "self.half()", "flat": "x.half()", "rec": "F.mse_loss(recon.float(), x, reduction='sum')",
                "kl": "-0.5 * (1 + logvar.float() - mu.float()**2 - logvar.float().exp()).sum()"},
}  # fmt: skip
"""Models that are right, with what experiments have to keep clear of: mixing and drawing by design, other types of numbers."""

LOGITS = {"out": "torch.sigmoid(self.dec(code))"}


def scale_unread(m: Model) -> Claim:
    """The claim that the decoder is given nothing of the spread."""
    site = (m.sites or m.idle_sites)[0]
    assert site.mu is not None and site.scale is not None
    return claims.ScaleUnread("", mean=site.mu, scale=site.scale, ends=[r.pair.recon for r in m.recons])


def of_site(kind: type[Claim], **about: Any) -> Build:
    """A claim about the draw."""
    return lambda m: kind("", site=(m.sites or m.idle_sites)[0], **about)  # type: ignore[call-arg]  # each of these has a site


def of_kl(kind: type[Claim]) -> Build:
    """A claim about the KL."""
    return lambda m: kind("", fact=m.kls[0])  # type: ignore[call-arg]  # and a fact


def of_recon(kind: type[Claim]) -> Build:
    """A claim about the reconstruction term."""
    return lambda m: kind("", fact=m.recons[0])  # type: ignore[call-arg]


def ratio_is(value: float) -> Build:
    """The claim that beta is `value`, at the sizes of the run."""

    def build(m: Model) -> Claim:
        beta = m.betas[0]
        return claims.GradientRatio("", beta=replace(beta, scaling=replace(beta.scaling, value=value)))

    return build


def guarded(model: Model, guard: fx.Node) -> Claim:
    """The claim that the constant of `guard` is nothing in its precision."""
    return claims.GuardVanishes("", guard=guard, operand=guard, ends=(0.0, 1.0), dtype=guard.meta["val"].dtype)


def elbo(model: Model, value: Callable[[fx.Node], torch.Tensor]) -> float:
    """The loss of the right model, from values of the run."""
    site, pair = model.sites[0], model.recons[0].pair
    assert site.mu is not None and pair.target is not None
    mu, logvar, recon, x = (value(n).detach().double() for n in (site.mu, site.scale_heads[0], pair.recon, pair.target))
    return float(((recon - x) ** 2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / x.shape[0]


CASES: list[tuple[str, Slots, Slots, Build]] = [
    # experiment, what makes it so, what both models have in common, the claim
    ("noise_rows", {"eps": "torch.randn(4)"}, {}, of_site(claims.NoiseRows, equal=True)),
    ("noise_axes", {"eps": "torch.randn(std.size(0), 1)"}, {}, of_site(claims.NoiseAxes, axes=["L"])),
    ("noise_moments", {"eps": "torch.rand_like(std)"}, {}, of_site(claims.NoiseMoments)),
    ("noise_moments: spread", {"eps": "0.5 * torch.randn_like(std)"}, {}, of_site(claims.NoiseMoments)),
    ("noise_repeats", {"eps": "torch.randn(std.shape, generator=torch.Generator().manual_seed(3))"}, {}, of_site(claims.NoiseRepeats)),
    ("z_unused", {"code": "mu"}, {}, of_site(claims.ZUnused)),
    ("scale_unread", {"code": "mu"}, {}, scale_unread),
    ("scale_negative", {"std": "logvar"}, {}, of_site(claims.ScaleNegative)),
    ("scale_curve", {"std": "logvar.exp()"}, {}, of_site(claims.ScaleCurve, reads="logvar")),
    ("kl_closed_form", {"kl": "-0.5 * (1 + logvar - mu**2 - std).sum()"}, {}, of_kl(claims.KlClosedForm)),
    ("kl_closed_form: reversed", {"kl": "0.5 * (logvar + (1 + mu**2) / logvar.exp() - 1).sum()"}, {}, of_kl(claims.KlClosedForm)),
    ("kl_gradient", {"weight": "-1.0"}, {}, of_kl(claims.KlGradient)),
    ("gradient_ratio", {"rec": "F.mse_loss(recon, x) * x.size(0)"}, {}, ratio_is(12.0)),
    ("gradient_ratio: half", {"kl": "-(1 + logvar - mu**2 - logvar.exp()).sum()"}, {}, ratio_is(2.0)),
    ("recon_gradient", {"rec": "-F.mse_loss(recon, x, reduction='sum')"}, {}, of_recon(claims.ReconGradient)),
    ("kernel", {"rec": "F.binary_cross_entropy(x, recon, reduction='sum')"},
     {"rec": "F.binary_cross_entropy(recon, x, reduction='sum')", **LOGITS}, of_recon(claims.Kernel)),
    ("gradient_reaches", {"loss": "(rec + weight * kl.detach()) / x.size(0)"}, {},
     lambda m: claims.GradientReaches("", node=next(t.core for t in m.terms if t.role == "kl"))),
    ("gradient_reaches: parameters", {"out": "self.dec(code.detach())"}, {"loss": "rec"},
     lambda m: claims.GradientReaches("", parameters=["mu.weight", "mu.bias"])),
    ("no_grad_from_recon", {"code": "z.detach()"}, {}, lambda m: claims.NoGradFromRecon("", nodes=[m.sites[0].mu])),
    ("gradient_to_scale", {"loss": "rec / x.size(0)"}, {}, of_site(claims.GradientToScale)),
    ("broadcast_shape", {"out": "self.dec(code).unsqueeze(1)"}, {"rec": "((recon - x) ** 2).sum()"},
     lambda m: claims.BroadcastShape("", nodes=[m.recons[0].pair.recon, m.recons[0].pair.target])),
    ("shuffle_target", {"out": "self.dec(code).unsqueeze(1)"}, {"rec": "((recon - x) ** 2).mean()"},
     lambda m: claims.ShuffleTarget("", pair=m.recons[0].pair)),
    ("poison_row", {"flat": "x.transpose(0, 1).reshape(x.size(0), 12)"}, {}, lambda m: claims.PoisonRow("", node=m.sites[0].mu)),
    ("rerun_batch", {"flat": "x.view(8, 12)"}, {}, lambda m: claims.RerunBatch("", size=5)),
    ("squeeze_single", {"flat": "x.squeeze()"}, {}, lambda m: claims.SqueezeSingle("", node=m.sites[0].mu)),
    ("divisor_fixed", {"loss": "(rec + weight * kl) / 8"}, {}, lambda m: claims.DivisorFixed("", node=m.record.loss)),
    ("value_range", LOGITS, {}, lambda m: claims.ValueRange("", node=m.recons[0].pair.recon, low=0.0, high=1.0)),
    ("value_range: outside", {"rec": "F.mse_loss(recon, 3 * x)"}, {},
     lambda m: claims.ValueRange("", node=m.recons[0].pair.target, outside=(0.0, 1.0))),
    ("value_overflow", {"std": "torch.exp(logvar)"}, {"std": "torch.exp(logvar.clamp(max=5))"},
     lambda m: claims.ValueOverflow("", node=by_op(m, "exp", last=False), operand=m.sites[0].scale_heads[0])),
    ("log_of_zero", {"rec": "-(x * torch.log(torch.sigmoid(recon))).sum()"}, {"rec": "-(x * torch.log(torch.sigmoid(recon) + 1e-6)).sum()"},
     lambda m: claims.LogOfZero("", node=by_op(m, "log"))),
    ("non_finite", {"rec": "F.mse_loss(recon, x) / (recon - recon).sum()"}, {}, lambda m: claims.NonFinite("")),
    ("same_values", {"rec": "F.mse_loss(recon, x + torch.randn_like(x))"}, {},
     lambda m: claims.SameValues("", nodes=[m.recons[0].pair.target, *m.record.inputs.values()], equal=False)),
    ("heads_equal", {"init": "self.mu = self.logvar"}, {},
     lambda m: claims.HeadsEqual("", nodes=(m.sites[0].mu_heads[0], m.sites[0].scale_heads[0]))),
    ("data_behind_encoder", {"rec": "F.mse_loss(recon, recon.detach() * 2)"}, {}, lambda m: claims.DataBehindEncoder("")),
    ("registered", {"init": "self.extra = [nn.Linear(12, 12)]", "flat": "self.extra[0](x)"}, {}, lambda m: claims.Registered("")),
    ("optimizer_groups", {}, {"out": "self.dec(code.detach())", "loss": "rec", "init": "self.idle = nn.Linear(2, 2)"},
     lambda m: claims.OptimizerGroups("", parameters=["dec.0.weight"])),
    ("raises", {"loss": "rec + weight * kl + x.sum(1)"}, {}, lambda m: claims.Raises("")),
    ("raises: range", {"out": SLOTS["out"]}, LOGITS,
     lambda m: claims.Raises("", node=m.recons[0].pair.recon, low=0.0, high=1.0)),
    ("weight_has_no_effect", {}, {"init": "self.beta = 4.0"}, lambda m: claims.WeightHasNoEffect("", name="beta")),
    ("weight_stays", {}, {"init": "self.beta = 0.0"}, lambda m: claims.WeightStays("", name="beta")),
    ("device_error", {"eps": "torch.randn(std.size(0), 4)"}, {}, lambda m: claims.DeviceError("", node=m.sites[0].z)),
    ("unmoved_by_data", {"code": "eps"}, {}, lambda m: claims.UnmovedByData("", node=by_op(m, "linear"))),
    ("dtype_is", {"rec": "((recon - x) ** 2 * torch.ones(12, dtype=torch.float64)).sum()"},
     {"rec": "((recon - x) ** 2 * torch.ones(12)).sum()"},
     lambda m: claims.DtypeIs("", node=by_op(m, "sum", last=False), dtype="float64")),
    ("values_left", {"flat": "x // 2"}, {"flat": "x * 2"},
     lambda m: claims.ValuesLeft("", source=m.record.inputs["x"], node=next(iter(m.record.inputs["x"].users)))),
    ("constant_data", {"flat": "x / x.std(1, keepdim=True)"}, {"flat": "x / (x.std(1, keepdim=True) + 1e-3)"},
     lambda m: claims.ConstantData("", input=m.record.inputs["x"], node=by_op(m, "div", last=False))),
    ("guard_vanishes", {"rec": "-(x * torch.log(torch.sigmoid(recon).half() + 1e-8)).sum()"},
     {"rec": "-(x * torch.log(torch.sigmoid(recon) + 1e-8)).sum()"}, lambda m: guarded(m, by_op(m, "add", last=False, of="sigmoid"))),
    ("wraps_around", {"flat": "((x * 200).to(torch.uint8) - 128).float()"}, {"flat": "((x * 200).to(torch.int16) - 128).float()"},
     lambda m: claims.WrapsAround("", node=by_op(m, "sub", last=False), source=by_op(m, "to", last=False), ends=(0, 200))),
    ("second_step", {"init": "self.kept = torch.zeros(())", "loss": "(vars(self).update(kept=self.kept + rec + kl), self.kept)[1]"},
     {"init": "self.kept = torch.zeros(())"}, lambda m: claims.SecondStep("")),
    ("eval_offset", {"z": "mu + std * (eps if self.training else 1.0)"}, {}, of_site(claims.EvalOffset, multiple=1.0)),
    ("loss_against_repaired", {"weight": "0.3"}, {},
     lambda m: claims.LossAgainstRepaired("", repaired=lambda value: elbo(m, value))),
]  # fmt: skip
"""Each with the change that makes it so; without it, the claim is wrong."""

STATE: list[tuple[str, Slots, Claim]] = [
    ("weight_has_no_effect", {"init": "self.beta = 4.0", "weight": "self.beta"}, claims.WeightHasNoEffect("", name="beta")),
    ("weight_stays", {"init": "self.beta = 0.0", "weight": "self.grow()", "method": "self.beta += 0.1; return self.beta"},
     claims.WeightStays("", name="beta")),
    ("optimizer_groups", {"out": "self.dec(code.detach())", "loss": "rec", "init": "self.idle = nn.Linear(2, 2)"},
     claims.OptimizerGroups("", parameters=["idle.weight"])),
    ("gradient_to_scale", {"kl": "-0.5 * (1 + logvar - mu**2 - logvar.exp()).clamp(max=-0.01).sum()"},
     claims.GradientReaches("", parameters=["logvar.weight"])),
]  # fmt: skip
"""Claims about the state of right models."""


WEAK = {
    "tiny": "[p.data.mul_(1e-3) for p in self.parameters()]",
    "saturated": "[p.data.mul_(60) for p in self.parameters()]",
    "NaN": "self.enc.weight.data[0, 0] = float('nan')",
    "zero": "[p.data.zero_() for p in self.parameters()]",
}
"""What a constructor does at its end that makes a wrong model look like a right one at initialisation."""

HIDDEN: list[tuple[str, Slots, Build]] = [
    # experiment, a model that is wrong where it hardly shows, the claim that is right of it
    ("poison_row", {"flat": "F.softmax(1e-3 * x, dim=0)"}, lambda m: claims.PoisonRow("", node=by_op(m, "softmax"))),
    ("poison_row: behind", {"flat": "x + 1e-6 * F.softmax(x, dim=0)"}, lambda m: claims.PoisonRow("", node=by_op(m, "softmax"))),
    ("gradient_ratio: squashed", {"out": "torch.sigmoid(400 * self.dec(code))",
     "rec": "-(x * torch.log(recon) + (1 - x) * torch.log(1 - recon)).mean() * x.size(0)"}, lambda m: ratio_is(m.betas[0].value)(m)),
    ("no_grad_from_recon: a last layer of zeros", {"init": "[nn.init.zeros_(p) for p in self.dec[2].parameters()]"},
     lambda m: claims.NoGradFromRecon("", nodes=[m.sites[0].mu], reaches=True)),
    ("z_unused: hardly drawn", {"code": "mu", "init": "nn.init.constant_(self.logvar.bias, -40.0)"}, of_site(claims.ZUnused)),
    ("class_sums: nearly uniform", {"flat": "F.softmax(1e-3 * self.enc2(x), 0)", "init": "self.enc2 = nn.Linear(12, 12)"},
     lambda m: claims.ClassSums("", node=by_op(m, "softmax"), axis=1)),
    ("squeeze_single: a shape, of NaN", {"flat": "x.squeeze()", "init": WEAK["NaN"]},
     lambda m: claims.SqueezeSingle("", node=m.sites[0].mu)),
    ("rerun_batch: a shape, of NaN", {"eps": "torch.randn(4) * float('nan')"}, lambda m: claims.RerunBatch("", node=m.sites[0].noise[0])),
    ("loss_against_repaired: beside a huge term", {"weight": "0.3", "init": WEAK["saturated"]},
     lambda m: claims.LossAgainstRepaired("", repaired=lambda value: elbo(m, value))),
]  # fmt: skip
"""Right findings that only larger weights, or other draws, bring to light."""

OTHER_BATCHES = (5, 21)
"""Batch sizes at which these are injected once more, with `everywhere`."""

TRUE = {
    ("batch normalisation", "squeeze_single"),  # it cannot train on a batch of one
    ("a standard deviation by softplus", "scale_curve"),  # the head is no log-variance
    ("a standard deviation by softplus", "loss_against_repaired"),
    ("sums over the batch", "loss_against_repaired"),
}
"""Claims of `CASES` that are right of one of the models that are right."""


def outcomes(variants: Iterable[str], folder: Path, *, everywhere: bool = False) -> dict[str, Counter[str]]:
    """How often each experiment called a wrong claim refuted, confirmed, or could not tell. `folder` becomes the working directory.

    With `everywhere`, claims that need a change of the model are made of each variant that leaves room for it, not of the plain one only,
    and those about models of another kind at several batch sizes.
    """
    variants = list(variants)
    os.chdir(folder)
    counts: dict[str, Counter[str]] = defaultdict(Counter)

    def note(claims: list[Claim], model: Model) -> None:
        for claim, finding in zip(claims, measured(model, *claims).findings, strict=True):
            counts[claim.in_words()][finding.certainty.value] += 1
            if finding.certainty is not Certainty.REFUTED and finding.evidence is not None:
                counts[claim.in_words()][f"{finding.evidence.measured}: {finding.evidence.detail}"[:120]] += 1

    for variant in variants:
        write(folder, **RIGHT[variant])
        model = traced()
        plain = [(name, build) for name, so, shared, build in CASES if so and not shared]
        note([build(model) for name, build in plain if (variant, name.partition(":")[0]) not in TRUE], model)
    for _, so, shared, build in CASES:
        for variant in variants if everywhere else ["plain"]:
            if so and shared and not shared.keys() & RIGHT[variant].keys():
                write(folder, **{**RIGHT[variant], **shared})
                model = traced()
                note([build(model)], model)
    for _, slots, claim in STATE:
        for variant in variants if everywhere else ["plain"]:
            if variant == "plain" or not slots.keys() & RIGHT[variant].keys():
                write(folder, **{**RIGHT[variant], **slots})
                note([claim], traced())
    for _, text, inputs, step, said in (*WHOLE, *TWINS):
        for batch in (None, *OTHER_BATCHES) if everywhere else (None,):
            if text:
                (folder / "model.py").write_text(text)
            else:
                write(folder)
            model = traced(tuple(_of_batch(i, batch) for i in inputs), step)
            note(list(said(model)), model)
    for device in ("cuda:0", "cuda:1", "cuda") if everywhere else ("cuda:0",):
        counts["autocast_refuses"][_of_a_gpu_that_ran(device).value] += 1
    return counts


def of_weak_models(folder: Path, *, everywhere: bool = False, one_in: int = 1) -> dict[str, Counter[str]]:
    """How often each experiment called a right claim confirmed, refuted, or could not tell, on models that hide what is wrong.

    Without `everywhere` each claim is made of one weak model, in turn; one in so many of them where `one_in` says so. `folder` becomes
    the working directory.
    """
    os.chdir(folder)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    models = [(name, {**shared, **so}, build) for name, so, shared, build in CASES if name != "device_error"]  # it reads no values
    tried = [
        (name, {**slots, "init": "; ".join(filter(None, [slots.get("init"), WEAK[weak]]))}, build)
        for n, (name, slots, build) in enumerate(models)
        for weak in (WEAK if everywhere else [list(WEAK)[n % len(WEAK)]])
    ]
    for name, slots, build in (*HIDDEN, *tried[::one_in]):
        write(folder, **slots)
        model = traced()
        finding = measured(model, build(model)).findings[0]  # what the pass itself saw comes after it
        counts[name.partition(":")[0]][finding.certainty.value] += 1
        if finding.certainty is Certainty.REFUTED and finding.evidence is not None:
            counts[name.partition(":")[0]][f"{slots.get('init', '')}: {finding.evidence.measured}"] += 1
    return counts


def _of_batch(written: str, batch: int | None) -> str:
    """An input with another batch size: `x=8x12` as `x=5x12`."""
    name, _, shape = written.rpartition("=")
    return written if batch is None else f"{name}={batch}x{shape.partition('x')[2]}"


def _of_a_gpu_that_ran(device: str) -> Certainty:
    """The verdict on "autocast refuses it" for a run that came through on a GPU, which needs none to be judged."""
    known = experiment_of(claims.AutocastRefuses)
    ran = Trial.__new__(Trial)
    ran.elsewhere, ran.runner = None, cast(Runner, SimpleNamespace(device=device))
    return Certainty.REFUTED if known is not None and known.run(ran, claims.AutocastRefuses("")).holds is False else Certainty.CONFIRMED


def table(counts: dict[str, Counter[str]]) -> str:
    """Experiment, claim, tolerance, and what became of the findings."""
    lines = [
        "| experiment | what it measures | tolerance | injected | refuted | not measured | confirmed |",
        "|---|---|---|---|---|---|---|",
    ]
    for known in experiments():
        name = known.kind.in_words()
        got = counts.get(name, Counter())
        parts = [got[c.value] for c in (Certainty.REFUTED, Certainty.SUSPECTED, Certainty.CONFIRMED)]
        undecided = parts[1] + got[Certainty.PROVED.value]
        lines.append(
            f"| {name} | {known.claim} | {known.tolerance} | {parts[0] + undecided + parts[2]} | {parts[0]} | {undecided} | {parts[2]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print("Wrong findings on right models:\n")
        print(table(outcomes(RIGHT, Path(made), everywhere=True)))
        print("\nRight findings on wrong models that hide it:\n")
        print(table(of_weak_models(Path(made), everywhere=True)))
