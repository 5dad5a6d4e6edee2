"""Where user code asks for an accelerator that is not there, it gets another device; the place is noted where it asked for CUDA."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.core.finding import Span
from vaelint.trace.spans import SpanFinder


class InsteadOfCuda(TorchFunctionMode):
    """Turns `.cuda()`, `.to("cuda")` and `device="cuda"` into another device. `asked` holds where that was written.

    So it does with `mps`, `xpu` and the number of a device, where no accelerator is there; these are not noted.
    """

    _answers = True

    def __init__(self, spans: SpanFinder | None = None, device: str = "cpu") -> None:
        super().__init__()
        self._spans = spans
        self._device = torch.device(device)
        self._nowhere = not torch.accelerator.is_available()
        self.asked: list[tuple[Span, str]] = []
        self._legacy: dict[str, Any] = {}  # torch.cuda's own constructors, while others stand in for them

    def __enter__(self) -> InsteadOfCuda:
        self._legacy = {name: getattr(torch.cuda, name) for name in _LEGACY}
        for name in _LEGACY:
            setattr(torch.cuda, name, _legacy_type(name))
        for name, answer in _ANSWERS.items() if self._answers and self._nowhere else ():
            self._legacy[name] = getattr(torch.cuda, name)
            setattr(torch.cuda, name, answer)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for name, kept in self._legacy.items():
            setattr(torch.cuda, name, kept)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            self._note(".cuda()")
            return args[0] if self._device.type == "cpu" else args[0].to(self._device)
        if self._nowhere:
            args, kwargs = self._without_others(func, args, kwargs)
        found = next((a for a in (*args[1:], *kwargs.values()) if _is_cuda(a)), None)
        first = args[0] if args and _is_cuda(args[0]) else None
        if found is not None or first is not None:
            self._note(str(found if found is not None else first))
            args = tuple(self._instead(a) for a in args)
            kwargs = {k: self._instead(v) for k, v in kwargs.items()}
        if func is torch.device and args and isinstance(args[0], torch.device):
            return args[0]  # `torch.device("cuda", 1)`: there is no second one
        if func is torch.device and len(args) > 1 and not isinstance(args[1], int):
            args = args[:1]  # `torch.device("cpu", 0)`: its number is no accelerator's
        return func(*args, **kwargs)

    def _without_others(self, func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments with accelerators of other kinds, and numbers where a device is meant, exchanged for the device."""
        numbers = getattr(func, "__name__", "") in _TAKE_A_NUMBER
        kwargs = {k: self._device if _is_other(v) or (k == "device" and type(v) is int) else v for k, v in kwargs.items()}
        return tuple(self._device if _is_other(a) or (numbers and type(a) is int) else a for a in args), kwargs

    def _instead(self, value: Any) -> Any:
        if isinstance(value, type) and _is_cuda(value):
            return getattr(torch, value.__name__)
        if isinstance(value, str) and value.startswith("torch.cuda."):
            return value.replace("torch.cuda.", "torch.")
        return self._device if _is_cuda(value) else value

    def _note(self, what: str) -> None:
        if self._spans is not None:
            place = self._spans.written(sys._getframe(2))
            if place is not None:
                self.asked.append((place, what))


class WithoutCuda(InsteadOfCuda):
    """Where there is a GPU, what asks for it by name raises as on a machine without one."""

    _answers = False

    def _note(self, what: str) -> None:
        raise RuntimeError(f"No CUDA GPUs are available: {what}")


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    if isinstance(value, type):
        return value.__module__ == "torch.cuda"
    return isinstance(value, str) and (value == "cuda" or value.startswith(("cuda:", "torch.cuda.")))


_ANSWERS: dict[str, Any] = {
    "set_device": lambda device: None, "current_device": lambda: 0, "synchronize": lambda device=None: None,
    "get_device_name": lambda device=None: "none", "get_device_capability": lambda device=None: (0, 0), "init": lambda: None,
    "mem_get_info": lambda device=None: (0, 0),
}  # fmt: skip
"""What torch answers of the GPU in use, and raises where there is none: a script for several processes asks without looking."""
_OTHERS = ("mps", "xpu")
_TAKE_A_NUMBER = ("to", "_parse_to", "device")
"""Functions of torch, by name, whose numbers are those of devices."""


def _is_other(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type in _OTHERS
    return isinstance(value, str) and value.partition(":")[0] in _OTHERS


_LEGACY = tuple(f"{kind}Tensor" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte", "Char", "Bool"))


class _LegacyType(type):
    """Stands in for `torch.cuda.FloatTensor`, which raises where torch has no CUDA: makes a tensor and asks for the GPU."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return getattr(torch, cls.__name__)(*args, **kwargs).to("cuda")

    def __instancecheck__(cls, instance: Any) -> bool:
        return False


@cache
def _legacy_type(name: str) -> _LegacyType:
    return _LegacyType(name, (), {"__module__": "torch.cuda"})


_IS_CUDA: Any = getattr(torch.Tensor.is_cuda, "__get__")  # noqa: B009 - the type stubs call it a bool


class _SaysCuda(TorchFunctionMode):
    """Answers `tensor.is_cuda` as on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func is _IS_CUDA else func(*args, **(kwargs or {}))


@contextlib.contextmanager
def as_if_on_gpu() -> Iterator[None]:
    """Answers "yes" wherever user code asks whether it is on a GPU: `if x.is_cuda: eps = eps.cuda()` runs as it would there."""
    with _answering(1), _SaysCuda():
        yield


@contextlib.contextmanager
def as_if_without_gpu() -> Iterator[None]:
    """Answers "no" wherever user code asks whether there is a GPU: what is recorded here is what other machines record."""
    with _answering(0):
        yield


@contextlib.contextmanager
def _answering(count: int) -> Iterator[None]:
    kept = torch.cuda.is_available, torch.cuda.device_count
    torch.cuda.is_available, torch.cuda.device_count = (lambda: count > 0), (lambda: count)
    try:
        yield
    finally:
        torch.cuda.is_available, torch.cuda.device_count = kept
