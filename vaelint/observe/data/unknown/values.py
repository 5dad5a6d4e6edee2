"""The content of files that are not there, made of what is known of it."""

from __future__ import annotations

import math
import zlib
from functools import cache, lru_cache
from typing import Any

import torch

from vaelint.observe.data.public_files import sentence
from vaelint.observe.data.unknown.wishes import Node, Wishes

_MOST = 20_000_000  # numbers of an array


def array(node: Node, wishes: Wishes, row: int | None = None) -> Any:
    """An array, or one row of it: whole numbers, or numbers that go together as those of real data do."""
    sizes = [wishes.size(name) for name in node.axes]
    rows = max(min(wishes.rows, _MOST // max(math.prod(sizes), 1)), 2)
    made = _made(node.name, node.values, node.below, node.real, rows, math.prod(sizes), wishes.other)
    shaped = made.reshape(rows, *sizes)
    one = (shaped if row is None and not node.whole else shaped[(row or 0) % rows]).clone()
    if node.library == "torch":
        return one
    return _sparse_kind()(one.numpy()) if node.library == "sparse" else one.numpy()[()]


@lru_cache(maxsize=4)  # each row of many asks for all of them
def _made(name: str, values: str, below: int, real: str, rows: int, cells: int, other: bool) -> torch.Tensor:
    """All rows of an array, flat."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) % 100_000)
    if values == "numbers":
        made = torch.randint(0, max(below, 1), (rows, cells), generator=generator)
        made[: min(rows, below)] = torch.arange(min(rows, below))[:, None]  # all of them occur
        return made
    few = torch.randn(rows, 3, generator=generator) @ torch.randn(3, cells, generator=generator)
    made = torch.sigmoid(few + 0.3 * torch.randn(rows, cells, generator=generator))
    made = 4 * made - 2 if other and values != "unit!" else made
    return made.to(getattr(torch, real))


@cache
def _sparse_kind() -> Any:
    """The type of an array that is asked for its dense form, as those of scipy.sparse and sparse are."""
    import numpy

    class MadeSparse(numpy.ndarray):
        """Holds all its zeros, and gives what sparse arrays give."""

        def todense(self) -> Any:
            """The plain array."""
            return numpy.asarray(self)

        def tocsr(self) -> MadeSparse:
            """The same: one form serves."""
            return self

        toarray, tocoo, tocsc = todense, tocsr, tocsr

        @property
        def nnz(self) -> int:
            """How many numbers are not zero."""
            return int(numpy.count_nonzero(self))

    MadeSparse.__name__ = MadeSparse.__qualname__ = "made-up data"
    return lambda made: made.view(MadeSparse)


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
