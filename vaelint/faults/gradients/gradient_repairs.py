"""Repairs of the gradient's way: what cuts it, layers that nobody registers, parameters that no optimizer gets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.edits import Edit, Proposal
from vaelint.core.finding import Span
from vaelint.faults.gradients.gradients_claims import AllParameters, CodesWithGradient, KeepGradient, NotInPlace, RegisterLayers
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.source.spot import Spot, propose

_CUTS = ("detach", "item", "detach_")


@repair(KeepGradient)
def keep_gradient(bench: Bench, wanted: KeepGradient) -> Iterator[Proposal]:
    """The expression without what cuts its gradient: at the place itself, then in the whole statement."""
    spot = bench.spot(wanted.node)
    if spot is None:
        return
    says = "keeps the gradient"
    outer = [s for s in spot.around() if isinstance(s.node, ast.expr)]
    here = [e for s in outer[:3] if (e := _uncut(s)) is not None]
    if here:
        yield from propose(says, *here)
    everywhere = [e for s in spot.statement().inside() if (e := _uncut(s)) is not None]
    if everywhere:
        yield from propose(says, *everywhere)


def _uncut(spot: Spot) -> Edit | None:
    """The edit that takes `.detach()`, `.data`, `.item()` or `float(...)` away."""
    node = spot.node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CUTS and not node.args:
        name = node.func
    elif isinstance(node, ast.Attribute) and node.attr == "data":
        name = node
    elif isinstance(node, ast.Call) and spot.called == "float" and len(spot.arguments) == 1 and spot.receiver is None:
        return spot.to(spot.arguments[0].text)
    else:
        return None
    dot, whole = spot.code.span(name), spot.span
    if dot.end_column is None:
        return None
    line = dot.end_line or dot.line
    return Edit(Span(dot.file, line, dot.end_column - len(name.attr) - 1, whole.end_line, whole.end_column), "")


@repair(RegisterLayers)
def register_layers(bench: Bench, wanted: RegisterLayers) -> Iterator[Proposal]:
    """Layers in a container that registers them."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    node = spot.node
    value = spot.spot(node.value) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None else spot
    kinds = [("ModuleDict", ast.Dict | ast.DictComp)] if isinstance(value.node, ast.Dict | ast.DictComp) else [("ModuleList", ast.expr)]
    for name, _ in kinds:
        spelled = value.code.spelling(f"torch.nn.{name}")
        if spelled and isinstance(value.node, ast.expr):
            yield from propose(f"keeps the layers in an {spelled}, which registers them", value.to(f"{spelled}({value.text})"))
    for assigned in _list_of(spot):
        spelled = assigned.code.spelling("torch.nn.ModuleList")
        if spelled:
            yield from propose(f"keeps the layers in an {spelled}, which registers them", assigned.to(f"{spelled}({assigned.text})"))


def _list_of(spot: Spot) -> Iterator[Spot]:
    """The list around an element, and the value of the statement around it."""
    for part in spot.around():
        if isinstance(part.node, ast.List | ast.ListComp):
            yield part
        if isinstance(part.node, ast.Assign):
            yield part.spot(part.node.value)
            return


@repair(AllParameters)
def all_parameters(bench: Bench, wanted: AllParameters) -> Iterator[Proposal]:
    """The optimizer given the parameters of the whole model."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    for part in spot.inside():
        if part.called != "parameters" or (part.receiver is None and not _of_self(part)):
            continue
        assert isinstance(part.node, ast.Call) and isinstance(part.node.func, ast.Attribute)
        root: ast.expr = part.node.func.value
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        text = part.spot(root).text
        whole = [a for a in spot.arguments if part.span.line >= a.span.line][:1]
        says = "gives the optimizer all parameters of the model"
        yield from propose(says, part.to(f"{text}.parameters()"))
        for argument in whole:
            yield from propose(says, argument.to(f"{text}.parameters()"))


def _of_self(spot: Spot) -> bool:
    func = spot.node.func if isinstance(spot.node, ast.Call) else None
    return isinstance(func, ast.Attribute) and ast.unparse(func.value).split(".")[0] == "self"


@repair(NotInPlace)
def not_in_place(bench: Bench, wanted: NotInPlace) -> Iterator[Proposal]:
    """The form of an operation that makes a new tensor."""
    spot = bench.spot(wanted.node)
    if spot is None:
        return
    says = "makes a new tensor instead of changing one that backward needs"
    node = spot.node
    if isinstance(node, ast.AugAssign):
        sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}.get(type(node.op))
        target, value = spot.spot(node.target), spot.spot(node.value)
        if sign:
            yield from propose(says, Edit(spot.span, f"{target.text} = {target.text} {sign} {value.atom}"))
    if spot.called.endswith("_") and spot.receiver is not None:
        new = spot.named(spot.called.rstrip("_"))
        above = spot.parent
        if above is not None and isinstance(above.node, ast.Expr):
            yield from propose(says, new, spot.before(f"{spot.receiver.text} = "))
        yield from propose(says, new)
    inplace = spot.keyword("inplace")
    if inplace is not None:
        yield from propose(says, inplace.to("False"))


@repair(CodesWithGradient)
def codes_with_gradient(bench: Bench, wanted: CodesWithGradient) -> Iterator[Proposal]:
    """Another value of the same shape in the place of one without the gradient: the looked up codes, say, for the passed on ones."""
    node = wanted.node
    spot, names = bench.spot(node), bench.scope(node)
    if spot is None:
        return
    for part in spot.inside():
        held = names.get(part.text)
        if held is None:
            continue
        for name, other in names.items():
            if other is not held and shape(other) == shape(held) and (ops.is_opaque(other) or other.meta.get("grad")):
                yield from propose(f"compares {name}, which has the gradient, instead of {part.text}", part.to(name))
