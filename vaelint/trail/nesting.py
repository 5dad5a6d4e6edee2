"""Which calls of modules each node ran inside of, outermost first."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from vaelint.record.record import ModuleCall, Record

_PLAIN = re.compile(r"\b(?:in|out)_features=|, bias=True|, affine=True|, track_running_stats=True")


def call_stacks(record: Record) -> dict[fx.Node, tuple[int, ...]]:
    """For each node the indices into `record.calls`, without the call of the model itself."""
    stacks: dict[fx.Node, tuple[int, ...]] = {}
    running: list[int] = []
    following = 0
    for i, node in enumerate(record.nodes):
        while following < len(record.calls) and record.calls[following].first <= i:
            call = record.calls[following]
            while running and record.calls[running[-1]].depth >= call.depth:
                running.pop()
            running.append(following)
            following += 1
        path = node.meta.get("module")
        if path is None:
            continue
        while running and record.calls[running[-1]].path != path:
            running.pop()
        stacks[node] = tuple(c for c in running if record.calls[c].path != "")
    return stacks


def describe_call(call: ModuleCall, record: Record) -> dict[str, Any]:
    """A call in plain values. Only modules of torch are asked to describe themselves: `Linear(784, 128)`."""
    kind = type(call.module)
    text = kind.__name__
    if kind.__module__.startswith("torch.nn"):
        inner = _PLAIN.sub("", call.module.extra_repr())
        text = f"{text}({inner})" if inner and len(inner) < 80 and "\n" not in inner else text
    return {"path": call.path, "type": kind.__name__, "text": text, "birth": record.births.get(id(call.module))}
