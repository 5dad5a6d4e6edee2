"""What is done to losses and parameters beside `backward` and torch's optimizers: by gradient scalers, and by Keras' optimizers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from vaelint.observe.seen import Applied, held_by
from vaelint.observe.watch import Watch
from vaelint.trace.spans import SpanFinder


class Scaling:
    """The part of a session that follows it."""

    def __init__(self, spans: SpanFinder) -> None:
        super().__init__(spans)  # type: ignore[call-arg]
        self.watch: Watch | None = None  # the iteration that is recorded, if one is
        self._unscaled: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._applying = False  # whether a Keras optimizer is at work

    def before_scaling(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss that a scaler made another one of; any other as it is."""
        return self._unscaled.get(id(loss), (loss, loss))[1]

    def on_scaled(self, scaled: Any, of: Any, *, works: bool = True) -> None:
        """A gradient scaler made one tensor of another; it `works` unless the script has switched it off."""
        if isinstance(scaled, torch.Tensor) and scaled is not of:
            self._unscaled[id(scaled)] = (scaled, of)
        if self.watch is not None and works:
            self.watch.updates.scale(scaled)

    def on_unscaled(self, optimizer: torch.optim.Optimizer) -> None:
        """A gradient scaler takes its scale out of what an optimizer is to use."""
        if self.watch is not None:
            self.watch.updates.unscale(held_by(optimizer))

    @contextlib.contextmanager
    def applying(self, name: str, held: Sequence[torch.Tensor]) -> Iterator[None]:
        """Within the block an optimizer that is none of torch's changes what it holds; one method of it may call another."""
        outermost, self._applying = not self._applying, True
        watch = self.watch if outermost else None
        was = [p.detach().clone() for p in held] if watch is not None else []
        try:
            yield
        finally:
            self._applying = not outermost
            if watch is not None:
                moved = sum(int((p.detach() != old).sum()) for p, old in zip(held, was, strict=True))
                finite = all(bool(p.isfinite().all()) for p in held)
                watch.applied.append(Applied(name, moved, sum(p.numel() for p in held), finite))
