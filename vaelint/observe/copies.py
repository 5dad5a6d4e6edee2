"""Modules as they were at one moment: copies with tensors of their own, which the training that goes on does not move."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from vaelint.trace.keras_models import copied as of_keras
from vaelint.trace.keras_models import is_keras


class Parts(nn.Module):
    """Several networks that are trained together and that no module holds, by the names that the script gives them."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def copied(module: nn.Module) -> nn.Module:
    """A copy with tensors of its own. What a module holds besides tensors, modules and collections of them is shared."""
    memo: dict[int, Any] = {}
    if any(is_keras(part) for part in module.modules()):
        return of_keras(module)
    for part in module.modules():
        for value in vars(part).values():
            _keep(value, memo)
    made: nn.Module = copy.deepcopy(module, memo)
    return made


def _keep(value: Any, memo: dict[int, Any]) -> None:
    """Puts what must not be copied deeply into the memo: values of an earlier graph without it, other objects as they are."""
    if isinstance(value, torch.Tensor):
        if value.grad_fn is not None:
            memo[id(value)] = value.detach().clone()
    elif isinstance(value, dict):
        for part in value.values():
            _keep(part, memo)
    elif isinstance(value, list | tuple | set):
        for part in value:
            _keep(part, memo)
    elif not isinstance(value, nn.Module):
        memo[id(value)] = value
