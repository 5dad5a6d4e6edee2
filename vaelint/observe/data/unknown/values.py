"""The content of files that are not there, made of what is known of it."""

from __future__ import annotations

import math
import zlib
from typing import Any

import torch

from vaelint.observe.data.public_files import sentence
from vaelint.observe.data.unknown.wishes import Node, Wishes

_MOST = 20_000_000  # numbers of an array


def array(node: Node, wishes: Wishes, row: int | None = None) -> Any:
    """An array, or one row of it: whole numbers, or numbers that go together as those of real data do."""
    sizes = [wishes.size(name) for name in node.axes]
    cells = math.prod(sizes)
    rows = max(min(wishes.rows, _MOST // max(cells, 1)), 2)
    seed = zlib.crc32(node.name.encode()) % 100_000
    generator = torch.Generator().manual_seed(seed)
    if node.values == "numbers":
        made = torch.randint(0, max(node.below, 1), (rows, cells), generator=generator)
        made[: min(rows, node.below)] = torch.arange(min(rows, node.below))[:, None]  # all of them occur
    else:
        few = torch.randn(rows, 3, generator=generator) @ torch.randn(3, cells, generator=generator)
        made = torch.sigmoid(few + 0.3 * torch.randn(rows, cells, generator=generator))
        made = 4 * made - 2 if wishes.other and node.values != "unit!" else made
        made = made.to(getattr(torch, node.real))
    shaped = made.reshape(rows, *sizes)
    one = shaped if row is None and not node.whole else shaped[(row or 0) % rows]
    return one if node.library == "torch" else one.numpy()[()]


def number(node: Node, row: int | None) -> Any:
    """A number: a whole one below what is known."""
    return (row or 0) % max(node.below, 1)


def word(row: int | None) -> str:
    """Some words."""
    return sentence(row or 0)


def says(node: Node, wishes: Wishes) -> str:
    """What a file was made, in words."""
    if node.kind == "array":
        sizes = "x".join(map(str, [*([] if node.whole else [wishes.rows]), *map(wishes.size, node.axes)]))
        return f"an array of {sizes}" if node.values != "numbers" else f"an array of {sizes} whole numbers"
    if node.kind == "mapping":
        return f"{', '.join(list(node.parts)[:6])}" if node.parts else "a mapping"
    if node.kind == "items":
        return f"{len(node.parts)} parts"
    return {"rows": f"{wishes.rows} rows", "table": f"a table of {wishes.rows} rows"}.get(node.kind, "what the code makes of it")
