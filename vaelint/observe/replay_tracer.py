"""Answers what rules and experiments ask of a tracer from a recorded iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from vaelint.observe.batches import resized
from vaelint.observe.copies import copied
from vaelint.observe.not_replayed import NotReplayedError
from vaelint.observe.seen import Iteration
from vaelint.record.record import Record
from vaelint.trace.ladder import Tracer
from vaelint.trace.spans import SpanFinder


class ReplayTracer(Tracer):
    """Answers what rules and experiments ask of a tracer from a recorded iteration."""

    def __init__(
        self,
        iteration: Iteration,
        model: nn.Module,
        spans: SpanFinder,
        symbols: Mapping[str, int],
        shapes: Callable[[Any], list[tuple[int, ...]]],
    ) -> None:
        super().__init__(lambda: copied(model), self._batch, spans, symbols)
        self._iteration, self._shapes = iteration, shapes
        self.real_because = "it is the user's own training"

    def _batch(self, sizes: Mapping[str, int] | None) -> dict[str, torch.Tensor]:
        """The batch of the recorded iteration, at other sizes where they are asked for."""
        wanted = self._shapes(sizes)
        return {name: resized(t, shape) for (name, t), shape in zip(self._iteration.inputs.items(), wanted, strict=True)}

    def run(self, step: Any, sizes: Any = None, *, training: bool = True, build: Any = None) -> Record:
        """The iteration again, from the values it began with."""
        return self.real(step, sizes, training=training, build=build)

    def real(
        self, step: Any, sizes: Any = None, *, training: bool = True, build: Any = None, device: str = "cpu", change: Any = None
    ) -> Record:
        """The same; `change` may exchange the inputs."""
        if not training:
            raise NotReplayedError("an observed run shows no evaluation mode")
        if build is not None:
            raise NotReplayedError("an observed run is not repeated with other attributes")
        if any(self.symbols.get(k) != v for k, v in (sizes or {}).items() if k != "B"):
            raise NotReplayedError("an observed run is known at other batch sizes only")
        return super().real(step, sizes, device=device, change=change)

    def move(self, model: nn.Module, device: str) -> None:
        """The networks stay where the script had them: the operations that moved its tensors run again as well."""

    def moved(self, inputs: Mapping[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
        """The batch stays where the script had it: often on the CPU, as its loader gives it."""
        return dict(inputs)

    def attempt(self, step: Any, sizes: Any, build: Any = None, *, training: bool = True) -> Record | None:
        """One run of what may well not be had."""
        try:
            return self.real(step, sizes, training=training, build=build)
        except NotReplayedError:
            return None

    def with_calls(self, step: Any) -> Record:
        """The iteration again, with the calls of the script's functions as they were noted. Raises NotReplayedError where none were."""
        record = self.run(step)
        if not record.functions:
            raise NotReplayedError("calls of the script's functions were not noted")
        return record

    def second(self, step: Any, sizes: Any = None) -> Record:
        """Raises NotReplayedError: the second of two steps is the script's Python."""
        raise NotReplayedError("an observed script is not run again")
