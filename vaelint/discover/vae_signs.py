"""What a run shows of a VAE beside its draws: an output like the input, and codes that are looked up."""

from __future__ import annotations

from typing import Any

import torch

from vaelint.record import ops
from vaelint.record.record import Record


def gives_back(record: Record) -> int:
    """1 if an output has as many values as the first input, or scores for each of its tokens."""
    first = next(iter(record.inputs.values()), None)
    x = first.meta.get("val") if first is not None else None
    found: list[torch.Tensor] = []

    def visit(value: Any, depth: int = 3) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict) and depth:
            for part in value.values():
                visit(part, depth - 1)
        elif isinstance(value, list | tuple) and depth:
            for part in value:
                visit(part, depth - 1)
        elif hasattr(value, "mean") and isinstance(value, torch.distributions.Distribution):
            found.append(value.mean)
        elif hasattr(value, "__dict__") and depth:
            for part in vars(value).values():
                visit(part, depth - 1)

    visit(record.raw_output)
    if not isinstance(x, torch.Tensor):
        return 0
    tokens = not x.is_floating_point()
    ours = [t for t in found if t is not x and t.shape[:1] == x.shape[:1]]
    same = (t.shape == x.shape or (t.numel() == x.numel() and t.ndim != x.ndim) for t in ours)
    scores = (tokens and t.ndim == x.ndim + 1 for t in ours)
    return int(any(same) or any(scores))


def picks_codes(record: Record) -> bool:
    """Whether the nearest of some codes is looked up."""
    names = {ops.op(n) for n in record.nodes}
    return bool(names & {"argmin", "argmax", "min", "max", "cdist", "topk"}) and bool(names & {"embedding", "one_hot", "detach", "getitem"})
