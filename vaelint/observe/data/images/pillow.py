"""The parts of PIL that open, make and change images, for where it is not installed. Of files it reads PNG, as made-up images are."""

from __future__ import annotations

import enum
import importlib
import io
import os
import struct
import zlib
from types import ModuleType
from typing import Any, NoReturn

import torch

from vaelint.observe.data.pictures import Picture, as_tensor
from vaelint.observe.data.stand_ins import lending

Resampling = enum.IntEnum("Resampling", ["NEAREST", "LANCZOS", "BILINEAR", "BICUBIC", "BOX", "HAMMING"], start=0)
Transpose = enum.IntEnum("Transpose", ["FLIP_LEFT_RIGHT", "FLIP_TOP_BOTTOM", "ROTATE_90", "ROTATE_180", "ROTATE_270"], start=0)
"""Filters, and what `transpose` does, as PIL numbers them."""

_HEAD = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by the colour type of a PNG


def _refuse() -> NoReturn:
    raise ModuleNotFoundError("No module named 'PIL'", name="PIL")


def open_image(file: Any, *_: Any, **__: Any) -> Picture:
    """`Image.open`. Raises ModuleNotFoundError for what only PIL reads."""
    if isinstance(file, str | bytes | os.PathLike):
        with open(file, "rb") as opened:  # noqa: PTH123 - the script's own `open` is what finds files that were made up
            return open_image(opened)
    data = file.read()
    return Picture(_unpacked(data)) if data.startswith(_HEAD) else _refuse()


def _unpacked(data: bytes) -> Any:
    """The values of a PNG of 8 bits, (H, W) or (H, W, C): https://www.w3.org/TR/png-3/."""
    np, body, at = importlib.import_module("numpy"), io.BytesIO(), len(_HEAD)
    width = height = depth = colour = laced = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        part = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, laced = struct.unpack(">IIBBBBB", part)
        elif kind == b"IDAT":
            body.write(part)
        at += 12 + size
    if depth != 8 or laced or colour not in _CHANNELS:
        _refuse()
    step = _CHANNELS[colour]
    rows = np.frombuffer(zlib.decompress(body.getvalue()), dtype=np.uint8).reshape(height, 1 + width * step)
    found = np.zeros((height + 1, width * step), dtype=np.uint8)  # what is above the first row is black
    for number, row in enumerate(rows):
        found[number + 1] = _without_filter(int(row[0]), row[1:], found[number], step, np)
    shape = (height, width) if step == 1 else (height, width, step)
    return found[1:].reshape(shape)


def _without_filter(kind: int, row: Any, above: Any, step: int, np: Any) -> Any:
    """A row as it was before its filter: 0 none, 1 the pixel to the left, 2 that above, 3 their mean, 4 the nearest to their plane."""
    if kind == 0:
        return row
    if kind == 2:
        return row + above
    if kind == 1:
        return np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
    made, over = [0] * step, [0] * step + above.tolist()  # a pixel of black to the left
    for n, value in enumerate(row.tolist()):
        left, up, corner = made[n], over[n + step], over[n]
        plane = left + up - corner
        nearest = min((left, up, corner), key=lambda v: abs(plane - v))
        made.append((value + ((left + up) // 2 if kind == 3 else nearest)) % 256)
    return np.array(made[step:], dtype=np.uint8)


def read_image(path: Any, *_: Any, **__: Any) -> torch.Tensor:
    """`torchvision.io.read_image`, and `decode_image` of a path or of bytes: 8-bit values (C, H, W)."""
    return as_tensor(open_image(io.BytesIO(bytes(path.tolist())) if isinstance(path, torch.Tensor) else path))


def from_array(values: Any, mode: str | None = None) -> Picture:
    """`Image.fromarray`."""
    return Picture(values)


def new(mode: str, size: tuple[int, int], color: Any = 0) -> Picture:
    """`Image.new`."""
    np, channels = importlib.import_module("numpy"), {"L": (), "1": (), "RGBA": (4,)}.get(mode, (3,))
    made = np.zeros((size[1], size[0], *channels), dtype=np.uint8)
    if not isinstance(color, str):
        made[...] = color
    return Picture(made)


def stand_in() -> dict[str, ModuleType]:
    """All modules of the stand-in, by name."""
    names: dict[str, Any] = {**Resampling.__members__, **Transpose.__members__, "ANTIALIAS": Resampling(1)}
    names |= {"Resampling": Resampling, "Transpose": Transpose, "open": open_image, "fromarray": from_array, "new": new}
    below: dict[str, Any] = {"Image": lending("PIL.Image", {**names, "Image": Picture, "MAX_IMAGE_PIXELS": None})}
    below["ImageFile"] = lending("PIL.ImageFile", {"LOAD_TRUNCATED_IMAGES": False})
    below |= {n: lending(f"PIL.{n}", {}) for n in ("ImageOps", "ImageDraw", "ImageFont", "ImageFilter", "ImageEnhance", "ImageChops")}
    below["PngImagePlugin"] = lending("PIL.PngImagePlugin", {})
    whole = lending("PIL", {**below, "__version__": "99.0"})
    return {"PIL": whole} | {f"PIL.{name}": module for name, module in below.items()}
