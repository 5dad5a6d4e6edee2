"""`torchvision.models` where torchvision is not installed: VGG and ResNet with random weights; of others the names only.

VGG: Simonyan & Zisserman, arXiv:1409.1556, table 1. ResNet: He et al., arXiv:1512.03385, table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vaelint.observe.data.absent import Nothing

Note = Callable[[str], None]
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class VGG(nn.Module):
    """`features`, `avgpool`, `classifier`."""

    def __init__(self, layers: int, norm: bool, num_classes: int = 1000) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels = 3
        for width, count in zip(_WIDTHS, _VGG[layers], strict=True):
            for _ in range(count):
                parts += [nn.Conv2d(channels, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU(inplace=True)]
                channels = width
            parts.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*parts)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        hidden = (nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout())
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, classes) of images (B, 3, H, W)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """A residual block; `wide`: its output has four times the channels (a bottleneck)."""

    def __init__(self, inside: int, width: int, stride: int, wide: bool) -> None:
        super().__init__()
        out = 4 * width if wide else width
        sizes = [(inside, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)] if wide else [
            (inside, width, 3, stride), (width, out, 3, 1)
        ]  # fmt: skip
        self.count = len(sizes)
        for n, (a, b, kernel, step) in enumerate(sizes, 1):
            setattr(self, f"conv{n}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{n}", nn.BatchNorm2d(b))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of (B, C, H, W)."""
        out = x
        for n in range(1, self.count + 1):
            out = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(out))
            out = self.relu(out) if n < self.count else out
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """`conv1` to `layer4`, `avgpool`, `fc`."""

    def __init__(self, layers: int, num_classes: int = 1000) -> None:
        super().__init__()
        wide = layers >= 50
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        inside = 64
        for n, (width, count) in enumerate(zip(_WIDTHS[:4], _RESNET[layers], strict=True), 1):
            blocks = []
            for block in range(count):
                blocks.append(_Block(inside, width, 2 if block == 0 and n > 1 else 1, wide))
                inside = 4 * width if wide else width
            setattr(self, f"layer{n}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(inside, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, classes) of images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for n in range(1, 5):
            x = getattr(self, f"layer{n}")(x)
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def networks(note: Note) -> dict[str, Any]:
    """The functions of `torchvision.models` that have a stand-in, and the classes."""

    def maker(name: str, make: Callable[..., nn.Module], *args: Any) -> Callable[..., nn.Module]:
        def made(*_: Any, num_classes: int = 1000, **__: Any) -> nn.Module:
            note(f"torchvision is not installed: {name} has random weights, not the trained ones")
            return make(*args, num_classes=num_classes)

        made.__name__ = name
        return made

    found: dict[str, Any] = {"VGG": VGG, "ResNet": ResNet}
    found |= {f"vgg{n}{end}": maker(f"vgg{n}{end}", VGG, n, bool(end)) for n in _VGG for end in ("", "_bn")}
    return found | {f"resnet{n}": maker(f"resnet{n}", ResNet, n) for n in _RESNET}


def other(attribute: str, refuse: Callable[[str], Exception]) -> Any:
    """Another name of `torchvision.models`: weights that are never loaded, or a function that says what it needs when it is called."""
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    if attribute.endswith("_Weights"):
        return Nothing()

    def needed(*_: Any, **__: Any) -> Any:
        raise refuse(attribute)

    return needed
