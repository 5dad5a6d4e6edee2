"""Law B5, for weights that balance gradients: such a weight falls where the gradient of what it weighs is larger.

Intervention: of the gradients that a weight is made of, those of the term that it multiplies are taken larger in the recorded step, then
those of the other terms. A weight that is to bring both to one size falls at the first and rises at the second. Exempt are weights
that are made of one term's gradients alone, and those that a bound holds.

Source: Esser et al. 2021, Taming Transformers for High-Resolution Image Synthesis, eq. 7.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_LARGER = 1.5
_NOTHING = 1e-3


@dataclass(frozen=True)
class _Balance:
    """A weight without a gradient that multiplies a term, and the gradients that it is made of: of that term, and of others."""

    weight: fx.Node
    term: fx.Node
    own: tuple[fx.Node, ...]
    others: tuple[fx.Node, ...]


@law(
    "balances-even-out",
    "a weight that is made of gradients falls where the gradient of the term that it weighs is larger",
    covered=("VAE905", "VAE917"),
    cost="all",
)
def balances_even_out(bench: Bench) -> Iterator[Broken]:
    """Weights of terms that the step reckons from what `torch.autograd.grad` gave for two terms."""
    for balance in _balances(bench):
        weights = [
            bench.after({n: by * bench.value(n) for n in nodes}, [balance.weight]).get(balance.weight) for nodes, by in _turns(balance)
        ]
        if any(w is None or w.numel() != 1 for w in weights):
            continue
        plain, own, others = (float(w) for w in weights if w is not None)
        if own * plain > plain * plain * (1 + _NOTHING) and others * plain < plain * plain * (1 - _NOTHING):
            yield _inverted(bench, balance, plain, own)
            return


def _turns(balance: _Balance) -> tuple[tuple[tuple[fx.Node, ...], float], ...]:
    return (balance.own, 1.0), (balance.own, _LARGER), (balance.others, _LARGER)


def _balances(bench: Bench) -> Iterator[_Balance]:
    record, flow = bench.model.record, bench.model.flow
    asked = [n for n in record.nodes if n.op == "call_function" and n.target is torch.autograd.grad]
    if len(asked) < 2:
        return
    for product in (n for n in record.nodes if ops.op(n) in ops.MUL):
        operands = [n for n in ops.value_inputs(product) if bench.is_real(n)]
        for weight, term in zip(operands, reversed(operands), strict=True):
            if weight.meta.get("grad") or not term.meta.get("grad") or len(operands) != 2:
                continue
            behind = flow.ancestors(weight)
            made_of = [n for n in asked if n in behind]
            mine = [n for n in made_of if _is_of(bench, n, term)]
            own, others = ([r for n in part for r in _results(bench, n)] for part in (mine, [n for n in made_of if n not in mine]))
            if own and others and all(bench.knows(n) for n in (weight, *own, *others)):
                yield _Balance(weight, term, tuple(own), tuple(others))


def _is_of(bench: Bench, asked: fx.Node, term: fx.Node) -> bool:
    """Whether a gradient was taken of the term that is weighed, whatever number either was multiplied by."""
    outputs = asked.args[0] if asked.args else asked.kwargs.get("outputs")
    of = outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs
    return isinstance(of, fx.Node) and _bare(bench, of) is _bare(bench, term)


def _bare(bench: Bench, node: fx.Node) -> fx.Node:
    """A term without the numbers that it is multiplied by."""
    while ops.op(node) in ops.MUL | ops.DIV | {"neg", "negative"}:
        live = [n for n in ops.value_inputs(node) if n.meta.get("grad")]
        if len(live) != 1:
            break
        node = live[0]
    return node


def _results(bench: Bench, asked: fx.Node) -> list[fx.Node]:
    return [n for n in asked.users if bench.is_real(n)] or ([asked] if bench.is_real(asked) else [])


def _inverted(bench: Bench, balance: _Balance, plain: float, own: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(_ratio(bench, balance)),
        label="rises with the gradient of what it weighs",
        labels=model.labels((balance.term, "the term that it weighs")),
        why="the term counts most where its gradient is the larger one already, and least where it is the smaller one: "
        "the two are driven apart, not evened out",
        help="divide the other term's gradient norm by that of the weighed one",
    )
    text = f"the weight goes from {plain:.4g} to {own:.4g} where the gradient of the term that it weighs is {_LARGER:g} times larger"
    return Broken("balance-inverted", found, "a balancing weight falls as the gradient of its term grows", text)


def _ratio(bench: Bench, balance: _Balance) -> fx.Node:
    """The last division that both gradients are in, else the weight."""
    flow = bench.model.flow
    both = flow.descendants(*balance.own) & flow.descendants(*balance.others) & (flow.ancestors(balance.weight) | {balance.weight})
    first = flow.sorted(both)
    return first[0] if first else balance.weight
