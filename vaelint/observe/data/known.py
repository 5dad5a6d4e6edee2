"""Public data sets: how many, how large, how labelled. Sizes as their own pages state them."""

from __future__ import annotations

from collections.abc import Mapping

from vaelint.late import dataclass

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """A data set of images. `counts` by split; `kept`: how `data` is laid out; `labels`: the attribute that holds the labels."""

    counts: Mapping[str, int]
    height: int
    width: int
    channels: int
    classes: tuple[str, ...]
    kept: str = "HWC"  # "HW": a tensor (N, H, W); "HWC", "CHW": an array
    labels: str = "targets"
    attributes: int = 0  # binary attributes in the place of a class


def _numbered(what: str, count: int) -> tuple[str, ...]:
    return tuple(f"{what} {i}" for i in range(count))


_MNIST = {"train": 60000, "test": 10000}
_TEN = tuple(f"{i} - {name}" for i, name in enumerate(_DIGITS))

KNOWN = {
    "MNIST": Images(_MNIST, 28, 28, 1, _TEN, "HW"),
    "QMNIST": Images(_MNIST, 28, 28, 1, _TEN, "HW"),
    "FashionMNIST": Images(_MNIST, 28, 28, 1, _CLOTHES, "HW"),
    "KMNIST": Images(_MNIST, 28, 28, 1, ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"), "HW"),
    "CIFAR10": Images({"train": 50000, "test": 10000}, 32, 32, 3, _CIFAR),
    "CIFAR100": Images({"train": 50000, "test": 10000}, 32, 32, 3, _numbered("class", 100)),
    "SVHN": Images({"train": 73257, "test": 26032, "extra": 531131}, 32, 32, 3, _DIGITS, "CHW", "labels"),
    "STL10": Images({"train": 5000, "test": 8000, "unlabeled": 100000, "train+unlabeled": 105000}, 96, 96, 3, _STL, "CHW", "labels"),
    "CelebA": Images({"train": 162770, "valid": 19867, "test": 19962, "all": 202599}, 218, 178, 3, (), attributes=40),
    "Omniglot": Images({"train": 19280, "test": 13180}, 105, 105, 1, _numbered("character", 964)),
    "USPS": Images({"train": 7291, "test": 2007}, 16, 16, 1, _TEN),
    "SEMEION": Images({"all": 1593}, 16, 16, 1, _TEN, labels="labels"),
    "EuroSAT": Images({"all": 27000}, 64, 64, 3, _numbered("land use", 10)),
    "FER2013": Images({"train": 28709, "test": 7178}, 48, 48, 1, _numbered("expression", 7)),
    "GTSRB": Images({"train": 26640, "test": 12630}, 48, 56, 3, _numbered("sign", 43)),
    "PCAM": Images({"train": 262144, "val": 32768, "test": 32768}, 96, 96, 3, ("no tumour", "tumour")),
    "Food101": Images({"train": 75750, "test": 25250}, 384, 512, 3, _numbered("dish", 101)),
    "Flowers102": Images({"train": 1020, "val": 1020, "test": 6149}, 500, 667, 3, _numbered("flower", 102)),
    "StanfordCars": Images({"train": 8144, "test": 8041}, 483, 700, 3, _numbered("car", 196)),
    "OxfordIIITPet": Images({"trainval": 3680, "test": 3669}, 375, 500, 3, _numbered("breed", 37)),
    "LFWPeople": Images({"10fold": 13233, "train": 9525, "test": 3708}, 250, 250, 3, _numbered("person", 5749)),
}
"""Of sets whose images differ in size, one size that is usual there: code for them brings all to one."""

EMNIST = {
    "byclass": ({"train": 697932, "test": 116323}, 62),
    "bymerge": ({"train": 697932, "test": 116323}, 47),
    "balanced": ({"train": 112800, "test": 18800}, 47),
    "letters": ({"train": 124800, "test": 20800}, 27),
    "digits": ({"train": 240000, "test": 40000}, 10),
    "mnist": (_MNIST, 10),
}


def emnist(split: str) -> Images:
    """EMNIST has a size for each of its splits."""
    counts, classes = EMNIST[split]
    return Images(counts, 28, 28, 1, tuple(str(i) for i in range(classes)), "HW")
