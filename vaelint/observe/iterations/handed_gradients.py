"""Losses that a script differentiates with `torch.autograd.grad`, and whose gradients it hands to its optimizers itself.

What such a call differentiates is minimised as what `backward` is called on. Which calls are meant shows at the first step: a gradient that
a penalty reads, or a weight between two losses, is in no parameter's `.grad` by then. So the first iteration is not recorded.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vaelint.observe.aside import aside
from vaelint.observe.seen import Asked, held_by
from vaelint.observe.session import Session

_NAMES = ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused")
_MOST = 10_000  # results that are remembered until a step


class _Handed:
    """The results of `autograd.grad` since the last step, and whether a step was ever given one."""

    def __init__(self) -> None:
        self.are_used = False
        self._found: dict[int, torch.Tensor] = {}

    def note(self, results: Any) -> None:
        """Remembers what one call gave back."""
        if not self.are_used and len(self._found) < _MOST:
            self._found |= {id(g): g for g in _tensors(results)}

    def look(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer is about to step."""
        self.are_used = self.are_used or any(id(p.grad) in self._found for p in held_by(optimizer) if p.grad is not None)
        self._found.clear()


@contextlib.contextmanager
def handed_gradients(session: Session) -> Iterator[None]:
    """While the block runs, `session` is told of losses whose gradients the script hands over."""
    original, handed, within = torch.autograd.grad, _Handed(), [False]

    def grad(*args: Any, **kwargs: Any) -> Any:
        if within[0]:  # torch comes by its own name to what a mode calls
            return original(*args, **kwargs)
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        inputs = _tensors(given.get("inputs"))
        if not handed.are_used or given.get("create_graph") or not all(isinstance(t, torch.nn.Parameter) for t in inputs):
            results = original(*args, **kwargs)
            handed.note(results)
            return results
        asked = Asked(bool(given.get("retain_graph")), given.get("grad_outputs"), inputs, returns=True)
        passed = session.on_backward(given["outputs"], asked, sys._getframe(1))
        within[0] = True
        try:
            with aside(session):
                results = original(*args, **kwargs)
        finally:
            within[0] = False
        passed()
        return results

    looking = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: handed.look(optimizer))
    torch.autograd.grad = grad
    try:
        yield
    finally:
        torch.autograd.grad = original
        looking.remove()


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of one argument or result."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for t in value if isinstance(t, torch.Tensor)] if isinstance(value, list | tuple) else []
