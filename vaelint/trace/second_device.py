"""A second device without one: real tensors, of which a mode keeps account where they would be."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.core.finding import Span
from vaelint.trace.spans import SpanFinder

_T = torch.Tensor
_DEVICE: Any = getattr(_T.device, "__get__")  # noqa: B009 - the type stubs call it a device
_CPU = torch.device("cpu")
_THERE = torch.device("privateuseone", 0)
_TO_NUMPY = (_T.numpy, _T.__array__)
_EITHER = frozenset(
    {"__getitem__", "__setitem__", "copy_", "index_put", "index_put_", "_pack_padded_sequence", "pack_padded_sequence", "__set__"}
)
"""Functions that take tensors of the CPU beside those of an accelerator: indices, copies, lengths."""


class Elsewhere(TorchFunctionMode):
    """Some tensors count as moved to another device, and so does what is made of them; values and gradients are the CPU's.

    `met` holds where a tensor of the CPU was combined with one that has moved, which torch refuses; single numbers are taken from
    anywhere. `tensor.device` tells of the other device, `.cpu()` comes back from it, and `.numpy()` there raises as on a GPU.
    """

    def __init__(self, spans: SpanFinder, moved: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._spans = spans
        self._there: dict[int, torch.Tensor] = {id(t): t for t in moved}  # held, so that no other tensor gets their ids
        self.met: list[tuple[Span | None, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if func == _DEVICE:
            return _THERE if id(first) in self._there else func(*args)
        if func in _TO_NUMPY and id(first) in self._there:
            raise TypeError("can't convert a tensor of another device to numpy: use Tensor.cpu() to copy it to host memory first")
        if func in (_T.cpu, _T.cuda) and isinstance(first, torch.Tensor):
            return self._twin(first, name == "cuda")
        tensors = list(_tensors((args, kwargs)))
        there = any(id(t) in self._there for t in tensors)
        if name in ("to", "type", "type_as"):
            return self._cast(func, args, kwargs)
        if name in _EITHER:
            there = id(first) in self._there  # what is filled, or read with an index, stays where it is
        if kwargs.get("device") is not None:
            kwargs["device"], there = _CPU, True
        elif name == "new_tensor":
            there = id(first) in self._there  # a copy of the data, where the first one is
        elif there and name not in _EITHER and any(id(t) not in self._there and t.dim() > 0 for t in tensors):
            stack = self._spans.stack(sys._getframe(1), limit=1)
            self.met.append((stack[0] if stack else None, name.strip("_")))
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            if there:
                self._there[id(tensor)] = tensor
        return result

    def _cast(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What `to`, `type` or `type_as` gives: it goes where they say, else it stays."""
        said = (*args[1:], *kwargs.values())
        others = [a for a in said if isinstance(a, torch.Tensor)]
        told = any(isinstance(a, torch.device | str | int) and not isinstance(a, bool) for a in said)
        goes = any(id(t) in self._there for t in others) if others else told or id(args[0]) in self._there
        result = func(*(_here(a) for a in args), **{k: _here(v) for k, v in kwargs.items()})
        return self._twin(result, goes) if isinstance(result, torch.Tensor) else result

    def _twin(self, tensor: torch.Tensor, there: bool) -> torch.Tensor:
        """The same values as another tensor, on the other device or on the CPU; the tensor itself where it is there already."""
        if (id(tensor) in self._there) is there:
            return tensor
        twin: torch.Tensor = tensor.view_as(tensor)
        if there:
            self._there[id(twin)] = twin
        return twin


def _here(value: Any) -> Any:
    """A device as the CPU; types are left as they are."""
    if isinstance(value, torch.device) or (isinstance(value, int) and not isinstance(value, bool)):
        return _CPU
    if isinstance(value, str):
        return value.replace("torch.cuda.", "torch.") if value.startswith("torch.") else _CPU
    return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
