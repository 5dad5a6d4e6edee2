"""The deviation of a decoder that its author wrote: a constant that an error is divided by before it is squared, or 2 s^2 below its square.

((x - r) / s)^2 / 2 is minus the logarithm of a Gaussian density of deviation s up to a constant, as (x - r)^2 / 2 is at a deviation of 1.
What a square is multiplied with afterwards is a weight, but for a division by 2 s^2 that is written as such.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from itertools import product

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.measuring import EVENS, bases
from vaelint.replay.replay import Replay, ReplayError

_SAME = 1e-6


def deviation_of(fact: ReconFact, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> float | None:
    """What the error is divided by before its kernel, one number for all elements; None where it is not divided."""
    if fact.probe.kernel not in ("squared_error", "absolute_error") or fact.pair.target is None:
        return None
    scaled = _before_the_kernel(fact, flow)
    if scaled is None:
        return _written_below(fact)
    for base, even in product(bases(symbols), EVENS[:2]):
        try:
            t = torch.full(replay.shape_of(fact.pair.target, base), 0.4, dtype=torch.float64)
            r = torch.full(replay.shape_of(fact.pair.recon, base), 1.4, dtype=torch.float64)
            got = replay([scaled], {fact.pair.recon: r, fact.pair.target: t}, base, even=even)[scaled].abs()
        except ReplayError:
            continue
        one = float(got.flatten()[0]) if got.numel() else 0.0
        return 1 / one if one and float((got - one).abs().max()) <= _SAME * one else None
    return None


def _before_the_kernel(fact: ReconFact, flow: Flow) -> fx.Node | None:
    """The error as its kernel gets it, where constants have scaled it on the way."""
    node, scaled = fact.pair.meet, False
    if ops.op(node) not in ops.ADD:
        return None
    ends = {fact.pair.leaf.node}
    between = flow.descendants(node, stop=ends) & flow.ancestors(*ends)
    while len(after := [u for u in flow.users.get(node, ()) if u in between]) == 1:
        (user,) = after
        name = ops.op(user)
        if name in ops.MUL | ops.DIV:
            if user.args[0] is not node and not (name in ops.MUL and user.args[1] is node):
                break
            others = [n for n in ops.value_inputs(user) if n is not node]
            if any(n in flow.data or n in flow.learned or n in flow.noisy for n in others) or user.args[0] is user.args[1]:
                break
            scaled = True
        elif name not in ops.SHAPE | ops.CAST | {"neg", "negative"}:
            break
        node = user
    return node if scaled and node not in ends else None


def _written_below(fact: ReconFact) -> float | None:
    """s, where the square of the error is divided by what is written as 2 s^2."""
    for factor in fact.factors:
        if fact.probe.kernel == "squared_error" and factor.value and ops.op(factor.node) in ops.DIV and _is_twice_a_square(factor.text):
            return float((0.5 / factor.value) ** 0.5)
    return None


def _is_twice_a_square(text: str) -> bool:
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(tree, ast.BinOp) or not isinstance(tree.op, ast.Mult):
        return False
    two, rest = (tree.left, tree.right) if isinstance(tree.left, ast.Constant) else (tree.right, tree.left)
    if not isinstance(two, ast.Constant) or two.value != 2 or not isinstance(rest, ast.BinOp):
        return False
    if isinstance(rest.op, ast.Pow):
        return isinstance(rest.right, ast.Constant) and rest.right.value == 2
    return isinstance(rest.op, ast.Mult) and ast.dump(rest.left) == ast.dump(rest.right)
