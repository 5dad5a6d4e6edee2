"""Repairs of the posterior: how the scale is read, that z is drawn with a gradient and decoded, that its heads are free and two."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import fx, nn

from vaelint.core.edits import Edit, Proposal
from vaelint.core.finding import Span
from vaelint.faults.gradients.unreached import unreached
from vaelint.faults.sampling.noise_repairs import standard_normal
from vaelint.faults.sampling.sampling_claims import DecodeDraw, IdleHead, NoBiasInEval, RemoveActivation, Reparameterise, ScaleAs
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.source.spot import Code, Spot, propose


def function_of(code: Code, name: str, argument: str) -> str:
    """`torch.exp(x)` as the file can write it."""
    spelled = code.spelling(f"torch.{name}") or (code.spelling(f"torch.nn.functional.{name}") if name == "softplus" else None)
    return f"{spelled}({argument})" if spelled else f"({argument}).{name}()"


def scale_from(code: Code, reading: str, head: str) -> str | None:
    """The standard deviation from a head that is read so."""
    loose = f"({head})" if not head.isidentifier() and not head.endswith(")") else head
    return {
        "logvar": function_of(code, "exp", f"0.5 * {loose}"),
        "log-std": function_of(code, "exp", head),
        "variance": function_of(code, "sqrt", head),
        "std (softplus)": function_of(code, "softplus", head) if code.spelling("torch.nn.functional.softplus") else None,
    }.get(reading)


@repair(ScaleAs)
def scale_as(bench: Bench, wanted: ScaleAs) -> Iterator[Proposal]:
    """The standard deviation read from the head as the KL reads it."""
    clash = wanted.clash
    place: fx.Node = clash.site.z if clash.negative else clash.scale
    spot, names = bench.spot(place), bench.scope(place)
    if spot is None:
        return
    head = bench.name_of(clash.head, names)
    says = f"reads the head as {clash.kl_reads}, as the KL does"
    if head and place is not clash.site.z and (new := scale_from(spot.code, clash.kl_reads, head)):
        yield from propose(says, spot.to(new))
    for part in reversed(list(spot.inside())):
        is_head = part.text == head or part.span == span(clash.head)
        inner = part.operands[0] if part.called in ("exp", "softplus") and part.operands else None
        if (is_head or inner is not None) and (new := scale_from(part.code, clash.kl_reads, inner.text if inner else part.text)):
            yield from propose(says, part.to(new))


@repair(Reparameterise)
def reparameterise(bench: Bench, wanted: Reparameterise) -> Iterator[Proposal]:
    """A draw that is a function of mean and scale."""
    spot = bench.spot(wanted.site.z)
    if spot is None:
        return
    if spot.called == "sample":
        yield from propose("samples with rsample(), which lets the gradient through", spot.named("rsample"))
    mean, scale = spot.keyword("mean"), spot.keyword("std")
    if spot.called == "normal" and spot.receiver is None:
        given = spot.arguments
        mean, scale = mean or (given[0] if given else None), scale or (given[1] if len(given) > 1 else None)
        if mean is not None and scale is not None:
            new = f"{mean.text} + {scale.atom} * {standard_normal(spot.code, scale.text)}"
            yield from propose("draws z as mean + std * eps, which lets the gradient through", spot.to(new))


@repair(DecodeDraw)
def decode_draw(bench: Bench, wanted: DecodeDraw) -> Iterator[Proposal]:
    """The drawn z in the place of the mean, where the decoder is called."""
    entry, site = wanted.entry, wanted.site
    spot, names = bench.spot(entry.span), bench.scope(entry.node, entry.span)
    z = bench.name_of(site.z, names)
    if spot is None or not z:
        return
    means = {n for n, held in names.items() if held is site.mu or held in site.mu_heads}
    for part in spot.inside():
        if isinstance(part.node, ast.Name) and part.text in means:
            yield from propose(f"decodes {z}, the draw, not {part.text}", part.to(z))


@repair(RemoveActivation)
def remove_activation(bench: Bench, wanted: RemoveActivation) -> Iterator[Proposal]:
    """What an activation is applied to, in its place."""
    node: fx.Node | None = wanted.activation
    if node is None:
        return
    name = ops.op(node)
    for spot in activation_calls(bench, node):
        if spot.operands:
            yield from propose(f"leaves out the {name}", _left_out(spot, spot.operands[0]))
    made = activation_made(bench, node)
    if made is not None and (identity := made.code.spelling("torch.nn.Identity")):
        yield from propose(f"leaves out the {name}", made.to(f"{identity}()"))


def _left_out(spot: Spot, inner: Spot) -> Edit:
    """The operand in the place of its operation; no line at all where it would be given its own name."""
    statement = spot.statement()
    node, place = statement.node, statement.span
    line = spot.code.file.lines[place.line - 1]
    alone = place.line == place.end_line and line.strip() == statement.text
    own = isinstance(node, ast.Assign) and len(node.targets) == 1 and node.value is spot.node and ast.unparse(node.targets[0]) == inner.text
    only = statement.parent is not None and len(getattr(statement.parent.node, "body", ())) < 2
    return Edit(Span(place.file, place.line, 1, place.line + 1, 1), "") if own and alone and not only else spot.to(inner.text)


def activation_calls(bench: Bench, node: fx.Node) -> Iterator[Spot]:
    """The call that applies an activation and nothing else, when only this value comes out of it."""
    spot = bench.spot(node)
    if spot is None or sum(span(n) == span(node) and ops.op(n) == ops.op(node) for n in bench.record.nodes) > 1:
        return
    layer = str(node.meta.get("module") or "").rpartition(".")[2]
    by_layer = isinstance(spot.node, ast.Call) and isinstance(spot.node.func, ast.Attribute) and spot.node.func.attr == layer
    if spot.called.strip("_") == ops.op(node) or (by_layer and activation_layer(bench, node) is not None):
        yield spot


def activation_layer(bench: Bench, node: fx.Node) -> nn.Module | None:
    """The layer of torch that an activation ran in, when it has no parameters."""
    path = str(node.meta.get("module") or "")
    layer = next((c.module for c in bench.record.calls if c.path == path), None)
    plain = layer is not None and type(layer).__module__.startswith("torch.nn") and not list(layer.parameters())
    return layer if plain and not list(layer.children()) else None  # type: ignore[union-attr]


def activation_made(bench: Bench, node: fx.Node) -> Spot | None:
    """Where the layer of an activation is made, when the expression makes this one alone."""
    layer = activation_layer(bench, node)
    place = bench.record.births.get(id(layer)) if layer is not None else None
    if place is None or list(bench.record.births.values()).count(place) != 1:
        return None
    return bench.spot(place)


@repair(NoBiasInEval)
def no_bias_in_eval(bench: Bench, wanted: NoBiasInEval) -> Iterator[Proposal]:
    """Zero noise in evaluation mode."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    for part in spot.inside():
        if part.called in ("ones_like", "ones", "new_ones"):
            yield from propose("takes no noise in evaluation mode", part.named(part.called.replace("ones", "zeros")))
    if isinstance(spot.node, ast.BinOp) and isinstance(spot.node.op, ast.Add):
        for side in spot.operands:
            yield from propose("takes the mean in evaluation mode", spot.to(side.text))


@repair(IdleHead)
def idle_head(bench: Bench, wanted: IdleHead) -> Iterator[Proposal]:
    """The layer of the same form that is made beside this one and used nowhere."""
    node: fx.Node = wanted.scale
    spot = bench.spot(node)
    path = str(node.meta.get("module") or "")
    home, _, own = path.rpartition(".")
    if spot is None or spot.called != own:
        return
    used = bench.record.model.get_submodule(path)
    for layer in unreached(bench.model):
        where, _, name = layer.path.rpartition(".")
        if where == home and _alike(used, bench.record.model.get_submodule(layer.path)):
            yield from propose(f"uses {name}, which is made and used nowhere", spot.named(name))


def _alike(a: nn.Module, b: nn.Module) -> bool:
    return type(a) is type(b) and [p.shape for p in a.parameters()] == [p.shape for p in b.parameters()]
