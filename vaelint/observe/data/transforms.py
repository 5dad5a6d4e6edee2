"""What scripts need of `torchvision.transforms`, for where it is not installed: on images, arrays and tensors (C, H, W)."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vaelint.observe.data.pictures import as_picture, as_tensor


class InterpolationMode(enum.Enum):
    """How values between pixels are made; the stand-in makes them all by lines."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def _sizes(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[-1]))


def _on_values(image: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same kind of thing with other values."""
    return change(image) if isinstance(image, torch.Tensor) else as_picture(change(as_tensor(image)))


def resize(image: Any, size: Any, *_: Any, **__: Any) -> Any:
    """At another size; a single number is that of the shorter side."""

    def change(values: torch.Tensor) -> torch.Tensor:
        h, w = values.shape[-2:]
        whole = isinstance(size, int) or len(size) == 1
        short = int(size if isinstance(size, int) else size[0])
        to = (round(h * short / min(h, w)), round(w * short / min(h, w))) if whole else _sizes(size)
        made = torch.nn.functional.interpolate(values.float()[None], size=to, mode="bilinear", align_corners=False, antialias=True)[0]
        return made if values.is_floating_point() else made.round().clamp(0, 255).to(values.dtype)

    return _on_values(image, change)


def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
    """A part of an image; outside of it is black."""

    def change(values: torch.Tensor) -> torch.Tensor:
        h, w = values.shape[-2:]
        room = [max(-left, 0), max(left + width - w, 0), max(-top, 0), max(top + height - h, 0)]
        padded = torch.nn.functional.pad(values, room)
        return padded[..., max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]

    return _on_values(image, change)


def center_crop(image: Any, size: Any) -> Any:
    """The middle of an image."""
    (height, width), (h, w) = _sizes(size), as_tensor(image).shape[-2:]
    return crop(image, (h - height) // 2, (w - width) // 2, height, width)


def pad(image: Any, padding: Any, fill: float = 0, *_: Any, **__: Any) -> Any:
    """An image with a border."""
    room = [padding] * 4 if isinstance(padding, int) else [padding[0], padding[-2], padding[len(padding) // 2 - 1], padding[-1]]
    return _on_values(image, lambda values: torch.nn.functional.pad(values, room, value=fill))


def hflip(image: Any) -> Any:
    """Left and right exchanged."""
    return _on_values(image, lambda values: values.flip(-1))


def vflip(image: Any) -> Any:
    """Top and bottom exchanged."""
    return _on_values(image, lambda values: values.flip(-2))


def to_tensor(image: Any) -> torch.Tensor:
    """(C, H, W) with values from 0 to 1, of 8-bit values."""
    values = as_tensor(image)
    return values.float() / 255 if values.dtype is torch.uint8 else values


def pil_to_tensor(image: Any) -> torch.Tensor:
    """(C, H, W) with the values as they are."""
    return as_tensor(image)


def to_pil_image(values: Any, mode: str | None = None) -> Any:
    """An image of values from 0 to 1, or of 8-bit values."""
    tensor = as_tensor(values)
    return as_picture((tensor * 255).round().clamp(0, 255).byte() if tensor.is_floating_point() else tensor.byte())


def normalize(tensor: torch.Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> torch.Tensor:
    """(x - mean) / std for each channel; values for more channels than there are left out, as torchvision did before 0.5."""
    by = [torch.as_tensor(v, dtype=tensor.dtype).view(-1, 1, 1)[: tensor.shape[-3]] for v in (mean, std)]
    return tensor.sub_(by[0]).div_(by[1]) if inplace else (tensor - by[0]) / by[1]


def rgb_to_grayscale(image: Any, num_output_channels: int = 1) -> Any:
    """Grey, on one channel or three."""
    return _on_values(image, lambda v: v.float().mean(0, keepdim=True).to(v.dtype).expand(num_output_channels, *v.shape[-2:]).contiguous())


class Compose:
    """One after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda:
    """A function."""

    def __init__(self, lambd: Callable[[Any], Any], *_: Any) -> None:
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)


class _Fixed:
    """A function of this module with its arguments."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs

    def __call__(self, image: Any) -> Any:
        return self._function(image, *self._args, **self._kwargs)


class _Sometimes(_Fixed):
    """The same with a probability."""

    def __init__(self, function: Callable[..., Any], p: float = 0.5) -> None:
        super().__init__(function)
        self.p = p

    def __call__(self, image: Any) -> Any:
        return super().__call__(image) if float(torch.rand(())) < self.p else image


def _cropped_anywhere(image: Any, size: Any, padding: Any = None, *_: Any, **__: Any) -> Any:
    image = pad(image, padding) if padding is not None else image
    (height, width), (h, w) = _sizes(size), as_tensor(image).shape[-2:]
    top, left = (int(torch.randint(max(have - want, 0) + 1, ())) for have, want in ((h, height), (w, width)))
    return crop(image, top, left, height, width)


def _converted(image: torch.Tensor, dtype: torch.dtype = torch.float32, scale: bool = True) -> torch.Tensor:
    whole = not image.is_floating_point() and dtype.is_floating_point
    return image.to(dtype) / 255 if whole and scale else image.to(dtype)


def _as_it_is(image: Any) -> Any:
    return image


def _maker(function: Callable[..., Any]) -> Callable[..., _Fixed]:
    return lambda *args, **kwargs: _Fixed(function, *args, **kwargs)


def _unchanged(*_: Any, **__: Any) -> Callable[[Any], Any]:
    """Colours and small turns of made-up images make no difference to how a model is wired."""
    return _as_it_is


def _applied(transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> _Sometimes:
    return _Sometimes(Compose(transforms), p)


def _chosen(transforms: Sequence[Callable[[Any], Any]], *_: Any, **__: Any) -> Lambda:
    return Lambda(lambda image: random.choice(list(transforms))(image))


FUNCTIONS = {
    f.__name__: f
    for f in (
        resize, crop, center_crop, pad, hflip, vflip, to_tensor, pil_to_tensor, to_pil_image, normalize, rgb_to_grayscale,
        InterpolationMode,
    )
}  # fmt: skip
"""Names of `torchvision.transforms.functional`."""

CLASSES: dict[str, Any] = {
    "Compose": Compose, "Lambda": Lambda, "InterpolationMode": InterpolationMode, "ToTensor": _maker(to_tensor),
    "PILToTensor": _maker(pil_to_tensor), "ToImage": _maker(pil_to_tensor), "ToPILImage": _maker(to_pil_image),
    "Normalize": _maker(normalize), "Resize": _maker(resize), "Scale": _maker(resize), "CenterCrop": _maker(center_crop),
    "Pad": _maker(pad), "Grayscale": _maker(rgb_to_grayscale), "RandomCrop": _maker(_cropped_anywhere),
    "RandomResizedCrop": lambda size, *_, **__: _Fixed(resize, _sizes(size)), "ConvertImageDtype": _maker(_converted),
    "ToDtype": lambda dtype, scale=False: _Fixed(_converted, dtype, scale), "RandomHorizontalFlip": lambda p=0.5: _Sometimes(hflip, p),
    "RandomVerticalFlip": lambda p=0.5: _Sometimes(vflip, p), "RandomApply": _applied, "RandomChoice": _chosen,
    **dict.fromkeys(
        ("ColorJitter", "RandomRotation", "RandomAffine", "RandomPerspective", "RandomErasing", "RandomGrayscale",
         "GaussianBlur",
         "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness",
         "RandomInvert", "AutoAugment", "RandAugment", "TrivialAugmentWide"),
        _unchanged,
    ),
}  # fmt: skip
"""Names of `torchvision.transforms`."""
