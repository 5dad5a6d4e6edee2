"""Inputs that torch's own words ask for, where one that was tried did not fit. Runs no user code."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import torch

from vaelint.discover.vae_signs import outputs
from vaelint.record.record import Record

_CHANNELS = re.compile(r"expected input\[([\d, ]+)\] to have (\d+) channels")
_PRODUCT = re.compile(r"(?:got|multiplied) [\[(]?(\d+)(?:, |x)(\d+)[\])]? (?:X|and) [\[(]?(\d+)(?:, |x)(\d+)[\])]?")
_RANK = re.compile(r"to conv(\d)d, but got input of size: \[([\d, ]+)\]")
_LAST = re.compile(r"[Ee]xpected (\d+), got (\d+)")
_ROWS = re.compile(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension 0")
_FAKE_ROWS = re.compile(
    r"argument at index \d+ had torch\.Size\(\[(\d+)((?:, \d+)*)\]\); but expected shape should be broadcastable to \[(\d+)\2\]"
)
_MOST, _LARGEST = 6, 2**24


def asked_for(texts: tuple[str, ...], said: str, record: Record | None) -> Iterator[tuple[str, ...]]:
    """Other inputs than `texts`, as `--input` takes them, the first of them changed: `said` is what the run of `record` raised."""
    if (rows := _fixed_batch(int(re.split("[x:]", texts[0])[0]), said)) is not None:
        yield tuple(re.sub(r"^\d+", str(rows), t) for t in texts)
    shape, colon, rest = texts[0].partition(":")
    sizes = [int(n) for n in shape.split("x")]
    for other in _shapes(sizes, said, record):
        if other != sizes and min(other) > 0 and math.prod(other) <= _LARGEST:
            text = "x".join(map(str, other)) + colon + rest
            yield tuple(text if t == texts[0] else t for t in texts)  # a partner of the same shape changes with it


def given_back(texts: tuple[str, ...], record: Record) -> Iterator[tuple[str, ...]]:
    """The first input in the sizes of what the model gives back, where that has as many axes, channels and rows, and nearly its sizes."""
    shape, colon, rest = texts[0].partition(":")
    sizes = [int(n) for n in shape.split("x")]
    for out in outputs(record) if len(sizes) > 2 else ():
        other = list(out.shape)
        near = len(other) == len(sizes) and other[:2] == sizes[:2] and all(a / 1.5 < b < 1.5 * a for a, b in zip(sizes, other, strict=True))
        if near and other != sizes:
            yield tuple("x".join(map(str, other)) + colon + rest if t == texts[0] else t for t in texts)


def _fixed_batch(tried: int, said: str) -> int | None:
    """The batch that the code has in its place, such as a number of rows of noise, where the one that was tried meets it; else None."""
    found = _ROWS.search(said) or _FAKE_ROWS.search(said)
    if found is None:
        return None
    met = {int(found[1]), int(found[found.lastindex or 2])}
    return (met - {tried}).pop() if tried in met and len(met) == 2 else None


def _shapes(sizes: list[int], said: str, record: Record | None) -> Iterator[list[int]]:
    if (channels := _CHANNELS.search(said)) is not None and channels[1].split(", ") == list(map(str, sizes)):
        yield [sizes[0], int(channels[2]), *sizes[2:]]
    rank = _RANK.search(said)
    if rank is not None and rank[2].count(",") == len(sizes) and len(sizes) == int(rank[1]) + 2:
        yield [sizes[0], *sizes[2:]]  # the model puts an axis of its own before the image
    if (last := _LAST.search(said)) is not None:
        yield [*sizes[:-1], sizes[-1] + int(last[1]) - int(last[2])]  # what is joined to it counts as well
    product = _PRODUCT.search(said)
    if product is None:
        return
    got, wanted = int(product[2]), int(product[3])
    if got == sizes[-1]:  # the first layer reads the last size
        yield [sizes[0], wanted]
        yield [*sizes[:-1], wanted]
    elif got == math.prod(sizes[1:]):  # it reads the whole sample
        side = math.isqrt(wanted // sizes[1]) if len(sizes) == 4 else 0
        if side and side * side * sizes[1] == wanted:
            yield [*sizes[:2], side, side]
        yield [sizes[0], wanted]
    else:
        if len(sizes) in (3, 4) and record is not None:
            yield from _images(sizes, got, wanted, record)
        else:
            yield [*sizes[:-1], sizes[-1] + wanted - got]  # what is joined to it counts as well


def _images(sizes: list[int], got: int, wanted: int, record: Record) -> Iterator[list[int]]:
    """Images of which the convolutions leave as much as the layer after them takes, the squarest first."""
    maps = [v.shape for n in record.nodes if isinstance(v := n.meta.get("val"), torch.Tensor) and v.ndim == 4 and v[0].numel() == got]
    if not maps:
        return
    channels, height, width = (int(n) for n in maps[-1][1:])
    if wanted % channels:
        return
    down, across = sizes[-2] / height, sizes[-1] / width
    left = wanted // channels
    pairs = [(left // n, n) for n in range(math.isqrt(left), 0, -1) if left % n == 0][:_MOST]
    for high, wide in pairs:
        yield [*sizes[:-2], round(high * down), round(wide * across)]
        if high != wide:
            yield [*sizes[:-2], round(wide * down), round(high * across)]
