"""Law B5, for averages of weights: an average that is computed is kept.

Observed on the step as it runs, with its optimizers: a weighted sum of two parameters of one shape, one that an optimizer moves and one
that none does, with weights that add up to one, which nothing reads, while the second parameter holds afterwards what it held before.
`avg = decay * avg + (1 - decay) * p` in a loop binds a name and writes no tensor. Exempt is a sum that something reads, or that is kept in
the parameter's place, and an average that is kept as a tensor of its own.

Source: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Label
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import root_of
from vaelint.record import ops
from vaelint.record.record import Record, span
from vaelint.record.sizes import plain
from vaelint.rule import Found

_NEAR = 1e-3


@law("averages-are-kept", "an average of weights that a step computes is what the averaged weights are afterwards", covered=(), cost="all")
def averages_are_kept(bench: Bench) -> Iterator[Broken]:
    """Weighted sums of an average's parameter and a trained one that lead nowhere."""
    if not bench.model.record.objectives:
        return
    record = bench.trained
    owned = {number for o in record.optimizers for number in o.parameters}
    for node in record.nodes:
        found = _mixed(node) if not node.users else None
        if found is None or (place := span(node)) is None:
            continue
        (old, kept), (live, _) = sorted(found, key=lambda side: -side[1])
        if id(old) in owned or id(live) not in owned or kept < 0.5 or not _stays(record, old, node):
            continue
        moved = [Label(o.span, "moves the weights that are averaged") for o in record.optimizers[:1] if o.span is not None]
        yield Broken(
            "average-not-kept",
            Found(
                place,
                label="an average that nothing reads and nothing keeps",
                labels=tuple(moved),
                why="the name is bound to a new tensor, and the averaged network stays as it was made: "
                "what is sampled from or evaluated with it has never been trained",
                help="write into the tensor: avg.mul_(decay).add_(p, alpha=1 - decay), or avg.lerp_(p, 1 - decay), under torch.no_grad()",
            ),
            "after the step the averaged weights are the average",
            f"{kept:.4g} of one parameter and {1 - kept:.4g} of another are added up, read by nothing, and the first stays as it was",
        )
        return


def _mixed(node: fx.Node) -> list[tuple[torch.Tensor, float]] | None:
    """The two parameters of a weighted sum that is written out, each with its weight; None for anything else."""
    if node.op != "call_function" or ops.raw_name(node).endswith("_"):
        return None
    if ops.op(node) == "lerp" and len(node.args) > 2 and isinstance(node.args[2], int | float):
        share = float(plain(node.args[2]))
        sides = [_weighed(node.args[0], 1 - share), _weighed(node.args[1], share)]
    elif ops.raw_name(node) in ("add", "__add__", "__radd__") and len(node.args) > 1:
        times = node.kwargs.get("alpha", 1)
        sides = [_weighed(node.args[0], 1.0), _weighed(node.args[1], float(plain(times)) if isinstance(times, int | float) else 0.0)]
    else:
        return None
    found = [side for side in sides if side is not None]
    if len(found) < 2 or found[0][0] is found[1][0] or found[0][0].shape != found[1][0].shape:
        return None
    return found if abs(found[0][1] + found[1][1] - 1) < _NEAR else None


def _weighed(value: object, weight: float) -> tuple[torch.Tensor, float] | None:
    """The parameter behind a value, and by what it is multiplied on the way."""
    while isinstance(value, fx.Node) and ops.op(value) in ops.MUL and not ops.raw_name(value).endswith("_"):
        numbers = [a for a in value.args if isinstance(a, int | float)]
        nodes = [a for a in value.args if isinstance(a, fx.Node)]
        if len(numbers) != 1 or len(nodes) != 1:
            return None
        weight, value = weight * float(plain(numbers[0])), nodes[0]
    root = root_of(value) if isinstance(value, fx.Node) else None
    held = root.meta.get("val") if root is not None else None
    return (held, weight) if isinstance(held, torch.nn.Parameter) else None


def _stays(record: Record, old: torch.Tensor, mixed: fx.Node) -> bool:
    """Whether nothing writes into a parameter, and it is not what was added up there, by one step or another."""
    made = [n.meta.get("val") for n in record.nodes if n.target is mixed.target and span(n) == span(mixed)]
    written = any(
        ops.raw_name(n).endswith("_") and n.args and isinstance(n.args[0], fx.Node) and root_of(n.args[0]).meta.get("val") is old
        for n in record.nodes
        if n.op == "call_function"
    )
    return not written and not any(isinstance(m, torch.Tensor) and torch.equal(m.detach(), old.detach()) for m in made)
