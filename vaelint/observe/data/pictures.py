"""Images as data sets hand them out: of PIL where it is installed, else of a small class that knows what scripts ask of one."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch

from vaelint.observe.data.stand_ins import NotStoodInError


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
    mode = property(lambda self: "L" if self._values.ndim == 2 else ("", "L", "LA", "RGB", "RGBA")[self._values.shape[2]])

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values.astype(dtype or _numpy().uint8)

    def __enter__(self) -> Picture:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def convert(self, mode: str | None = None, *_: Any, **__: Any) -> Picture:
        """Grey or colour."""
        grey = self._values.ndim == 2
        if mode == "L" and not grey:
            return Picture(self._values[..., :3].mean(axis=2))
        if mode == "RGB":
            return Picture(_numpy().stack([self._values] * 3, axis=2) if grey else self._values[..., :3])
        return self

    def resize(self, size: tuple[int, int], *_: Any, **__: Any) -> Picture:
        """At another width and height."""
        chw = torch.nn.functional.interpolate(as_tensor(self).float()[None], size=(size[1], size[0]), mode="bilinear", align_corners=False)
        return _of_tensor(chw[0].round().clamp(0, 255).byte())

    def crop(self, box: tuple[int, int, int, int] | None = None) -> Picture:
        """The part from left and top to right and bottom; black beyond the edges."""
        left, top, right, bottom = map(round, box or (0, 0, *self.size))
        made = _numpy().zeros((bottom - top, right - left, *self._values.shape[2:]), dtype=_numpy().uint8)
        (x, y), (width, height) = (max(0, -left), max(0, -top)), self.size
        part = self._values[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
        made[y : y + part.shape[0], x : x + part.shape[1]] = part
        return Picture(made)

    def transpose(self, method: int = 0) -> Picture:
        """Mirrored or turned, as PIL numbers it."""
        turned = _numpy().rot90(self._values, k=max(0, method - 1))
        return Picture((turned, turned[:, ::-1], turned[::-1])[(method == 0) + 2 * (method == 1)])

    def copy(self) -> Picture:
        """The same."""
        return Picture(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotStoodInError(f"PIL.Image.Image.{name} is not stood in for: install PIL")

    load = close = show = verify = save = lambda self, *_, **__: None


@functools.cache
def has_pil() -> bool:
    """Whether PIL is installed. Asked for each image: looked for once."""
    return importlib.util.find_spec("PIL") is not None


def as_picture(chw: torch.Tensor) -> Any:
    """An image of 8-bit values (C, H, W)."""
    if not has_pil():
        return _of_tensor(chw)
    from PIL import Image

    return Image.fromarray(_values_of(chw))


def _values_of(chw: torch.Tensor) -> Any:
    return _numpy().asarray(chw[0] if chw.shape[0] == 1 else chw.permute(1, 2, 0))


def _of_tensor(chw: torch.Tensor) -> Picture:
    return Picture(_values_of(chw))


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
