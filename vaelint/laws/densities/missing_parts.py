"""The part that keeps a likelihood from being a density: weights of components that do not add up to one, a share that one branch lacks.

Where a value of the formula, normalised over the axis that a log-sum-exp adds up, or added to one branch of a `where` of logarithms,
makes the law hold, what reads it is where the fault enters.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.densities.numbers import Number, Put
from vaelint.record import ops
from vaelint.record.record import shape

_MOST = 16  # of each kind that are tried
_LINEAR = ops.ADD | ops.SHAPE | ops.CAST | {"neg", "negative", "where"}  # a branch stays a logarithm through these
_LIMITS = frozenset({"gt", "ge", "lt", "le", "greater", "less", "greater_equal", "less_equal"})
_SOFTMAX = frozenset({"softmax", "log_softmax"})


def loose_weights(one: Elementwise, holds: Callable[[Put], bool]) -> Number | None:
    """The first weights of components that mend the likelihood where they add up to one."""
    model = one.bench.model
    for weights, reader, axis in islice(_weights(one), _MOST):
        if holds(partial(_normalised, one, weights, axis)):
            place = model.where(weights if ops.op(weights) in _SOFTMAX else reader)
            return Number(place, f"{model.written(weights)} does not add up to one over the components")
    return None


def missing_share(one: Elementwise, holds: Callable[[Put], bool]) -> Number | None:
    """The first branch that mends the likelihood where a log-share of the decoder's is added to it."""
    for branch, part, at in islice(_branches(one), _MOST):
        if any(holds(partial(_completed, one, at, branch, part, sign)) for sign in (1.0, -1.0)):
            return Number(_named(one, at, branch), f"lacks {one.bench.model.written(part)}, with which the branches add up to one")
    return None


def missing_part(one: Elementwise, holds: Callable[[Put], bool]) -> Number | None:
    """The first addend that does not move with the data and mends the likelihood where one of its own parts is added or taken away."""
    for node, part in islice(_addends(one), _MOST):
        if any(holds(partial(_lengthened, one, node, part, sign)) for sign in (1.0, -1.0)):
            model = one.bench.model
            return Number(model.where(node), f"adds up to one with {model.written(part)} added to it, or taken from it, once more")
    return None


def is_censored(one: Elementwise) -> bool:
    """Whether data beyond a limit have a probability in place of a density: they are known to be there, and no more (Tobin 1958)."""
    flow, ends = one.bench.model.flow, {*one.at.raw, *one.at.parameters}
    for at in (n for n in one.inside | {one.core} if ops.op(n) == "where" and len(n.args) == 3):
        branches = [b for b in at.args[1:] if isinstance(b, fx.Node) and b in flow.learned]
        without = sum(one.at.target in flow.ancestors(b, stop=ends) for b in branches) == 1
        if isinstance(at.args[0], fx.Node) and _is_flag(one, at.args[0]) and len(branches) == 2 and without:
            return True
    return any(_adds_by_flags(one, n) for n in one.inside | {one.core} if ops.op(n) in ops.ADD)


def _adds_by_flags(one: Elementwise, node: fx.Node) -> bool:
    """Whether a sum has a density where a flag is down and something without the data where it is up: `c * log S + (1 - c) * log p`."""
    flow, ends = one.bench.model.flow, {*one.at.raw, *one.at.parameters}
    parts = [ops.value_inputs(n) for n in ops.value_inputs(node) if ops.op(n) in ops.MUL and n in flow.learned]
    flags = [{i for i in part if _is_flag(one, i)} for part in parts]
    rest = [[i for i in part if i not in told] for part, told in zip(parts, flags, strict=True) if told]
    if len(rest) != 2 or set.intersection(*flags):
        return False  # one mask of both: an error and its log-scale
    return sum(bool({one.at.target} & (flow.ancestors(*part, stop=ends) | {*part})) for part in rest) == 1


def _is_flag(one: Elementwise, node: fx.Node) -> bool:
    """Whether a value tells which data are beyond a limit: by another input than the data, or by comparing the data with it."""
    flow = one.bench.model.flow
    if node not in flow.data or node in flow.learned:
        return False
    behind = flow.ancestors(node) | {node}
    limits = [n for n in behind if ops.op(n) in _LIMITS and one.at.target in ops.value_inputs(n) and not any(a == 0 for a in n.args[1:])]
    return bool(limits) or one.at.target not in behind


def _addends(one: Elementwise) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Values without the data that are added to what moves with it, in the logarithm of the density, and what each is made of."""
    flow, still = one.bench.model.flow, _still(one)
    for at in flow.sorted({n for n in {*one.inside, one.core} if ops.op(n) in ops.ADD and n not in still}):
        later = flow.descendants(at) & one.inside | {one.core}
        if all(ops.op(n) in _LINEAR for n in later - {at}):
            for node in (n for n in ops.value_inputs(at) if n in still):
                behind = flow.ancestors(node)
                yield from ((node, part) for part in reversed(still) if part in behind and part is not node and shape(part) == shape(node))


def _lengthened(
    one: Elementwise, node: fx.Node, part: fx.Node, sign: float, points: torch.Tensor, seed: int
) -> dict[fx.Node, torch.Tensor]:
    got = one.as_they_are(points, seed, [node, part])
    return {node: got[node] + sign * got[part]}


def _still(one: Elementwise) -> list[fx.Node]:
    """Values made of what the decoder puts out that do not move with the data, in order."""
    flow, own = one.bench.model.flow, {*one.at.raw, *one.at.parameters}
    behind = {n: flow.ancestors(n, stop={*own, *one.at.conditions}) | {n} for n in flow.sorted(one.inside | own)}
    return [n for n, every in behind.items() if one.bench.is_real(n) and one.at.target not in every and own & every]


def _weights(one: Elementwise) -> Iterator[tuple[fx.Node, fx.Node, int]]:
    """What is added to the log-densities of components before a log-sum-exp, what adds it, and the axis of the components."""
    flow, still = one.bench.model.flow, set(_still(one))
    for total in flow.sorted({n for n in {*one.inside, one.core} if ops.op(n) == "logsumexp" and n not in still}):
        operand = ops.value_inputs(total)[0]
        axis = total.args[1] if len(total.args) > 1 else total.kwargs.get("dim")
        axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
        if not isinstance(axis, int):
            continue
        axis = axis % len(shape(operand))
        for reader in flow.sorted(flow.ancestors(operand, stop={one.at.target}) & (one.inside | {operand})):
            if ops.op(reader) in ops.ADD and reader not in still and len(shape(reader)) == len(shape(operand)):
                for node in ops.value_inputs(reader):
                    if node in still and len(shape(node)) == len(shape(operand)) and shape(node)[axis] == shape(operand)[axis] > 1:
                        yield node, reader, axis


def _normalised(one: Elementwise, node: fx.Node, axis: int, points: torch.Tensor, seed: int) -> dict[fx.Node, torch.Tensor]:
    return {node: torch.log_softmax(one.as_they_are(points, seed, [node])[node], axis)}


def _branches(one: Elementwise) -> Iterator[tuple[int, fx.Node, fx.Node]]:
    """Branches that the data choose (which operand of which `where`), and values of the decoder that each may lack."""
    flow, still = one.bench.model.flow, _still(one)
    for at in flow.sorted({n for n in {*one.inside, one.core} if ops.op(n) == "where" and len(n.args) == 3}):
        condition = at.args[0]
        later = flow.descendants(at) & one.inside | {one.core}
        is_log = all(ops.op(n) in _LINEAR for n in later - {at})
        if not is_log or not isinstance(condition, fx.Node) or one.at.target not in flow.ancestors(condition):
            continue
        for part in reversed(still):
            for branch in (1, 2):
                if part is not at.args[branch] and shape(part) == shape(at):
                    yield branch, part, at


def _completed(
    one: Elementwise, at: fx.Node, branch: int, part: fx.Node, sign: float, points: torch.Tensor, seed: int
) -> dict[fx.Node, torch.Tensor]:
    condition = at.args[0]
    assert isinstance(condition, fx.Node)
    got = one.as_they_are(points, seed, [at, part, condition])
    chosen = got[condition] if branch == 1 else got[condition].logical_not()
    return {at: got[at] + sign * got[part] * chosen}


def _named(one: Elementwise, at: fx.Node, branch: int) -> Span | None:
    """The line of the same function that gives the branch its name; where the branches meet if it has none, or is read elsewhere too."""
    source, place = one.bench.model.source, one.bench.model.where(at)
    value = at.args[branch]
    if isinstance(value, fx.Node) and set(one.bench.model.flow.users.get(value, ())) & one.inside - {at}:
        return place
    call = source.file(place.file).at(place) if place is not None else None
    scope = source.function(place) if place is not None else None
    if (
        place is None
        or scope is None
        or not isinstance(call, ast.Call)
        or len(call.args) != 3
        or not isinstance(call.args[branch], ast.Name)
    ):
        return place
    name = ast.unparse(call.args[branch])
    given = [
        n for n in ast.walk(scope) if isinstance(n, ast.Assign) and n.lineno < call.lineno and [ast.unparse(t) for t in n.targets] == [name]
    ]
    last = max(given, key=lambda n: n.lineno, default=None)
    return source.file(place.file).place(place.file, last.value) if last is not None else place
