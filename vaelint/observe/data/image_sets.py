"""Image data sets that are made up: what `torchvision.datasets` would hand out, of the true number, shape and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vaelint.observe.data.images.image_folder import VisionDataset
from vaelint.observe.data.known import KNOWN, Images, emnist
from vaelint.observe.data.pictures import as_picture, as_tensor, drawn
from vaelint.observe.data.stood_in import instead_of

_DISTINCT = 512  # images that are drawn; the rest repeats them
_FEWEST, _ROOM = 16, 1 << 24  # images, and bytes of them


class MadeUp(VisionDataset):
    """A data set without its data. `data` and the labels can be read and exchanged, as scripts do that keep a part."""

    def __init__(self, root: Any, known: Images, split: str, transform: Any = None, target_transform: Any = None, **_: Any) -> None:
        self.root, self.transform, self.target_transform = root, transform, target_transform
        self.train, self.split = split == "train", split
        self._known, self._count = known, known.counts[split]
        self._pool = drawn(_distinct(known, self._count), known.height, known.width, known.channels, seed=self._count)
        self._held: Any = None
        self.classes = list(known.classes)
        self.class_to_idx = {name: i for i, name in enumerate(known.classes)}
        generator = torch.Generator().manual_seed(self._count)
        if known.attributes:
            self.attr = torch.randint(2, (self._count, known.attributes), generator=generator)
            return
        labels: Any = torch.randint(len(known.classes), (self._count,), generator=generator)
        if known.kept != "HW":
            labels = labels.numpy() if known.labels == "labels" else labels.tolist()
        setattr(self, known.labels, labels)

    @property
    def data(self) -> Any:
        """All images, as the data set keeps them."""
        if self._held is None:
            rows = self._pool[torch.arange(self._count) % len(self._pool)]
            if self._known.kept == "HW":
                self._held = rows[:, 0]
            else:
                self._held = (rows.permute(0, 2, 3, 1).contiguous() if self._known.kept == "HWC" else rows).numpy()
        return self._held

    @data.setter
    def data(self, value: Any) -> None:
        self._held = value

    def __getattr__(self, name: str) -> Any:
        """Names that torchvision before 0.3 had, and that its sets still answer to."""
        if name in ("train_data", "test_data"):
            return self.data
        if name in ("train_labels", "test_labels"):
            return getattr(self, self._known.labels)
        raise AttributeError(name)

    def __len__(self) -> int:
        # code for torchvision before 0.3 keeps a part of the images under these names
        part = next((vars(self)[name] for name in ("train_data", "test_data") if name in vars(self)), self._held)
        return self._count if part is None else len(part)

    def _image(self, index: int) -> torch.Tensor:
        if self._held is None:
            return self._pool[index % len(self._pool)]
        own = self._held[index]
        return as_tensor(own) if self._known.kept != "CHW" else torch.as_tensor(own)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        image: Any = as_picture(self._image(index % len(self)))
        target: Any = self.attr[index] if self._known.attributes else getattr(self, self._known.labels)[index]
        target = int(target) if not self._known.attributes else target
        image = self.transform(image) if self.transform is not None else image
        return image, self.target_transform(target) if self.target_transform is not None else target

    def __repr__(self) -> str:
        return f"made-up data instead of {self.root}, {len(self)} of {self._known.channels}x{self._known.height}x{self._known.width}"


def _distinct(known: Images, count: int) -> int:
    """How many images are drawn, to come again: fewer of large ones."""
    return min(_DISTINCT, count, max(_FEWEST, _ROOM // (known.height * known.width * known.channels)))


def made_up(name: str, note: Callable[[str], None]) -> type[MadeUp]:
    """What stands in for the class `torchvision.datasets.NAME`: takes the arguments of the original, and can be derived from."""

    def init(self: MadeUp, root: Any = "data", *args: Any, **kwargs: Any) -> None:
        known, split, rest = _asked(name, args, dict(kwargs))
        for unused in ("download", "target_type", "target_types", "image_set", "folds", "background", "what", "compat", "nist", "loader"):
            rest.pop(unused, None)
        MadeUp.__init__(self, root, known, split, **rest)
        note(instead_of(name, f"{len(self)} images of {known.channels}x{known.height}x{known.width}"))

    return type(name, (MadeUp,), {"__init__": init, "__module__": f"torchvision.datasets.{name.lower()}"})


def where_absent(original: type[Any], name: str, note: Callable[[str], None]) -> type[Any]:
    """torchvision's own class, which makes its data up where they are not there."""
    substitute = made_up(name, note)

    class Either(original):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.__dict__["_made"] = None
            try:
                super().__init__(*args, **{**kwargs, "download": False} if "download" in kwargs else kwargs)
            except (RuntimeError, OSError):  # not found, or not to be downloaded
                self.__dict__["_made"] = made = substitute(*args, **kwargs)
                self.__dict__.update(root=made.root, transform=made.transform, target_transform=made.target_transform)

        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith("__") or (made := self.__dict__.get("_made")) is None:
                raise AttributeError(attribute)
            return getattr(made, attribute)

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index) if self._made is None else self._current()[index]

        def __len__(self) -> int:
            return super().__len__() if self._made is None else len(self._current())

        def _current(self) -> MadeUp:
            """The made-up set, with what the script has exchanged since."""
            made: MadeUp = self._made
            for attribute in ("data", "targets", "labels", "transform", "target_transform"):
                if attribute in self.__dict__:
                    setattr(made, attribute, self.__dict__[attribute])
            return made

    Either.__name__ = Either.__qualname__ = name
    return Either


_ORDER = {
    "SVHN": ("split", "transform", "target_transform", "download"),
    "STL10": ("split", "folds", "transform", "target_transform", "download"),
    "CelebA": ("split", "target_type", "transform", "target_transform", "download"),
    "EMNIST": ("split", "train", "transform", "target_transform", "download"),
    "Omniglot": ("background", "transform", "target_transform", "download"),
}
_ORDER |= dict.fromkeys(("Food101", "Flowers102", "GTSRB", "FER2013", "PCAM", "StanfordCars"), _ORDER["SVHN"])
_ORDER |= {"OxfordIIITPet": ("split", "target_types", *_ORDER["SVHN"][1:]), "LFWPeople": ("split", "image_set", *_ORDER["SVHN"][1:])}
_ORDER |= dict.fromkeys(("EuroSAT", "SEMEION"), _ORDER["SVHN"][1:])
_USUAL = ("train", "transform", "target_transform", "download")


def _asked(name: str, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Images, str, dict[str, Any]]:
    """The data set, its split, and the other arguments, by the order of the original's parameters."""
    given = dict(zip(_ORDER.get(name, _USUAL), args, strict=False)) | given
    if name == "EMNIST":
        return emnist(given.pop("split")), "train" if given.pop("train", True) else "test", given
    if name == "Omniglot":
        return KNOWN[name], "train" if given.pop("background", True) else "test", given
    if name in _ORDER:
        return KNOWN[name], given.pop("split", next(iter(KNOWN[name].counts))), given
    return KNOWN[name], "train" if given.pop("train", True) else "test", given
