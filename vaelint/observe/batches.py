"""What a loader hands over: the tensors in it, by their way there, and the same batch with fewer rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

Way = tuple[Any, ...]
"""Keys and places on the way from a batch to a tensor in it."""

_DEPTH = 5


def tensors_of(batch: Any, way: Way = ()) -> Iterator[tuple[Way, torch.Tensor]]:
    """Each tensor of nested tuples, lists, mappings and plain objects, with its way."""
    if isinstance(batch, torch.Tensor):
        yield way, batch
    elif len(way) >= _DEPTH:
        return
    elif isinstance(batch, Mapping):
        for key in list(batch):
            yield from tensors_of(batch[key], (*way, key))
    elif isinstance(batch, list | tuple):
        for place, part in enumerate(batch):
            yield from tensors_of(part, (*way, place))
    elif hasattr(batch, "__dict__") and not isinstance(batch, type | torch.nn.Module):
        for key, part in vars(batch).items():
            yield from tensors_of(part, (*way, key))


def rows_of(batch: Any) -> int | None:
    """The batch size: the first size that most of the tensors share; None where there is none."""
    first = Counter(t.shape[0] for _, t in tensors_of(batch) if t.ndim)
    return first.most_common(1)[0][0] if first else None


def is_label(tensor: torch.Tensor) -> bool:
    """Whether it holds whole numbers, or one 1 among zeros in each row."""
    return not tensor.is_floating_point() or is_one_hot(tensor)


def is_one_hot(tensor: torch.Tensor) -> bool:
    """Whether it holds one 1 among zeros in each row."""
    return tensor.ndim == 2 and bool(((tensor == 0) | (tensor == 1)).all()) and bool((tensor.sum(1) == 1).all())


def is_cuttable(batch: Any) -> bool:
    """Whether the batch is made of tuples, lists and mappings of tensors and plain values, which can be made anew with fewer rows."""
    if isinstance(batch, torch.Tensor):
        return batch.layout is torch.strided
    if isinstance(batch, dict):
        return all(map(is_cuttable, batch.values()))
    if isinstance(batch, list | tuple):
        return all(map(is_cuttable, batch))
    return isinstance(batch, int | float | str | bytes | None)


def cut(batch: Any, rows: int, of: int) -> Any:
    """The batch with the first `rows` of `of` rows. Lists as long as the batch, of texts for instance, are cut too."""
    if isinstance(batch, torch.Tensor):
        return batch[:rows] if batch.ndim and batch.shape[0] == of else batch
    if isinstance(batch, dict):
        return {k: cut(v, rows, of) for k, v in batch.items()} if type(batch) is dict else type(batch)(cut(dict(batch), rows, of))
    if isinstance(batch, list | tuple):
        if len(batch) == of and not any(isinstance(v, torch.Tensor) for v in batch):
            return batch[:rows]
        parts = [cut(v, rows, of) for v in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def smaller(size: int, taken: set[int]) -> int | None:
    """A batch size below `size` that no other size has: the largest free prime up to two thirds; None for batches of one or two."""
    for n in range(max(2, 2 * size // 3), 1, -1):
        if n < size and n not in taken and all(n % k for k in range(2, int(n**0.5) + 1)):
            return n
    return None


def resized(tensor: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """The tensor at other sizes: its own values, along each axis as many as are asked for, from the beginning again where they run out."""
    for axis, (have, want) in enumerate(zip(tensor.shape, sizes, strict=True)):
        if have != want:
            tensor = tensor.index_select(axis, torch.arange(want, device=tensor.device) % max(have, 1))
    return tensor.clone()


def is_even(loader: Any) -> bool:
    """Whether all batches of a loader have one size, as far as it can be told: it drops the rest, or there is none."""
    size = getattr(loader, "batch_size", None)
    try:
        return bool(getattr(loader, "drop_last", False)) or not size or len(loader.dataset) % size == 0
    except TypeError:
        return True  # a stream, whose end is not known


def turns_of(loader: Any) -> int | None:
    """How many batches a loader gives; None where it does not know: a `__len__` of the user's own may raise anything."""
    try:
        return len(loader)
    except Exception:  # noqa: BLE001
        return None


def at_most(batch: Any, wanted: int) -> tuple[Any, int]:
    """The batch with at most so many rows, and how many it had where it was cut, else 0. 0 rows leave it as it is."""
    of = rows_of(batch) if wanted else None
    return (cut(batch, wanted, of), of) if of is not None and of > wanted and is_cuttable(batch) else (batch, 0)
