"""Repairs of the reconstruction term: its target, its arguments, its sign, and the activation that belongs to its likelihood."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from torch import fx

from vaelint.core.edits import Proposal
from vaelint.faults.kl.kl_repairs import negated, other_readings, other_sign
from vaelint.faults.likelihood.likelihood_claims import (
    ActivationForData,
    CleanTarget,
    DropOnes,
    IgnorePadding,
    LikelihoodFormula,
    LossOnLogits,
    ReconSign,
    RescaleTarget,
    SameShape,
    SwapArguments,
)
from vaelint.faults.sampling.posterior_repairs import activation_calls, activation_made, function_of
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.source.spot import Spot, propose

_ON_LOGITS = {"binary_cross_entropy": "binary_cross_entropy_with_logits", "BCELoss": "BCEWithLogitsLoss"}


def loss_call(bench: Bench, meet: fx.Node) -> Spot | None:
    """The call of a loss, or where its layer is made."""
    return bench.spot(meet)


def loss_made(bench: Bench, meet: fx.Node) -> Spot | None:
    """Where the layer that computes a loss is made."""
    layer = next((c.module for c in bench.record.calls if c.path == meta_path(meet)), None)
    place = bench.record.births.get(id(layer)) if layer is not None else None
    return bench.spot(place) if place is not None else None


def meta_path(node: fx.Node) -> str:
    """The path of the module that a node ran in."""
    return str(node.meta.get("module") or "")


@repair(LossOnLogits)
def loss_on_logits(bench: Bench, wanted: LossOnLogits) -> Iterator[Proposal]:
    """The form of the loss that applies the sigmoid itself."""
    for spot in (loss_call(bench, wanted.meet), loss_made(bench, wanted.meet)):
        if spot is not None and spot.called in _ON_LOGITS:
            yield from propose("compares logits: the loss applies the sigmoid itself", spot.named(_ON_LOGITS[spot.called]))


@repair(SwapArguments)
def swap_arguments(bench: Bench, wanted: SwapArguments) -> Iterator[Proposal]:
    """Reconstruction first, data second."""
    spot = bench.spot(wanted.meet)
    if spot is None:
        return
    pair = [a for a in (spot.keyword("input"), spot.keyword("target")) if a is not None] or spot.arguments[:2]
    if len(pair) == 2:
        a, b = pair
        yield from propose(f"gives {b.text} as prediction and {a.text} as target", a.to(b.text), b.to(a.text))


@repair(ReconSign)
def recon_sign(bench: Bench, wanted: ReconSign) -> Iterator[Proposal]:
    """The other sign of the reconstruction term."""
    fact = wanted.fact
    says = "changes the sign of the reconstruction term"
    spot = bench.spot(fact.pair.meet)
    if spot is not None:
        outer = spot
        for part in spot.around():  # `p.log_prob(x).sum(-1).mean()`: the minus goes in front of the whole
            if not isinstance(part.node, ast.Call | ast.Attribute) or not isinstance(part.node, ast.expr):
                break
            outer = part
        for edit in negated(outer):
            yield from propose(says, edit)
    for node in reversed(fact.pair.leaf.chain):
        joined = bench.spot(node)
        if joined is not None and (flipped := other_sign(joined)) is not None:
            yield from propose(says, flipped)


@repair(CleanTarget)
def clean_target(bench: Bench, wanted: CleanTarget) -> Iterator[Proposal]:
    """The clean input as the target."""
    spot, meet, target = bench.spot(wanted.place), wanted.meet, wanted.target
    if spot is None or target is None:
        return
    names = bench.scope(meet, spot.span) or bench.scope_at(spot) or bench.scope(meet)
    inputs = set(bench.record.inputs.values())
    clean = [n for n, held in names.items() if held in inputs and shape(held) == shape(target)]
    wrong = {n for n, held in names.items() if held is target}
    value = spot.spot(spot.node.value) if isinstance(spot.node, ast.Assign) else None
    for name in clean:
        if value is not None:
            yield from propose(f"compares with {name}, the clean input", value.to(name))
        for part in spot.inside() if value is None else ():
            if part.text in wrong:
                yield from propose(f"compares with {name}, the clean input", part.to(name))


@repair(ActivationForData)
def activation_for_data(bench: Bench, wanted: ActivationForData) -> Iterator[Proposal]:
    """The activation whose range is that of the data."""
    node: fx.Node | None = wanted.activation
    data: tuple[float, float] = wanted.data
    if node is None:
        return
    name = {(-1.0, 1.0): "tanh", (0.0, 1.0): "sigmoid"}.get(data)
    made = activation_made(bench, node)
    layer = {"tanh": "Tanh", "sigmoid": "Sigmoid", None: "Identity"}[name]
    says = f"ends in {name}, whose range is that of the data" if name else f"leaves out the {ops.op(node)}, which cannot reach the data"
    for spot in activation_calls(bench, node):
        if spot.operands:
            inner = spot.operands[0].text
            yield from propose(says, spot.to(function_of(spot.code, name, inner) if name else inner))
    if made is not None and (spelled := made.code.spelling(f"torch.nn.{layer}")):
        yield from propose(says, made.to(f"{spelled}()"))


@repair(RescaleTarget)
def rescale_target(bench: Bench, wanted: RescaleTarget) -> Iterator[Proposal]:
    """The target brought to [0, 1]."""
    low, high = wanted.data
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return
    target: fx.Node | None = wanted.target
    says = f"brings the target from [{low:g}, {high:g}] to [0, 1]"
    spots = [bench.spot(target)] if target is not None and target.op == "call_function" else []
    meet, names = bench.spot(wanted.meet), bench.scope(wanted.meet)
    if meet is not None:
        spots += [a for a in meet.operands if names.get(a.text) is target]
    for spot in spots:
        if spot is not None:
            shifted = spot.atom if low == 0 else f"({spot.text} {'+' if low < 0 else '-'} {abs(low):g})"
            yield from propose(says, spot.to(f"{shifted} / {float(high - low)!r}"))


@repair(LikelihoodFormula)
def likelihood_formula(bench: Bench, wanted: LikelihoodFormula) -> Iterator[Proposal]:
    """A variance where a log-variance stands, a sign, or the half of the log term."""
    node: fx.Node = wanted.node
    spot, names = bench.spot(node), bench.scope(node)
    if spot is None:
        return
    raw = set(wanted.extra)
    for source in wanted.extra:
        raw |= set(bench.model.flow.ancestors(source))
    for part in spot.statement().inside():
        for says, edit in other_readings(part, names, raw):
            yield from propose(says, edit)
    for part in reversed(list(spot.statement().inside())):
        if names.get(part.text) in raw and names.get(part.text) not in bench.record.inputs.values():
            outer = part.parent
            cut = outer.parent if outer is not None and isinstance(outer.node, ast.Attribute) else None
            if cut is not None and cut.called in ("clamp", "clamp_min", "clip"):
                yield from propose(f"takes the variance, {part.text}.exp()", cut.to(f"{part.text}.exp()"))
            elif cut is None or cut.called not in ("exp",):
                yield from propose(f"takes the variance, {part.text}.exp()", part.to(f"{part.text}.exp()"))
                yield from propose(f"halves {part.text}", part.to(f"0.5 * {part.text}"))
    for part in spot.statement().inside():
        if (flipped := other_sign(part)) is not None:
            yield from propose("changes a sign in the likelihood", flipped)


@repair(IgnorePadding)
def ignore_padding(bench: Bench, wanted: IgnorePadding) -> Iterator[Proposal]:
    """The loss told of the padding index."""
    spot = loss_call(bench, wanted.meet)
    path = meta_path(wanted.padding.node)
    layer = next((c.module for c in bench.record.calls if c.path == path), None)
    index = wanted.padding.index
    made = bench.spot(bench.record.births.get(id(layer))) if layer is not None else None
    if index is None:
        return
    written = made.keyword("padding_idx") if made is not None else None
    for place in (spot, loss_made(bench, wanted.meet)):
        if place is None or place.called not in ("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"):
            continue
        shared = written is not None and isinstance(written.node, ast.Name) and written.code is place.code and _global(written)
        text = written.text if shared and written is not None else str(index)
        yield from propose(f"leaves padding ({text}) out of the loss", place.with_argument(f"ignore_index={text}"))


def _global(spot: Spot) -> bool:
    """Whether a name is assigned at the top level of its file."""
    return any(
        isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == spot.text for target in n.targets for t in ast.walk(target))
        for n in spot.code.file.tree.body
    )


@repair(DropOnes)
def drop_ones(bench: Bench, wanted: DropOnes) -> Iterator[Proposal]:
    """The axis of size 1 taken away from the operand that has it."""
    node: fx.Node = wanted.node
    spot = bench.spot(node)
    if spot is None:
        return
    parts = [n for n in node.all_input_nodes if shape(n)]
    for side, value in zip(spot.operands, parts, strict=False):
        ones = [d for d, n in enumerate(shape(value)) if n == 1]
        if len(ones) == 1:
            yield from propose(f"drops the axis of size 1 of {side.text}", side.to(f"{side.atom}.squeeze({ones[0]})"))
    for value in parts:
        made = bench.spot(value)
        kept = made.keyword("keepdim") if made is not None else None
        if kept is not None:
            yield from propose("keeps no axis of size 1", kept.to("False"))


@repair(SameShape)
def same_shape(bench: Bench, wanted: SameShape) -> Iterator[Proposal]:
    """Reconstruction and target in one shape, where one of them loses or has an axis of size 1."""
    meet, sides = wanted.meet, (wanted.recon, wanted.target)
    for value in sides:
        for node in _squeezes(bench, value):
            spot = bench.spot(node)
            if spot is not None and spot.receiver is not None:
                yield from propose("keeps the axis of size 1 that the other side has", spot.to(spot.receiver.text))
            elif spot is not None and spot.arguments and spot.called == "squeeze":
                yield from propose("keeps the axis of size 1 that the other side has", spot.to(spot.arguments[0].text))
    spot, names = bench.spot(meet), bench.scope(meet)
    recon, target = sides
    if spot is None or math.prod(shape(recon)) != math.prod(shape(target)):
        return
    for part in spot.operands:
        if names.get(part.text) is recon or span(recon) == part.span:
            other = bench.name_of(target, names)
            if other:
                yield from propose(f"gives the reconstruction the shape of {other}", part.to(f"{part.atom}.view_as({other})"))


def _squeezes(bench: Bench, value: fx.Node) -> list[fx.Node]:
    found, node = [], value
    for _ in range(6):
        if ops.op(node) == "squeeze":
            found.append(node)
        inputs = ops.value_inputs(node)
        if ops.op(node) not in ops.SHAPE | ops.CAST | {"sigmoid", "tanh"} or not inputs:
            break
        node = inputs[0]
    return found
