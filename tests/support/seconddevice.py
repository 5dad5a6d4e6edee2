"""A second device without one: tensors of the CPU of which some count as on `cuda:0`, and what torch refuses there raises.

What it cannot show is what only kernels do: assertions, memory, half precision, the order of sums.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_T = torch.Tensor
_CPU, _CUDA = torch.device("cpu"), torch.device("cuda", 0)
_DEVICE, _IS_CUDA, _IS_CPU = (getattr(getattr(_T, name), "__get__") for name in ("device", "is_cuda", "is_cpu"))  # noqa: B009
_DATA: Any = getattr(_T.data, "__set__")  # noqa: B009
_FREE = frozenset(
    {"__getitem__", "__setitem__", "copy_", "index_put", "index_put_", "index", "grad", "backward", "_has_compatible_shallow_copy_type"}
)
"""Functions that take tensors of the CPU beside those of the device."""
_NUMBERS_TOO = frozenset({"cat", "stack", "lstsq", "allclose", "equal", "dot", "vdot", "bucketize", "searchsorted"})
"""Functions that refuse even a single number of the CPU."""


class SecondDevice(TorchFunctionMode):
    """Keeps account of the tensors that were moved to `cuda:0`, and of what is made of them."""

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[int, torch.Tensor] = {}  # held, so that no other tensor gets their ids

    def has(self, value: Any) -> bool:
        """Whether a tensor counts as on the device."""
        return id(value) in self._there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first: Any = args[0] if args else None
        if func == _DEVICE:
            return _CUDA if self.has(first) else func(*args)
        if func in (_IS_CUDA, _IS_CPU):
            return self.has(first) is (func == _IS_CUDA)
        if func == _DATA:
            func(*args)
            self._mark(first, self.has(args[1]))
            return None
        if func in (_T.numpy, _T.__array__) and self.has(first):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if func in (_T.cpu, _T.cuda):
            return self._twin(first, func is _T.cuda)
        if name in ("to", "type", "type_as"):
            return self._moved(func, args, kwargs)
        there = self._goes(name, args, kwargs)
        if kwargs.get("device") is not None:
            kwargs["device"] = _CPU
        if name == "_pack_padded_sequence":  # lengths are the CPU's on every machine
            packed = func(*args, **kwargs)
            self._mark(packed[0], there)
            return packed
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            if there:
                self._mark(tensor, True)
        return result

    def _goes(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether a result is on the device. Raises what torch raises for tensors of two devices."""
        tensors = list(_tensors((args, kwargs)))
        there, first = any(self.has(t) for t in tensors), args[0] if args else None
        if kwargs.get("device") is not None:
            there = _is_cuda(kwargs["device"])
        elif name in _FREE:
            there = any(self.has(t) for t in _tensors(first))
            if name == "__getitem__" and not there and any(self.has(t) for t in tensors):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        elif there and name != "_pack_padded_sequence":
            strange = [t for t in tensors if not self.has(t) and (t.dim() > 0 or name in _NUMBERS_TOO or (t is first and _in_place(name)))]
            if strange:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name})"
                )
        if there and kwargs.get("generator") is not None and not isinstance(kwargs["generator"], _Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return there

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        others = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.Tensor)]
        told = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.device) or (isinstance(a, str) and "torch" not in a)]
        goes = self.has(others[0]) if others else _is_cuda(told[0]) if told else self.has(args[0])
        result = func(*(_CPU if _is_cuda(a) else a for a in args), **{k: _CPU if _is_cuda(v) else v for k, v in kwargs.items()})
        return self._twin(result, goes) if isinstance(result, torch.Tensor) else result

    def _twin(self, tensor: torch.Tensor, there: bool) -> torch.Tensor:
        if self.has(tensor) is there:
            return tensor
        twin: torch.Tensor = tensor.view_as(tensor) if tensor.layout is torch.strided else tensor.clone()
        self._mark(twin, there)
        return twin

    def _mark(self, tensor: torch.Tensor, there: bool) -> None:
        if there:
            self._there[id(tensor)] = tensor
        else:
            self._there.pop(id(tensor), None)


_GENERATOR = torch.Generator


class _Generator(torch.Generator):
    """A generator of the device."""


class _Either(torch.Generator):
    """Makes a generator of the device or of the CPU."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
        return _GENERATOR.__new__(_Generator if _is_cuda(device) else _Either)


@contextlib.contextmanager
def told_of_a_gpu() -> Iterator[None]:
    """torch.cuda answers as with one device of 80 GiB."""
    state = torch.default_generator.get_state
    answers: dict[str, Any] = {
        "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "mem_get_info": lambda device=None: (80 << 30, 80 << 30), "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 1 << 20, "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state": lambda device=None: state(), "set_rng_state": lambda new, device=None: None, "manual_seed": lambda seed: None,
        "synchronize": lambda device=None: None, "device": lambda device: contextlib.nullcontext(),
    }  # fmt: skip
    kept, generator = {name: getattr(torch.cuda, name) for name in answers}, torch.Generator
    try:
        for name, answer in answers.items():
            setattr(torch.cuda, name, answer)
        torch.Generator = _Either  # type: ignore[misc]
        yield
    finally:
        torch.Generator = generator  # type: ignore[misc]
        for name, answer in kept.items():
            setattr(torch.cuda, name, answer)


def _is_cuda(value: Any) -> bool:
    return value.type == "cuda" if isinstance(value, torch.device) else isinstance(value, str) and value.split(":")[0] == "cuda"


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
