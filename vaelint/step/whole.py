"""Which of the numbers that a loss function returns is minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vaelint.record.walk import functions_behind
from vaelint.step.meaning import TOTAL_NAME


def pick_loss(value: object) -> tuple[object, str]:
    """The loss within what a loss function returned, and how it is reached: "" for a tensor, `["loss"]`, `[0]` or `.loss`.

    The number that is named so; else the one that all others enter; else the first.
    """
    if isinstance(value, torch.Tensor) or value is None:
        return value, ""
    parts: list[tuple[str, str, object]]
    if isinstance(value, Mapping):
        parts = [(f"[{key!r}]", str(key), part) for key, part in value.items()]
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", None)
        parts = [(f".{fields[i]}" if fields else f"[{i}]", fields[i] if fields else "", part) for i, part in enumerate(value)]
    else:
        parts = [(f".{key}", key, part) for key, part in vars(value).items()] if hasattr(value, "__dict__") else []
    scalars = [(path, name, part) for path, name, part in parts if isinstance(part, torch.Tensor) and part.numel() == 1]
    total = next((p for p in scalars if TOTAL_NAME.fullmatch(p[1])), None)
    if total is None and scalars:
        whole = sum_of_all([part for _, _, part in scalars])
        total = scalars[whole if whole is not None else 0]
    return (total[2], total[0]) if total is not None else (value, "")


def sum_of_all(values: Sequence[torch.Tensor]) -> int | None:
    """The one value that all others with a gradient were used for; None if there is none, or more than one."""
    places = [i for i, v in enumerate(values) if v.grad_fn is not None]
    found = [i for i in places if all(enters(values[k], values[i]) for k in places)]
    return found[0] if len(found) == 1 else None


def enters(part: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether the gradient of one value flows through another."""
    return part.grad_fn in functions_behind(whole)
