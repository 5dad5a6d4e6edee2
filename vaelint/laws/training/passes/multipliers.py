"""Law B5, for multipliers: what multiplies a constraint in the loss rises while the constraint is violated.

Intervention: the values that both the constraint and the update of its multiplier are made of are raised in the recorded step. The
multiplier's next value must move the way the constraint does, where the loss has it with a plus: it weighs more what is not met yet.

Source: Rezende & Viola 2018, Taming VAEs (GECO), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.recompute import in_place
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.rule import Found

_SAME = ops.CAST | {"attribute", "data", "detach", "requires_grad_", "getattr"}
_NOTHING = 1e-7
_STEP = 0.5
_FAR = 30.0  # of a constraint's own size
_STARTS = (0.1, 10.0)  # of the multiplier


@law(
    "multipliers-rise-with-violation",
    "a multiplier rises while the constraint that it multiplies is violated",
    covered=("VAE311", "VAE407", "VAE902", "VAE905"),
)
def multipliers_rise(bench: Bench) -> Iterator[Broken]:
    """Multipliers that the step itself writes without a gradient: in place, or by a new value for the attribute that the loss reads. One
    that an optimizer moves has its sign in its own loss. Exempt is a weight that goes to a value which follows from the data."""
    writes = [n for n in bench.model.record.nodes if in_place(n) and not n.meta.get("grad") and n.args and isinstance(n.args[0], fx.Node)]
    for term in bench.model.terms:
        for leaf in term.leaves:
            for product in (n for n in leaf.chain if ops.op(n) in ops.MUL):
                for factor in (n for n in product.all_input_nodes if n not in leaf.chain and n is not leaf.node):
                    updates = [w for w in writes if _root(w) is _root(factor)] or _rebound(bench, product, factor)
                    constraint = next((n for n in product.all_input_nodes if n is not factor), None)
                    if updates and constraint is not None and (found := _falls(bench, product, factor, constraint, updates)) is not None:
                        yield _wrong(bench, *found, product)
                        return


def _rebound(bench: Bench, product: fx.Node, factor: fx.Node) -> list[fx.Node]:
    """What is made of a multiplier, without a gradient, as the new value of an attribute by the name that it is multiplied by."""
    source, flow = bench.model.source, bench.model.flow
    names = {text.rpartition(".")[2] for text, _ in source.factors(span(product)) if "." in text}
    if not names or factor.meta.get("grad"):
        return []
    made = [n for n in flow.descendants(factor) - {factor} if not n.meta.get("grad") and shape(n) == shape(factor) and bench.is_real(n)]
    set_here = [n for n in flow.sorted(set(made)) if "." in (to := source.assigned(span(n))) and to.rpartition(".")[2] in names]
    return [n for n in set_here if source.is_whole_value(span(n))][:1]  # what a later turn makes of it went through an optimizer's step


def _root(node: fx.Node) -> fx.Node:
    """The tensor that a node is, or shares its memory with."""
    while (ops.raw_name(node) in _SAME or in_place(node)) and node.args and isinstance(first := node.args[0], fx.Node):
        node = first
    return node


def _falls(
    bench: Bench, product: fx.Node, factor: fx.Node, constraint: fx.Node, updates: list[fx.Node]
) -> tuple[fx.Node, float, float] | None:
    """Where the update turns round, and how far constraint and multiplier move, where they move apart."""
    flow, base = bench.model.flow, bench.base
    run = _whole(bench) if any(u not in base.pairs for u in updates) else base
    shared = _known(bench, run, flow.ancestors(constraint) & flow.ancestors(*updates))
    source = next((n for n in reversed(shared) if n in flow.learned and run.value(n).numel() == 1), None)
    grown = base.gradient(base.loss, [bench.value_with_graph(product)])[0] if bench.knows(product) else None
    if source is None or grown is None or not float(grown.sum()):
        return None
    moves = [n for n in updates if source in flow.ancestors(n)]
    if not any(isinstance(n.meta.get("val"), torch.Tensor) for n in moves):
        return None
    wanted = [constraint, *moves]
    value = run.value(source).detach()
    way = flow.descendants(source) & flow.ancestors(*moves)
    wanted += [n for n in _known(bench, run, way) if n not in wanted]
    written = [n for n in flow.ancestors(*wanted) if n.op == "get_attr" and n in run.pairs and not run.has(n)]
    old = {n: run.like(n).detach().clone() for n in written}  # any value before the step will do
    low, high = (run.recompute(wanted, {**old, source: value + by}) for by in (0.0, _STEP * (1 + float(value.abs()))))
    change = float((high[constraint] - low[constraint]).sum()) * float(grown.sum().sign())
    for node in moves:
        after = float((high[node] - low[node]).sum())
        if abs(change) > _NOTHING and after * change < 0 and abs(after) > _NOTHING:
            if _goes_to_a_value(run, node, factor, source, change, old):
                return None
            steps = flow.sorted(flow.ancestors(node) & {*way, node} & high.keys() & low.keys())
            return _turned(steps, {n: float((high[n] - low[n]).sum()) * change for n in steps}), change, after
    return None


def _turned(steps: list[fx.Node], ways: dict[fx.Node, float]) -> fx.Node:
    """The first step of an update from which on all go the other way."""
    return steps[max((k + 1 for k, n in enumerate(steps) if ways[n] >= 0), default=0)]


def _known(bench: Bench, run: Trial, nodes: set[fx.Node]) -> list[fx.Node]:
    return [n for n in bench.model.flow.sorted(nodes) if bench.is_real(n) and run.has(n)]


def _goes_to_a_value(run: Trial, node: fx.Node, factor: fx.Node, source: fx.Node, change: float, old: dict[fx.Node, torch.Tensor]) -> bool:
    """Whether the update goes to a value that follows from the data, as the inverse of an average error: from below it, it rises in any
    case, from above it falls."""
    start, value = _root(factor), run.value(source).detach()
    now = (old[start] if start in old else run.like(start)).detach()
    far = _FAR * (1 + value.abs()) * (1 if change > 0 else -1)
    for share in _STARTS:
        put = now * share
        more, less = (float(run.recompute([node], {**old, start: put.clone(), source: value + by})[node].sum()) for by in (far, -far))
        if more > float(put.sum()) + _NOTHING or less < float(put.sum()) - _NOTHING:
            return True
    return False


def _whole(bench: Bench) -> Trial:
    """The run to its end: an update may stand behind the backward pass, where a run for the loss alone stops."""
    run = bench.base.again(as_is=True)
    if run.record.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    return run


def _wrong(bench: Bench, node: fx.Node, change: float, after: float, product: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label="falls where the constraint is violated more",
        labels=model.labels((product, "multiplies the constraint here")),
        why="the multiplier goes to 0 while the constraint is not met, and without end once it is: the loss gives up what it was to hold",
        help="raise it with the constraint: multiplier *= exp(rate * constraint), for a loss of kl + multiplier * constraint",
    )
    text = f"the constraint moves by {change:.3g} and its multiplier by {after:.3g}"
    return Broken("multiplier-inverted", found, "both move the same way", text)
