"""Law B3, for parts that stand for each other: those that start equal stay equal, so they start apart.

Intervention: all parameters are moved elsewhere, those whose rows start equal each row by itself; then these rows change their places.
Where the loss is the same, whatever the rows are, nothing but their start could tell them apart: equal rows have equal gradients, now and
for ever. Exempt are parameters that other code sets (from data, before the first step), tables of nearest codes, and rows that nothing in
the loss depends on.

Source: Goodfellow et al. 2016, Deep Learning, section 8.4: initial parameters need to break symmetry between units.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.experiment.trial import differ
from vaelint.faults.gradients.first_values import initialised
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found

_SAME = 2e-6
_TURNS = (1, 2)  # one might come out alike by chance
_MOVES = 1e-3
_MOST = 64  # parts: more are features, or places
_BUILDS = ("__init__", "__post_init__", "reset_parameters")


class _Rows(NamedTuple):
    """A parameter, and an axis along which all of it is equal."""

    name: str
    axis: int


@law("parts-start-apart", "learned parts that stand for each other do not start equal", covered=("VAE508", "VAE518"), cost="all")
def parts_start_apart(bench: Bench) -> Iterator[Broken]:
    """Parameters of which one axis holds equal parts, of several numbers each."""
    model = bench.model
    first = {n: p.detach() for n, p in bench.base.record.model.named_parameters() if p.requires_grad and p.is_floating_point()}
    equal = [_Rows(n, axis) for n, p in first.items() for axis in range(p.dim()) if _are_equal(p, axis)]
    nodes = {str(n.meta["parameter"]): n for n in model.record.nodes if n.meta.get("parameter") and n.meta.get("grad")}
    codes = {str(t.meta.get("parameter")) for book in codebooks_of(model) for t in book.table}
    for rows in equal:
        parameter, count = first[rows.name], first[rows.name].shape[rows.axis]
        if parameter.numel() == count or rows.name not in nodes or rows.name in codes or _is_set_elsewhere(bench, rows.name):
            continue
        group = [other for other in equal if first[other.name].shape[other.axis] == count and other.name not in codes]
        if _stand_for_each_other(bench, group, rows):
            yield _equal(bench, nodes[rows.name], rows, count)
            return


def _are_equal(parameter: torch.Tensor, axis: int) -> bool:
    """Whether all of a parameter is the same along an axis."""
    count = parameter.shape[axis]
    one = parameter.narrow(axis, 0, 1) if count else parameter
    return 2 <= count <= _MOST and bool((parameter.narrow(axis, 1, 1) == one).all()) and bool((parameter == one).all())


def _stand_for_each_other(bench: Bench, group: Sequence[_Rows], rows: _Rows) -> bool:
    """Whether the loss hangs on the rows, and not on which is which."""

    def loss(*, turned: int = 0, other: bool = False) -> torch.Tensor | None:
        def put(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
            bench.moved(0)(model, inputs)
            known = dict(model.named_parameters())
            with torch.no_grad():
                if other:
                    known[rows.name].add_(
                        torch.randn(known[rows.name].shape, generator=torch.Generator().manual_seed(1)).to(known[rows.name])
                    )
                for name, axis in group:
                    known[name].copy_(known[name].roll(turned, axis))

        run = bench.base.again(prepare=put)
        return run.loss.detach() if run.record.failure is None else None

    here, elsewhere = loss(), loss(other=True)
    if here is None or elsewhere is None or not bool(here.isfinite().all()) or differ(here, elsewhere) <= _MOVES:
        return False
    return all((there := loss(turned=by)) is not None and differ(here, there) < _SAME for by in _TURNS)


def _is_set_elsewhere(bench: Bench, name: str) -> bool:
    """Whether code outside of constructors writes values into an attribute of that name."""
    last = name.rpartition(".")[2]
    files = {place.file for n in bench.model.record.nodes for place in n.meta.get("stack") or ()}
    for file in files:
        for function in bench.model.source.file(file).functions():
            if function.name not in _BUILDS and any(_writes(n, last) for n in ast.walk(function)):
                return True
    return False


def _writes(node: ast.AST, name: str) -> bool:
    """`self.means.data = x`, `self.means[0] = x`, `self.means.copy_(x)`, `self.means = x`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
        return any(isinstance(n, ast.Attribute) and n.attr == name for n in ast.walk(node))
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(isinstance(n, ast.Attribute) and n.attr == name for target in targets for n in ast.walk(target))


def _equal(bench: Bench, node: fx.Node, rows: _Rows, count: int) -> Broken:
    model = bench.model
    name = rows.name.rpartition(".")[2]
    found = Found(
        initialised(model, node) or model.where(node),
        label=f"{count} equal parts",
        why=f"which of the {count} is which makes no difference to the loss, so equal ones get equal gradients: they stay one, however "
        "long they are trained",
        help="start them apart: torch.randn(...) times the spread that the data have there",
        facts={"parts": count},
    )
    text = f"with {name} elsewhere, the loss is the same when its {count} parts change places; they start equal"
    return Broken("parts-start-equal", found, "learned parts that stand for each other do not start equal", text)
