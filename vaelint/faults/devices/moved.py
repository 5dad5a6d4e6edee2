"""Which tensors a model takes along when it is moved: `_apply` or `to` of the user's own may move plain attributes too."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.faults.gradients.unregistered import parts_of

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_MOVES = frozenset({"to", "cuda", "cpu", "type"})


class _Noting(TorchFunctionMode):
    """Notes the tensors that are asked to move."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _MOVES and args and isinstance(args[0], torch.Tensor):
            self.asked.add(id(args[0]))
        return func(*args, **(kwargs or {}))


def tensors_in(held: object) -> list[torch.Tensor]:
    """The tensors of an attribute: itself, its elements, or those of its distributions."""
    return [part for part in parts_of(held) if isinstance(part, torch.Tensor)]


def attributes_moved(model: Model) -> set[tuple[str, str]]:
    """The plain attributes that `to` of the user's own moves, or `_apply`: (path of their module, name). Found by moving a model to where
    it is."""
    movers = (getattr(type(m), name) for m in model.record.model.modules() for name in ("_apply", "to"))
    if all(str(mover.__module__).startswith("torch.") for mover in movers):
        return set()
    moved, noting = model.tracer.construct_real().model, _Noting()
    before = {(path, name): parts for path, m in moved.named_modules() for name, v in vars(m).items() if (parts := tensors_in(v))}
    with noting, torch.no_grad(), contextlib.suppress(Exception):  # user code: what it does not come to it does not move
        moved.to("cpu")
    return {place for place, parts in before.items() if all(id(part) in noting.asked for part in parts)}


def attribute_of(model: torch.nn.Module, tensor: object) -> tuple[str, str] | None:
    """The path of the module that holds a tensor as a plain attribute, or within one, and the attribute's name."""
    for path, module in model.named_modules():
        for name, held in vars(module).items():
            if any(part is tensor for part in tensors_in(held)):
                return path, name
    return None
