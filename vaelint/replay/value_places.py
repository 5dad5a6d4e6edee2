"""Which element of a tensor each element of something made of it is, whatever is done to the single values on the way."""

from __future__ import annotations

from collections.abc import Callable

import torch


def places_of(read: Callable[[torch.Tensor], torch.Tensor], base: torch.Tensor) -> torch.Tensor:
    """The number of the element of `base` (*) that each element of `read(base)` (**) was made of, (**); -1 where it is not one of them.

    Each element is told by the bits of its number, written with two values that `base` has: so a target may be shifted (`tokens - 1`),
    scaled or cast, and is still found at its own place.
    """
    low, high = base.min(), base.max()
    numbers = torch.arange(base.numel(), device=base.device).view(base.shape)
    off, on = (read(torch.ones_like(base) * value) for value in (low, high))
    known = off != on
    places = torch.zeros(known.shape, dtype=torch.long, device=known.device)
    for bit in range(max(1, (base.numel() - 1).bit_length())):
        got = read(torch.where((numbers >> bit) % 2 == 1, high, low))
        known &= (got == off) | (got == on)
        places += (got == on).long() << bit
    return torch.where(known, places, -1)


def places_to_ask(places: torch.Tensor, base: torch.Tensor) -> list[int]:
    """A few of the places of a flat target, in the order of its samples and their steps: both ends, and steps within samples.

    `places` says which element of `base` each is made of. The first element of a sample is left out where others are left: what is
    compared with it may be the last step, as where a target is rolled by one.
    """
    count = len(places)
    asked = sorted({at % count for at in (0, count // 2, count // 2 + 1, count // 3 + 2, count - 1)}) if count else []
    inner = [at for at in asked if base.dim() < 2 or int(places[at]) % base.shape[-1]]
    return inner if len(inner) > 1 else asked
