"""Real runs of the user's step: fresh model, real tensors, a seed of our choosing. User code runs here."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from vaelint.record.record import Objective, Record
from vaelint.replay.ranges import in_unit
from vaelint.trace import keras_models, torch_private
from vaelint.trace.ladder import Tracer
from vaelint.trace.mode import set_mode
from vaelint.trace.recorded_run import Built, quiet_torch, record_step
from vaelint.trace.standin import as_if_without_gpu

Prepare = Callable[[torch.nn.Module, dict[str, torch.Tensor]], None]
"""Changes the model or its inputs before the step runs."""


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """torch, random and numpy seeded; every generator is put back afterwards, on the device too."""
    numpy: Any = sys.modules.get("numpy")
    kept_numpy = numpy.random.get_state() if numpy is not None else None
    kept_cuda = torch.cuda.get_rng_state(device) if device.startswith("cuda") else None
    with quiet_torch(), torch.enable_grad():
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: after a device-side assert it raises
        if kept_cuda is not None:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        if numpy is not None:
            numpy.random.seed(seed)
        try:
            yield
        finally:
            if numpy is not None:
                numpy.random.set_state(kept_numpy)
            if kept_cuda is not None:
                with contextlib.suppress(RuntimeError):  # after a device-side assert nothing on the device answers
                    torch.cuda.set_rng_state(kept_cuda, device)


def at_home_on(device: str) -> AbstractContextManager[object]:
    """What user code takes for its machine: `.cuda()` is the device that was asked for; on the CPU there is no other."""
    return torch.cuda.device(device) if device.startswith("cuda") else as_if_without_gpu()


class Runner:
    """Runs one step on one device as often as asked, within `seconds` in all."""

    def __init__(self, tracer: Tracer, step: Any, device: str, sizes: Mapping[str, int] | None, seconds: float) -> None:
        self.tracer, self.step, self.device, self.sizes = tracer, step, device, dict(sizes or {})
        self.lean = True  # whether torch._dynamo is kept from being imported
        self.held = 0  # bytes that others hold on the device
        self.dearest = 0.0  # seconds of the longest run so far
        self.squeezed: frozenset[str] = frozenset()  # inputs that are brought into [0, 1]
        self.until: Objective | None = None  # what the step minimises: a run ends with its passes
        self._ends = time.perf_counter() + seconds

    def build(self, training: bool = True) -> Built:
        """A fresh model on the device."""
        with seeded(0, self.device), at_home_on(self.device):
            built = self.tracer.construct_real(on_gpu=self.device.startswith("cuda"))
            set_mode(built.model, training)
            self.tracer.move(built.model, self.device)
        return built

    def inputs(self, sizes: Mapping[str, int] | None = None) -> dict[str, torch.Tensor]:
        """Fresh inputs on the device, that no one else holds."""
        made = self.tracer.inputs({**self.sizes, **(sizes or {})})
        return self.tracer.moved(in_unit(made, self.squeezed), self.device)

    def has_time(self) -> bool:
        """Whether another run fits into what is left."""
        return time.perf_counter() + 2 * self.dearest < self._ends

    def run(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        training: bool = True,
        seed: int = 0,
        prepare: Prepare | None = None,
        built: Built | None = None,
        as_is: bool = False,
    ) -> Record:
        """One recorded run. With `built`, another call of the same model; with `as_is`, all that the step does to the parameters."""
        started = time.perf_counter()
        built = built or self.build(training)
        inputs = self.inputs(sizes)
        with seeded(seed, self.device), at_home_on(self.device):
            if prepare is not None:
                prepare(built.model, inputs)
            at = {**self.tracer.symbols, **self.sizes, **(sizes or {})}
            with torch_private.lean_dynamo(self.lean):  # a user's optimizer would import it, three seconds long
                until = None if as_is else self.until
                record = record_step(built, self.step, inputs, at, self.tracer.spans, "real", until=until, as_is=as_is)
        if record.failure is not None and isinstance(record.failure.error, torch_private.DynamoMissing):
            self.lean = False
            return self.run(sizes, training=training, seed=seed, prepare=prepare, as_is=as_is)
        self.dearest = max(self.dearest, time.perf_counter() - started)
        return record


def calm(model: torch.nn.Module, _: dict[str, torch.Tensor] | None = None) -> None:
    """Takes away what mixes rows or draws by design: batch normalisation in evaluation mode, dropout layers at rate 0.

    A dropout that leaves nothing over stays as it is.
    """
    for module in model.modules():
        if isinstance(module, torch_private.BatchNorm) or keras_models.has_mode(module):
            module.eval()
            module.train = lambda mode=True, kept=module: kept  # type: ignore[method-assign, misc]  # a step may call train() itself
        elif isinstance(module, torch_private.Dropout):
            module.p = float(module.p >= 1)
        elif isinstance(module, torch.nn.MultiheadAttention | torch.nn.RNNBase):
            module.dropout = 0.0  # a rate of its own, between layers or on the weights
