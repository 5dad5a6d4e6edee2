"""`torchvision`, stood in for where it is missing or does not import; its data sets, where their data are not there."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from vaelint.observe.data import transforms
from vaelint.observe.data.image_sets import made_up, where_absent
from vaelint.observe.data.images.image_folder import (
    IMAGES,
    ImageFolder,
    VisionDataset,
    default_loader,
    find_classes,
    has_file_allowed_extension,
)
from vaelint.observe.data.images.pillow import read_image
from vaelint.observe.data.known import KNOWN
from vaelint.observe.data.networks import networks, other
from vaelint.observe.data.stand_ins import NotStoodInError, lending, stood_in

Note = Callable[[str], None]
_SETS = (*KNOWN, "EMNIST")
_FOLDER = {
    "ImageFolder": ImageFolder, "DatasetFolder": ImageFolder, "IMG_EXTENSIONS": IMAGES, "find_classes": find_classes,
    "default_loader": default_loader, "pil_loader": default_loader, "has_file_allowed_extension": has_file_allowed_extension,
    "is_image_file": lambda filename: has_file_allowed_extension(filename, IMAGES),
}  # fmt: skip


def make_grid(tensor: Any, nrow: int = 8, padding: int = 2, normalize: bool = False, *_: Any, **__: Any) -> torch.Tensor:
    """Images (N, C, H, W) beside each other, as (3, H, W)."""
    images = torch.stack(list(tensor)) if isinstance(tensor, list | tuple) else tensor
    images = images[None] if images.ndim == 3 else images[:, None] if images.ndim == 2 else images
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    if normalize:
        images = (images - images.min()) / (images.max() - images.min()).clamp(min=1e-5)
    columns = min(nrow, len(images))
    rows = math.ceil(len(images) / columns)
    h, w = images.shape[-2] + padding, images.shape[-1] + padding
    grid = images.new_zeros(images.shape[1], rows * h + padding, columns * w + padding)
    for place, image in enumerate(images):
        top, left = place // columns * h + padding, place % columns * w + padding
        grid[:, top : top + h - padding, left : left + w - padding] = image
    return grid


def save_image(tensor: Any, fp: Any, *_: Any, **kwargs: Any) -> None:
    """Goes where all that a watched script writes goes."""
    grid = make_grid(tensor, **{k: v for k, v in kwargs.items() if k in ("nrow", "padding", "normalize")})
    values = (grid * 255).clamp(0, 255).byte().permute(1, 2, 0).contiguous().cpu().numpy().tobytes()
    header = f"P6 {grid.shape[2]} {grid.shape[1]} 255\n".encode()
    if hasattr(fp, "write"):
        fp.write(header + values)
        return
    with open(fp, "wb") as file:  # noqa: PTH123 - the script's own `open` is what is held back
        file.write(header + values)


def _models(note: Note) -> ModuleType:
    """`torchvision.models`: what it has no stand-in for can be imported, and says so when it is called."""
    made = lending("torchvision.models", networks(note))

    def refuse(name: str) -> NotStoodInError:
        return NotStoodInError(f"torchvision.models.{name} is not stood in for: install torchvision")

    made.__getattr__ = lambda name: other(name, refuse)  # type: ignore[method-assign]
    return made


def stand_in(note: Note) -> dict[str, ModuleType]:
    """All modules of the stand-in, by name."""
    sets: dict[str, Any] = {name: made_up(name, note) for name in _SETS} | {"ImageFolder": ImageFolder, "DatasetFolder": ImageFolder}
    sets["VisionDataset"] = VisionDataset
    functional = lending("torchvision.transforms.functional", dict(transforms.FUNCTIONS))
    second = lending("torchvision.transforms.v2", {**transforms.CLASSES, "functional": functional})
    inner = lending("torchvision.transforms.transforms", dict(transforms.CLASSES))
    chain = lending("torchvision.transforms", {**transforms.CLASSES, "functional": functional, "v2": second, "transforms": inner})
    utils = lending("torchvision.utils", {"make_grid": make_grid, "save_image": save_image})
    datasets = lending("torchvision.datasets", sets)
    folder = lending("torchvision.datasets.folder", _FOLDER)
    datasets.__dict__["folder"] = folder
    for name, make in sets.items():
        setattr(datasets, name.lower(), lending(f"torchvision.datasets.{name.lower()}", {name: make}))
    models, io = _models(note), lending("torchvision.io", {"read_image": read_image, "decode_image": read_image})
    whole = lending(
        "torchvision", {"io": io, "datasets": datasets, "transforms": chain, "utils": utils, "models": models, "__version__": "0.0"}
    )
    modules = (whole, datasets, folder, chain, inner, functional, second, utils, models, io)
    below = {f"torchvision.datasets.{n.lower()}": getattr(datasets, n.lower()) for n in sets}
    return {m.__name__: m for m in modules} | below


@contextlib.contextmanager
def torchvision_data(data: str, note: Note, own: Callable[[str], bool] = lambda file: True) -> Iterator[None]:
    """Within the block the files that are the script's `own` can import torchvision, and its data sets can be made.

    `data` is auto, real or made-up.
    """
    if data == "real":
        yield
        return
    try:
        datasets: Any = importlib.import_module("torchvision.datasets") if "torchvision" in sys.modules or _found() else None
    except Exception as error:  # noqa: BLE001 - built for another torch, it raises what it likes
        note(f"torchvision does not import here ({type(error).__name__}), and is stood in for")
        datasets = None
    if datasets is not None:
        with _instead(datasets, data, note):
            yield
        return
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    for name in kept:
        del sys.modules[name]
    modules = stand_in(note)
    try:
        with stood_in(modules, own):
            yield
    finally:
        sys.modules.update(kept)


def _found() -> bool:
    return importlib.util.find_spec("torchvision") is not None


@contextlib.contextmanager
def _instead(datasets: Any, data: str, note: Note) -> Iterator[None]:
    """torchvision's own data sets where their data are there, unless all is to be made up."""
    kept = {name: getattr(datasets, name) for name in _SETS if hasattr(datasets, name)}

    def either(name: str, original: Any) -> Any:
        return where_absent(original, name, note) if data == "auto" else made_up(name, note)

    for name, original in kept.items():
        setattr(datasets, name, either(name, original))
    try:
        yield
    finally:
        for name, original in kept.items():
            setattr(datasets, name, original)
