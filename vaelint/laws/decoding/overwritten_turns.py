"""Law A5, for loops: what each turn of a loop compares with the data enters the loss.

Observed on the record: an expression that runs several times and compares what was decoded with the data, of which the last turn's value
reaches the loss and an earlier turn's reaches nothing at all: it was overwritten (`total = ...` for `total = total + ...`).

Exempt: values that the code reads as numbers (a log, the best of several), that it differentiates or returns, turns without a gradient,
and a step that runs several times, with a draw for each.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.rule import Found


@law(
    "every-turn-is-counted",
    "what each turn of a loop compares with the data enters the loss",
    covered=("VAE314", "VAE501"),
    cost="replay",
)
def every_turn_is_counted(bench: Bench) -> Iterator[Broken]:
    """Comparisons of one expression in several turns."""
    model = bench.model
    loss = model.record.loss
    if loss is None:
        return
    counted = model.flow.ancestors(loss, *(c.node for c in model.record.backwards if c.node is not None)) | {loss}
    last: dict[object, fx.Node] = {}
    dropped: dict[object, list[fx.Node]] = {}
    for node in model.flow.order:
        if not compares(bench, node):
            continue
        key = (route(node), ops.op(node))
        if node in counted:
            last[key] = node
        elif not _is_used(bench, node):
            dropped.setdefault(key, []).append(node)
    for expression, nodes in dropped.items():
        end = last.get(expression)
        if end is not None and route(end) and all(_is_of_one_draw(bench, n, end) for n in nodes):
            yield _broken(bench, end, nodes)
            return


def _is_of_one_draw(bench: Bench, earlier: fx.Node, last: fx.Node) -> bool:
    """Whether an earlier value is made of the draws that the last one is made of: a step that runs several times draws anew."""
    flow = bench.model.flow
    drawn = [flow.random & flow.ancestors(n) for n in (earlier, last)]
    return flow.order[earlier] < flow.order[last] and drawn[0] == drawn[1]


def compares(bench: Bench, node: fx.Node) -> bool:
    """Whether a value with a gradient is made in one step of the data and of what was decoded."""
    flow = bench.model.flow
    if not node.meta.get("grad") or not bench.is_real(node) or node not in bench.model.decoded or node not in flow.data:
        return False
    sides = ops.value_inputs(node)
    return len(sides) > 1 and any(s in bench.model.decoded for s in sides) and any(s in flow.data and s not in flow.learned for s in sides)


def _is_used(bench: Bench, node: fx.Node) -> bool:
    """Whether anything is done with a value but arithmetic that ends nowhere."""
    record, users = bench.model.record, bench.model.flow.users
    below = reachable([node], lambda n: users.get(n, ()))
    outputs = set(ops.tensors(record.output)) if record.output is not None else set()
    kept = below & outputs or any(n.op == "output" or n.op != "call_function" or n.meta.get("scalar") or n.meta.get("read") for n in below)
    return bool(kept) or any(ops.op(n) in ("effect", "item", "tolist", "grad", "backward", "detach") for n in below)


def _broken(bench: Bench, end: fx.Node, dropped: list[fx.Node]) -> Broken:
    model = bench.model
    turns = len(dropped) + 1
    found = Found(
        model.where(end),
        label=f"of {turns} turns only the last one's value is kept",
        labels=model.labels((model.record.loss, "enters the loss")),
        why="the outputs of the other turns are compared with the data, and nothing trains them",
        help="add it up: total = total + ..., or collect the turns in a list and sum them",
    )
    text = f"{turns - 1} of {turns} values of this expression reach neither the loss nor anything else"
    return Broken("outputs-unread", found, "each turn's value reaches the loss", text)
