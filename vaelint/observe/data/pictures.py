"""Images as data sets hand them out: of PIL where it is installed, else of a small class that knows what scripts ask of one."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch


def _numpy() -> Any:
    """numpy, without which vaelint itself runs: only what hands out images has it, or raises that it is missing."""
    import numpy

    return numpy


class Picture:
    """An image of 8-bit values, (H, W) or (H, W, 3), for machines without PIL."""

    def __init__(self, values: Any) -> None:
        self._values = _numpy().ascontiguousarray(values, dtype=_numpy().uint8)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as PIL has them."""
        return int(self._values.shape[1]), int(self._values.shape[0])

    width = property(lambda self: self.size[0])
    height = property(lambda self: self.size[1])
    mode = property(lambda self: "L" if self._values.ndim == 2 else "RGB")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values.astype(dtype or _numpy().uint8)

    def convert(self, mode: str) -> Picture:
        """Grey or colour."""
        grey = self._values.ndim == 2
        if mode == "L" and not grey:
            return Picture(self._values.mean(axis=2))
        return Picture(_numpy().stack([self._values] * 3, axis=2)) if mode == "RGB" and grey else self

    def resize(self, size: tuple[int, int], *_: Any, **__: Any) -> Picture:
        """At another width and height."""
        chw = torch.nn.functional.interpolate(as_tensor(self).float()[None], size=(size[1], size[0]), mode="bilinear", align_corners=False)
        return as_picture(chw[0].round().clamp(0, 255).byte())  # type: ignore[no-any-return]


@functools.cache
def has_pil() -> bool:
    """Whether PIL is installed. Asked for each image: looked for once."""
    return importlib.util.find_spec("PIL") is not None


def as_picture(chw: torch.Tensor) -> Any:
    """An image of 8-bit values (C, H, W)."""
    values = _numpy().asarray(chw[0] if chw.shape[0] == 1 else chw.permute(1, 2, 0))
    if not has_pil():
        return Picture(values)
    from PIL import Image

    return Image.fromarray(values)


def as_tensor(picture: Any) -> torch.Tensor:
    """The values of an image or an array as (C, H, W)."""
    if isinstance(picture, torch.Tensor):
        return picture if picture.ndim != 2 else picture[None]
    values = torch.from_numpy(_numpy().array(picture))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def drawn(count: int, height: int, width: int, channels: int, seed: int = 0) -> torch.Tensor:
    """`count` images (N, C, H, W) of soft blobs on black, with all values from 0 to 255 among them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 7, 7, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    flat = ((soft - 0.45) * 2.2).clamp(0, 1)
    peaks = flat.flatten(1).max(dim=1).values.clamp(min=1e-3).view(-1, 1, 1, 1)
    return (flat / peaks * 255).round().byte()
