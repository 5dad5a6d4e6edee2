"""Notes which automatic precision user code asks for, also where its device is not there and torch turns it off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from vaelint.late import dataclass


@dataclass(frozen=True)
class Autocast:
    """A region of automatic precision, as it was asked for."""

    device: str  # "cuda", "cpu"
    dtype: torch.dtype


@contextlib.contextmanager
def noting_autocast(regions: list[Autocast | None]) -> Iterator[None]:
    """While the block runs, `regions` holds the automatic precision that is in force, innermost last; None for one turned off."""
    kind: Any = torch.autocast
    kept = kind.__init__, kind.__enter__, kind.__exit__
    asked: dict[int, Autocast | None] = {}

    def init(self: Any, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, *args: Any, **kwargs: Any) -> None:
        kept[0](self, device_type, dtype, enabled, *args, **kwargs)
        default = torch.float16 if device_type == "cuda" else torch.bfloat16
        asked[id(self)] = Autocast(device_type, dtype or default) if enabled else None

    def enter(self: Any) -> Any:
        regions.append(asked.get(id(self)))
        return kept[1](self)

    def leave(self: Any, *args: Any) -> Any:
        regions.pop()
        return kept[2](self, *args)

    kind.__init__, kind.__enter__, kind.__exit__ = init, enter, leave
    try:
        yield
    finally:
        kind.__init__, kind.__enter__, kind.__exit__ = kept
