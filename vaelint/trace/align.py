"""Which node of a real run is which node of the static record."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import fx

from vaelint.record.record import Record, span


def align(static: Record, real: Record) -> dict[fx.Node, fx.Node]:
    """Static node -> real node. One to one where both runs took the same path; else by place, operation and occurrence.

    A run that raised is aligned as far as it got.
    """
    mine, theirs = static.nodes, real.nodes
    same = len(mine) == len(theirs) or (real.failure is not None and len(theirs) <= len(mine))
    if same and all(_alike(a, b) for a, b in zip(mine, theirs, strict=False)):
        return dict(zip(mine, theirs, strict=False))
    table: dict[Any, list[fx.Node]] = defaultdict(list)
    for node in theirs:
        table[_key(node)].append(node)
    counts: dict[Any, int] = defaultdict(int)
    pairs: dict[fx.Node, fx.Node] = {}
    for node in mine:
        key = _key(node)
        at = counts[key]
        counts[key] += 1
        if at < len(table[key]):
            pairs[node] = table[key][at]
    return pairs


def _alike(a: fx.Node, b: fx.Node) -> bool:
    return a.op == b.op and (a.op != "call_function" or a.target is b.target)


def _key(node: fx.Node) -> Any:
    if node.op == "call_function":
        return node.op, node.target, span(node)
    if node.op == "placeholder":
        return node.op, node.meta.get("input")
    return node.op, str(node.target)
