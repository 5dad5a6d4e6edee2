"""Law B5, for weights that an optimizer learns: what multiplies a term is held by another one, or rises with what it multiplies.

Read from the record and measured on a step that runs as it is: a single number that an optimizer moves reaches the loss as the factor of
one term alone. Its gradient is then that term: to minimise the loss is to make the weight small, whatever the constraint says.

Source: Rezende & Viola 2018, Taming VAEs (GECO), equation 5: the multipliers are maximised over while the network is minimised over.
Kendall et al. 2018, Multi-Task Learning Using Uncertainty: a learned weight exp(-s) stands beside its log term s.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.record.walk import leaves_behind
from vaelint.rule import Found


@law(
    "learned-weights-are-held",
    "a learned number that multiplies one term of the loss rises with it, or another term holds it",
    covered=("VAE311", "VAE407", "VAE902", "VAE905"),
    cost="all",
)
def learned_weights_are_held(bench: Bench) -> Iterator[Broken]:
    """Single numbers that an optimizer of the step moves, and none that it maximises over."""
    model, record = bench.model, bench.model.record
    stepped = {i for use in record.uses if use.kind == "stepped" for i in use.of}
    climbing = {i for o in record.optimizers for i in o.those(lambda group, _: bool(group.get("maximize")))}
    for number in _numbers(bench, stepped - climbing):
        for term in model.terms:
            for leaf in term.leaves:
                for product in (n for n in leaf.chain if ops.op(n) in ops.MUL | ops.DIV):
                    weighed = _weighed(bench, product, number, {*leaf.chain, leaf.node})
                    if weighed is not None and (text := _falls(bench, product, *weighed)) is not None:
                        yield _wrong(bench, product, number, text)
                        return


def _numbers(bench: Bench, moved: set[int]) -> list[fx.Node]:
    """The single numbers on the way to the loss that an optimizer moves."""
    loss, flow = bench.model.record.loss, bench.model.flow
    tensors = [(n, n.meta.get("val")) for n in flow.sorted(flow.ancestors(loss))] if loss is not None and moved else []
    return [n for n, v in tensors if isinstance(v, torch.Tensor) and id(v) in moved and v.requires_grad and v.numel() == 1]


def _weighed(bench: Bench, product: fx.Node, number: fx.Node, way: set[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """What a product multiplies, and the function of this number alone that it has as its weight, if the loss has no more of it."""
    flow, loss = bench.model.flow, bench.model.record.loss
    factor = next((n for n in product.all_input_nodes if n not in way and number in flow.ancestors(n)), None)
    term = next((n for n in product.all_input_nodes if n in way), None)
    if factor is None or term is None or factor in flow.data or number in flow.ancestors(term):
        return None
    if any(n.op == "get_attr" and n is not number and n in flow.learned for n in flow.ancestors(factor)):
        return None
    return None if loss in flow.descendants(number, stop={product}) else (term, factor)


def _falls(bench: Bench, product: fx.Node, term: fx.Node, factor: fx.Node) -> str | None:
    """Whether the step moves the weight down while the term is above 0; what was measured. Raises CannotMeasureError."""
    base, run = bench.base, bench.trained_run
    (own,) = base.gradient(base.loss, [_number_in(base, factor)])
    used = _number_in(run, factor)
    if used.grad is None or getattr(used, "_backward_hooks", None):
        raise CannotMeasureError("the gradient of the weight was cleared, or goes through a hook")
    size = float(base.value(term).detach().double().mean())
    if own is None or not float(own) or float(used.grad) * float(own) < 0 or size <= 0:
        return None  # a gradient that is turned round by hand climbs
    (grown,) = base.gradient(base.loss, [bench.value_with_graph(product)])
    if grown is None or float(grown.sum()) <= 0:
        return None
    return f"it multiplies {size:.3g}, its gradient is {float(own):.3g}, and nothing else in the loss depends on it"


def _number_in(run: Trial, factor: fx.Node) -> torch.Tensor:
    """The number that a factor of a run is made of."""
    found = [v for v in leaves_behind(run.like(factor)) if v.numel() == 1]
    if not found:
        raise CannotMeasureError("the weight was not found in the real run")
    return found[0]


def _group(bench: Bench, number: fx.Node) -> Span | None:
    """The group of parameters, of the optimizer that moves a number, that names it; an optimizer that holds no other number or weight."""
    source, made = bench.model.source, span(number)
    alone: Span | None = next((o.span for o in bench.model.record.optimizers if o.parameters == {id(number.meta.get("val"))}), None)
    if alone is not None:
        return alone
    own = source.assigned(made) if made is not None else str(number.target) if number.op == "get_attr" else ""
    name = own.rpartition(".")[2]
    for optimizer in bench.model.record.optimizers:
        function = source.function(optimizer.span) if optimizer.span is not None and name else None
        for group in ast.walk(function) if function is not None else ():
            if isinstance(group, ast.Dict | ast.Call) and optimizer.span is not None and _holds(group, name):
                return Span(optimizer.span.file, group.lineno, group.col_offset + 1, group.end_lineno, (group.end_col_offset or 0) + 1)
    return None


def _holds(group: ast.Dict | ast.Call, name: str) -> bool:
    """Whether an expression is a group of parameters, `{"params": ...}` or `dict(params=...)`, in which a value of this name is."""
    if isinstance(group, ast.Dict):
        values = [v for k, v in zip(group.keys, group.values, strict=True) if isinstance(k, ast.Constant) and k.value == "params"]
    else:
        values = [k.value for k in group.keywords if k.arg == "params"] if ast.unparse(group.func) == "dict" else []
    told_apart = {n for value in values for test in ast.walk(value) if isinstance(test, ast.Compare) for n in ast.walk(test)}
    inside = [n for value in values for n in ast.walk(value) if n not in told_apart]
    return any(name == (n.attr if isinstance(n, ast.Attribute) else n.id if isinstance(n, ast.Name) else "") for n in inside)


def _wrong(bench: Bench, product: fx.Node, number: fx.Node, text: str) -> Broken:
    model = bench.model
    found = Found(
        _group(bench, number) or model.where(product),
        label="the optimizer makes this weight small, and nothing holds it",
        labels=model.labels((number, "the weight"), (product, "multiplies the constraint here")),
        why="its gradient is the term that it multiplies: minimising the loss shrinks the weight while the constraint is not met",
        help='maximise over it: {"params": [log_lambda], "maximize": True} in a group of its own, or raise it by hand with the constraint',
    )
    return Broken("multiplier-inverted", found, "the weight rises with what it multiplies, or another term holds it", text)
