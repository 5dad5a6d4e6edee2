"""`torchvision.datasets.ImageFolder`, for where torchvision is not installed: a folder for each class, images below."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of images end."""


def has_file_allowed_extension(filename: str, extensions: str | tuple[str, ...]) -> bool:
    """Whether the name of a file ends in one of these."""
    return filename.lower().endswith(extensions)


def default_loader(path: str) -> Any:
    """An image in colour. PIL reads it, as it does for torchvision. Raises ModuleNotFoundError where that is not installed."""
    from PIL import Image

    with open(path, "rb") as file:  # noqa: PTH123 - the script's own `open` is what finds files that were made up
        return Image.open(file).convert("RGB")


def find_classes(directory: Any) -> tuple[list[str], dict[str, int]]:
    """The folders below, in order. Raises FileNotFoundError as torchvision does where there is none."""
    classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(2, "Couldn't find any class folder", str(directory))
    return classes, {name: number for number, name in enumerate(classes)}


class VisionDataset(Dataset[Any]):
    """What torchvision's data sets derive from, and a script's own may."""

    def __init__(self, root: Any = None, transforms: Any = None, transform: Any = None, target_transform: Any = None) -> None:
        self.root, self.transforms, self.transform, self.target_transform = root, transforms, transform, target_transform


class ImageFolder(VisionDataset):
    """Images by the folder that they are in."""

    def __init__(
        self,
        root: Any,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] = default_loader,
        is_valid_file: Callable[[str], bool] | None = None,
        **_: Any,
    ) -> None:
        self.root, self.transform, self.target_transform, self.loader = os.fspath(root), transform, target_transform, loader
        self.classes, self.class_to_idx = self.find_classes(self.root)
        fits = is_valid_file or (lambda path: has_file_allowed_extension(path, IMAGES))
        self.samples: list[tuple[str, int]] = []
        for name, number in self.class_to_idx.items():
            for folder, _below, files in sorted(os.walk(f"{self.root}/{name}")):
                paths = (f"{folder}/{file}" for file in sorted(files))
                self.samples += [(path, number) for path in paths if fits(path)]
        self.imgs, self.targets = self.samples, [number for _, number in self.samples]

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """The classes, which a script's own data set may find otherwise."""
        return find_classes(directory)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        image = self.loader(path)
        image = self.transform(image) if self.transform is not None else image
        return image, self.target_transform(target) if self.target_transform is not None else target
