"""What a run shows of a VAE beside its draws: an output like the input, and codes that are looked up."""

from __future__ import annotations

from typing import Any

import torch

from vaelint.record import ops
from vaelint.record.record import Record


def gives_back(record: Record) -> int:
    """1 if an output has as many values as the first input, or scores for each of its tokens."""
    x = _first_input(record)
    if x is None:
        return 0
    tokens = not x.is_floating_point()
    ours = [t for t in outputs(record) if t is not x and t.shape[:1] == x.shape[:1]]
    same = (t.shape == x.shape or (t.numel() == x.numel() and t.ndim != x.ndim) for t in ours)
    scores = (tokens and t.ndim == x.ndim + 1 for t in ours)
    return int(any(same) or any(scores))


def rows_after(record: Record) -> int | None:
    """How many rows come out where no output has the batch of the first input any more, as an axis or repeated in the first one.

    A view that takes the sizes of another image makes three rows of four.
    """
    x = _first_input(record)
    ours = [t for t in outputs(record) if t.ndim] if x is not None and x.ndim else []
    if x is None or not ours or any(t.shape[0] % x.shape[0] == 0 or x.shape[0] in t.shape for t in ours):
        return None
    return int(ours[0].shape[0])


def _first_input(record: Record) -> torch.Tensor | None:
    first = next(iter(record.inputs.values()), None)
    x = first.meta.get("val") if first is not None else None
    return x if isinstance(x, torch.Tensor) else None


def outputs(record: Record) -> list[torch.Tensor]:
    """The tensors that a model gives back, however they are packed."""
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
    return found


def picks_codes(record: Record) -> bool:
    """Whether the nearest of some codes is looked up."""
    names = {ops.op(n) for n in record.nodes}
    return bool(names & {"argmin", "argmax", "min", "max", "cdist", "topk"}) and bool(names & {"embedding", "one_hot", "detach", "getitem"})
