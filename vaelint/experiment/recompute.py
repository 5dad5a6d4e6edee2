"""What would a value be, had another been different? Runs the affected part of a real record again, on the tensors of that run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.core.reach import reachable
from vaelint.experiment.runs import seeded
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import Record
from vaelint.record.sizes import Expr
from vaelint.trace.lift import SymbolPower

_IN_PLACE = frozenset(
    {
        "__setitem__",
        "__iand__",
        "__ior__",
        "__ixor__",
        "__iadd__",
        "__isub__",
        "__imul__",
        "__itruediv__",
        "__ifloordiv__",
        "__imod__",
        "__ipow__",
    }
)

_FILLED = frozenset({"zeros", "ones", "full", "eye", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})
"""What these make is known from their arguments, whatever is written into it later on."""


def recompute(
    record: Record,
    wanted: list[fx.Node],
    changes: Mapping[fx.Node, Any],
    device: str,
    *,
    inside: Set[fx.Node] | None = None,
    redraw: bool = False,
    seed: int = 0,
) -> dict[fx.Node, Any]:
    """Values of `wanted` with some nodes changed; whatever does not depend on the changes keeps its recorded value.

    Args:
        changes: node of `record` -> its new value; autograd flows from these tensors.
        inside: only these nodes are run again; others keep their value even where they depend on a change.
        redraw: random nodes count as changed and draw anew. Otherwise only those that depend on a change do (dropout), seeded.

    Raises:
        CannotMeasureError: for a change in place that cannot be followed, or when torch refuses the new values.
    """
    env: dict[fx.Node, Any] = dict(changes)
    todo = _affected(record, wanted, changes, inside, redraw)
    stale = overwritten(record)
    with warnings.catch_warnings(), seeded(seed, device):
        warnings.simplefilter("ignore")
        for node in todo:
            if node in env:
                continue
            try:
                env[node] = _call(node, env, stale)
            except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:
                raise CannotMeasureError(
                    f"{ops.op(node)} does not take the changed values ({message_of(error).splitlines()[0][:100]})"
                ) from error
    return {n: env[n] if n in env else n.meta.get("val") for n in wanted}


def _affected(
    record: Record, wanted: list[fx.Node], changes: Mapping[fx.Node, Any], inside: Set[fx.Node] | None, redraw: bool
) -> list[fx.Node]:
    """Nodes to run: those that depend on a change and that `wanted` depends on, in order."""
    dirty: set[fx.Node] = set(changes)
    if inside is not None:  # an operation of several results belongs to where its results are used
        inside = inside | {
            n for n in record.graph.nodes if n.op == "call_function" and n.meta.get("val") is None and any(u in inside for u in n.users)
        }
    for node in record.graph.nodes:
        if node in dirty or node.op != "call_function" or (inside is not None and node not in inside):
            continue
        if (redraw and ops.is_random(node)) or any(n in dirty for n in ops.value_inputs(node)):
            dirty.add(node)
    if any(n in dirty for node in record.graph.nodes if node not in changes for n in node.meta.get("carried", ())):
        raise CannotMeasureError("a value in between goes through numpy or plain numbers")
    needed = reachable([n for n in wanted if n in dirty], lambda node: [n for n in node.all_input_nodes if n in dirty], stop=changes)
    return [n for n in record.graph.nodes if n in needed]


def overwritten(record: Record) -> set[fx.Node]:
    """Nodes whose tensor got another value in place later on: what they had is gone."""
    current: dict[int, list[fx.Node]] = {}
    gone: set[fx.Node] = set()
    for node in record.graph.nodes:
        val = node.meta.get("val")
        if isinstance(val, torch.Tensor):
            if in_place(node) or node.target is effect:
                gone.update(current.pop(id(val), ()))
            current.setdefault(id(val), []).append(node)
    return gone


def in_place(node: fx.Node) -> bool:
    """Whether a node changes its first argument."""
    name = ops.raw_name(node)
    own = (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE or bool(node.kwargs.get("inplace"))
    return node.op == "call_function" and (own or node.kwargs.get("out") is not None)


def _call(node: fx.Node, env: dict[fx.Node, Any], stale: set[fx.Node]) -> Any:
    if node.target is effect:
        return _through_a_view(node, env, stale)
    name = ops.raw_name(node)
    for n in ops.value_inputs(node):
        if n in stale and n not in env and not (name in ops.OVERWRITES and n is node.args[0]):
            _make_again(n, env, stale)
    args, kwargs = _resolve(node.args, env), _resolve(dict(node.kwargs), env)
    if kwargs.get("out") is not None:
        raise CannotMeasureError("a result is written into another tensor")
    if in_place(node):
        first = args[0]
        if isinstance(first, torch.Tensor):
            args = (first.clone(), *args[1:])  # the recorded value stays as it is
    target: Any = node.target
    result = target(*args, **kwargs)
    return args[0] if node.meta.get("returns_none") else result


def _through_a_view(node: fx.Node, env: dict[fx.Node, Any], stale: set[fx.Node]) -> torch.Tensor:
    """A tensor after a part of it was changed in place: a copy, with the part's new value at its place."""
    base, changed = (a for a in node.args if isinstance(a, fx.Node))
    views: list[fx.Node] = []
    at: Any = changed
    while at is not base:
        if not isinstance(at, fx.Node) or not at.args or not (in_place(at) or ops.op(at) in ops.SHAPE | ops.SELECT):
            raise CannotMeasureError("a tensor is changed in place through another one")
        views += [] if in_place(at) else [at]
        at = at.args[0]
    if base in stale and base not in env:
        _make_again(base, env, stale)
    whole: torch.Tensor = _resolve(base, env).clone()
    part = whole
    for view in reversed(views):
        target: Any = view.target
        part = target(part, *_resolve(view.args[1:], env), **_resolve(dict(view.kwargs), env))
    if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        raise CannotMeasureError("what is changed in place is a copy")
    part.copy_(_resolve(changed, env))
    return whole


def _make_again(node: fx.Node, env: dict[fx.Node, Any], stale: set[fx.Node]) -> None:
    """What a node had before it was overwritten, made of what it was made of: the sums of a loop before the last turn. A draw is gone."""
    for n in reversed(_chain(node, env, stale)):
        if _is_filled(n):
            filled: Any = n.target
            env[n] = filled(*_resolve(n.args, env), **_resolve(dict(n.kwargs), env))
        elif n.op != "call_function" or ops.is_random(n):
            raise CannotMeasureError("a tensor that it reads was changed in place afterwards")
        else:
            env[n] = _call(n, env, stale)


def _chain(node: fx.Node, env: Mapping[fx.Node, Any], stale: set[fx.Node]) -> list[fx.Node]:
    """The overwritten values that one is made of, itself first, without those that are known."""
    gone = reachable([node], lambda n: [i for i in ops.value_inputs(n) if i in stale and i not in env and not _is_filled(n)])
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    return sorted(gone, key=order.__getitem__, reverse=True)


def _is_filled(node: fx.Node) -> bool:
    """Whether its values are known from its arguments: of another tensor it has the size alone, as `x.new_zeros(n)`."""
    like = node.args[:1] if ops.raw_name(node).endswith("_like") or ops.raw_name(node).startswith("new_") else ()
    return ops.raw_name(node) in _FILLED and set(ops.value_inputs(node)) <= {a for a in like if isinstance(a, fx.Node)}


def _resolve(value: Any, env: Mapping[fx.Node, Any]) -> Any:
    if isinstance(value, fx.Node):
        if value in env:
            return env[value]
        found = value.meta.get("val")
        if found is None:
            raise CannotMeasureError(f"the value of {value.name} was not kept")
        if isinstance(found, Expr):  # a size computed on the way to another
            target: Any = value.target
            return target(*_resolve(value.args, env))
        return found
    if isinstance(value, tuple):
        return tuple(_resolve(v, env) for v in value)
    if isinstance(value, list):
        return [_resolve(v, env) for v in value]
    if isinstance(value, dict):
        return {k: _resolve(v, env) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(_resolve(value.start, env), _resolve(value.stop, env), _resolve(value.step, env))
    return value.now if isinstance(value, SymbolPower) else value
