"""Networks that another one keeps in a plain list or dict: `model.parameters()` does not know them, and an optimizer over these neither."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn


def without_kept(tops: list[nn.Module], moved: Collection[int]) -> list[nn.Module]:
    """The networks but for those that another one keeps plainly. One whose parameters an optimizer holds (their ids are `moved`) stays."""
    kept = {id(m) for top in tops for part in top.modules() for m in _kept_by(part)}
    return [m for m in tops if id(m) not in kept or any(id(p) in moved for p in m.parameters())]


def _kept_by(module: nn.Module) -> Iterator[nn.Module]:
    """The modules in the lists and dicts that a module has as plain attributes."""
    for name, value in vars(module).items():
        if not name.startswith("_"):
            yield from _in(value)


def _in(value: Any) -> Iterator[nn.Module]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    yield from (part for part in parts if isinstance(part, nn.Module))
