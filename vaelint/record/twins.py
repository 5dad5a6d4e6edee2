"""What is computed twice of the same values is one value: the encoder that the loss calls again for its KL, after `model(x)` has drawn."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import Record, span
from vaelint.record.selections import key_of

_UNLIKE = frozenset({
    "dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu",
    "scaled_dot_product_attention", "multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu", "effect", "setitem",
})  # fmt: skip
"""Operations of which two need not be alike, as they draw masks, or that are run for what they do."""
_PARTS = ops.SELECT | ops.SHAPE | {"data", "detach"}


def join_twins(record: Record) -> dict[fx.Node, fx.Node]:
    """Lets whatever reads a layer's second result of the same values read the first. The later nodes stay, read by none.

    What runs again at the same place of the code is joined, with all that leads to it: two calls of one layer at two places may be a
    fault. Both have, or have not, a gradient, and lie between the same backward passes of the step. Returns the later node -> the one
    read in its stead.
    """
    passes = [call.at for call in record.backwards]
    written = _written_into(record)
    first: dict[Any, fx.Node] = {}
    twin: dict[fx.Node, fx.Node] = {}
    for i, node in enumerate(record.graph.nodes):
        if not _is_plain(node) or node in written or any(n in written for n in node.all_input_nodes):
            continue
        key = (node.target, key_of((node.args, node.kwargs), twin), bisect_right(passes, i), *_kind(node))
        kept = first.setdefault(key, node)
        if kept is not node:
            twin[node] = kept
    joined = _worth_joining(twin)
    for node in joined:
        node.replace_all_uses_with(twin[node])
    return {node: twin[node] for node in joined}


def _worth_joining(twin: dict[fx.Node, fx.Node]) -> list[fx.Node]:
    """What one place of the code ran again, with what leads to it, where more than one value comes of it: a mean and a scale.

    One layer that is called twice for one value each is another matter: it may be one head for both.
    """
    leads: set[fx.Node] = set()
    for node in reversed(twin):
        if node in leads or (span(node) is not None and span(node) == span(twin[node])):
            leads.add(node)
            leads.update(n for n in node.all_input_nodes if n in twin)
    return [node for group in _connected([n for n in twin if n in leads]) if _has_moments(group) for node in group]


def _connected(nodes: list[fx.Node]) -> list[set[fx.Node]]:
    """The groups of nodes that read one another."""
    left, groups = dict.fromkeys(nodes), list[set[fx.Node]]()
    while left:
        near = reachable([next(iter(left))], lambda n: [m for m in (*n.all_input_nodes, *n.users) if m in left])
        groups.append(near)
        for node in near:
            del left[node]
    return groups


def _has_moments(group: set[fx.Node]) -> bool:
    """Whether a layer is among these values, and more than one of them is read by none of the others."""
    ends = sum(not any(user in group for user in node.users) for node in group)
    return ends > 1 and any(map(ops.uses_parameter, group))


def _is_plain(node: fx.Node) -> bool:
    """Whether the same arguments give the same result again."""
    if node.op != "call_function" or ops.op(node) in _UNLIKE or node.meta.get("carried"):
        return False
    return not ops.is_random(node) and not ops.changes_in_place(ops.raw_name(node))


def _written_into(record: Record) -> set[fx.Node]:
    """What is changed in place, or is a part of what is."""
    found: set[fx.Node] = set()
    for node in record.graph.nodes:
        if node.op == "call_function" and (ops.changes_in_place(ops.raw_name(node)) or ops.op(node) in ("setitem", "effect")):
            target = node.args[0] if node.args else None
            while isinstance(target, fx.Node) and target not in found:
                found.add(target)
                is_part = target.op == "call_function" and ops.op(target) in _PARTS and target.args
                target = target.args[0] if is_part else None
    return found


def _kind(node: fx.Node) -> tuple[Any, ...]:
    value = node.meta.get("val")
    tensor = (value.dtype, value.device) if isinstance(value, torch.Tensor) else ()
    return (bool(node.meta.get("grad")), *tensor)
