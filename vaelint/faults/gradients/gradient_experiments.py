"""Experiments on where gradients arrive: nodes, parameters, optimizers, codebooks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.isolated import leaves_like
from vaelint.experiment.trial import SAME, Trial, tolerance
from vaelint.experiment.verdict import CannotMeasureError, Verdict, experiment, known, number, seen
from vaelint.faults.batch.batch_experiments import first_line
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.gradients.gradients_claims import (
    GradientReaches,
    GradientToScale,
    NoGradFromRecon,
    OptimizerGroups,
    Raises,
    Registered,
    SecondBackward,
    SecondStep,
    StepMovesNothing,
    VqGradients,
)
from vaelint.faults.gradients.unregistered import leaf_ids


@experiment(GradientReaches, "the gradient of the loss", "exactly 0")
def gradient_reaches(trial: Trial, claim: GradientReaches) -> Verdict:
    """Whether the loss's gradient stays away from some nodes and parameters (`reaches`: whether it arrives)."""
    return _arrives(trial, trial.loss, claim)


@experiment(NoGradFromRecon, "the gradient of the reconstruction", "exactly 0")
def no_grad_from_recon(trial: Trial, claim: NoGradFromRecon) -> Verdict:
    """Whether the reconstruction's gradient stays away from some nodes and parameters."""
    return _arrives(trial, _reconstruction(trial, claim.cut), claim)


def _reconstruction(trial: Trial, cut: fx.Node | None = None) -> torch.Tensor:
    """A scalar made of the decoder's outputs with random weights: a plain sum may be constant, as that of a softmax is.

    Where the cut lies behind the decoder, it is made of what the loss gets.
    """
    nodes = reconstruction_ends(trial.model)
    if cut is not None and cut in trial.model.flow.descendants(*nodes):
        nodes = [cut]
    ends = [_as_tensor(trial, n) for n in nodes]
    if not ends:
        raise CannotMeasureError("no reconstruction was found")
    generator = torch.Generator().manual_seed(11)
    return torch.stack(
        [(v.double() * torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device)).sum() for v in ends]
    ).sum()


def _as_tensor(trial: Trial, node: fx.Node) -> torch.Tensor:
    """The value of a node; of a plain number that was read from a tensor, a tensor without a gradient."""
    val = trial.node(node).meta.get("val")
    return torch.tensor(float(val)) if isinstance(val, int | float) else trial.value(node)


def _arrives(trial: Trial, of: torch.Tensor, claim: GradientReaches | NoGradFromRecon) -> Verdict:
    nodes = [*map(known, claim.nodes), *([claim.node] if claim.node is not None else [])]
    names = list(claim.parameters)
    tensors = [trial.value(n) for n in nodes] + _named(trial, names)
    if not tensors:
        raise CannotMeasureError("no value to ask for was named")
    got = trial.gradient(of, tensors)
    sizes = [float(g.detach().abs().max()) for g in got if g is not None and g.numel()]
    size = math.nan if any(math.isnan(s) for s in sizes) else max(sizes, default=0.0)
    what = ", ".join([trial.model.written(n) for n in nodes] + names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    measured = f"the largest gradient at {what} is {number(size)}" if size else f"no gradient at {what}"
    return seen(size, 0.0, measured, claimed=claim.reaches)


def _named(trial: Trial, names: Iterable[str]) -> list[torch.Tensor]:
    known = dict(trial.record.model.named_parameters())
    missing = [n for n in names if n not in known]
    if missing:
        raise CannotMeasureError(f"the model has no parameter {missing[0]}")
    return [known[n] for n in names]


@experiment(GradientToScale, "the loss with other scales, z held fixed", f"{SAME}, an eighth of it")
def gradient_to_scale(trial: Trial, claim: GradientToScale) -> Verdict:
    """Whether the posterior's scale enters the loss only by way of z: nothing then holds it up."""
    site: Site = claim.site
    if not site.scale_heads:
        raise CannotMeasureError("the scale has no head")
    heads = leaves_like(trial, site.scale_heads, spread=2.0)
    loss = trial.loss_node
    fixed = {s.z: trial.value(s.z).detach() for s in trial.model.sites}
    same = {n: trial.value(n).detach() for n in site.scale_heads}
    before = float(trial.recompute([loss], {**same, **fixed})[loss].detach().double().sum())
    after = float(trial.recompute([loss], {**{n: v.detach() for n, v in heads.items()}, **fixed})[loss].detach().double().sum())
    gap = abs(after - before) / (abs(before) or 1.0)
    told = f"the loss is {number(before)}, and {number(after)} with other scales and the same z"
    return seen(gap, tolerance(trial.loss) / 8, told, claimed=False)


@experiment(Registered, "the parameters that the step uses, against model.parameters()", "exact")
def registered(trial: Trial, claim: Registered) -> Verdict:
    """Whether tensors that get a gradient are missing from `model.parameters()`."""
    known = {id(p) for p in trial.record.model.parameters()}
    held_ones = [n for n in trial.record.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    held_ones = [n for n in held_ones if n.op == "get_attr" or n.meta["val"].is_leaf]  # made before the step, or without a history
    strange = list({id(v): v for n in held_ones if (v := n.meta["val"]).requires_grad and not leaf_ids(v) & known}.values())
    got = trial.gradient(trial.loss, strange) if trial.model.has_loss else strange
    used = [v for v, g in zip(strange, got, strict=True) if g is not None]
    if not used:  # of an observed training, a layer that no network holds keeps the gradient that the script's backward gave it
        layers = [c.module for c in trial.record.calls if c.path == "?"]
        used = list({id(p): p for m in layers for p in m.parameters() if p.grad is not None and id(p) not in known}.values())
    count = sum(v.numel() for v in used)
    held = sum(p.numel() for p in trial.record.model.parameters())
    return Verdict(bool(used), f"{len(used)} tensors ({count} numbers) get a gradient and are not among the {held} of model.parameters()")


@experiment(VqGradients, "the gradients on both sides of the lookup of the nearest code", "exactly 0")
def vq_gradients(trial: Trial, claim: VqGradients) -> Verdict:
    """Whether a gradient is missing: the reconstruction's in the encoder, the loss's in the codes, the other terms' in the encoder."""
    model = trial.model
    what, codes = claim.what, list(claim.parameters)
    if what == "codebook":
        return _arrives(trial, trial.loss, GradientReaches("", parameters=codes))
    held = gradients_of(model).names(set().union(*(model.flow.ancestors(b.index) for b in codebooks_of(model))))
    encoder = GradientReaches("", parameters=sorted(held - set(codes)))
    if what == "encoder":
        return _arrives(trial, _reconstruction(trial), encoder)
    others = [trial.value(leaf.node).sum() for t in model.terms if t.role != "reconstruction" for leaf in t.leaves if trial.has(leaf.node)]
    if not others:
        raise CannotMeasureError("there is no term but the reconstruction")
    return _arrives(trial, torch.stack([v.double() for v in others]).sum(), encoder)


@experiment(OptimizerGroups, "the parameters that get a gradient, against those the optimizer holds", "exactly 0")
def optimizer_groups(trial: Trial, claim: OptimizerGroups) -> Verdict:
    """Whether the named parameters exist, train, and get a gradient: so that leaving them out of the optimizer matters."""
    names = list(claim.parameters)
    if not names:
        raise CannotMeasureError("the optimizer's parameters were not named")
    got = trial.gradient(trial.loss, _named(trial, names))
    moved = [n for n, g in zip(names, got, strict=True) if g is not None and bool((g != 0).any())]
    told = f"{len(moved)} of {len(names)} parameters without an optimizer get a gradient: {', '.join(moved[:3])}"
    return seen(float(len(moved)), 0.0, told)


_FREED = "backward through the graph a second time"


def _backward_in_turn(trial: Trial, losses: list[tuple[torch.Tensor, bool]]) -> str | None:
    """What the backward passes of some losses raise, one after the other, each with whether it keeps the graph; None if all run."""
    parameters = [p for p in trial.record.model.parameters() if p.requires_grad]
    for loss, keeps in losses:
        try:
            torch.autograd.grad(loss.sum(), parameters, retain_graph=keeps, allow_unused=True)
        except RuntimeError as error:
            return first_line(error)
    return None


@experiment(SecondBackward, "the backward passes of the step, one after the other", "raises or not")
def second_backward(trial: Trial, claim: SecondBackward) -> Verdict:
    """Whether the step's own backward calls raise for a graph that is freed."""
    again = trial.again(as_is=True)
    failure = again.record.failure
    raised = first_line(failure.error) if failure is not None else ""
    return Verdict(_FREED in raised, f"it raises {raised[:120]}" if raised else f"all {len(again.record.backwards)} run")


@experiment(StepMovesNothing, "the parameters before and after the step", "exactly equal")
def step_moves_nothing(trial: Trial, claim: StepMovesNothing) -> Verdict:
    """Whether the step, run as it is, leaves every parameter of its optimizer as it was."""
    built = trial.runner.build()
    was = {n: p.detach().clone() for n, p in built.model.named_parameters() if not claim.of or n in claim.of}
    if (failure := trial.again(built=built, as_is=True).record.failure) is not None:
        raise CannotMeasureError(first_line(failure.error))
    moved = sum(int((p.detach() != was[n]).sum()) for n, p in built.model.named_parameters() if n in was)
    return Verdict(moved == 0, f"{moved} of {sum(p.numel() for p in was.values())} numbers changed")


@experiment(SecondStep, "two steps of one model, each with its backward pass", "raises or not")
def second_step(trial: Trial, claim: SecondStep) -> Verdict:
    """Whether the second step's backward pass goes through the first step's graph."""
    first, second = trial.twice()
    raised = _backward_in_turn(first, [(first.loss, False), (second.loss, False)])
    return Verdict(raised is not None and _FREED in raised, f"it raises {raised[:120]}" if raised else "both run")


@experiment(Raises, "the forward and backward pass", "raises or not")
def raises(trial: Trial, claim: Raises) -> Verdict:
    """Whether the run raises; or would on other values, where a named value leaves the interval [low, high]."""
    failure = trial.record.failure
    if failure is not None:
        return Verdict(True, f"it raises {first_line(failure.error)}")
    loss = trial.loss
    try:
        torch.autograd.grad(loss, [p for p in trial.record.model.parameters() if p.requires_grad], retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        return Verdict(True, f"backward raises {first_line(error)}")
    if not bool(loss.isfinite().all()):
        return Verdict(True, f"the loss is {number(float(loss.detach().sum()))}")
    node = claim.node
    if node is not None and claim.low is not None and claim.high is not None:
        val = trial.value(node).detach()
        low, high = float(val.min()), float(val.max())
        beyond = max(claim.low - low, high - claim.high, 0.0)
        return seen(beyond, 0.0, f"{trial.model.written(node)} is within [{number(low)}, {number(high)}]")
    return Verdict(False, "it runs")
