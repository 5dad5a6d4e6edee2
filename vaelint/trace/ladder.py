"""The ladder of traces: fake tensors where they carry the user's code, real ones where they do not."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from vaelint.core.errors import TargetError
from vaelint.core.messages import message_of
from vaelint.record.record import Record, Rung
from vaelint.record.sizes import NeedsValue
from vaelint.trace import keras_models, torch_private
from vaelint.trace.fakes import torch_fakes
from vaelint.trace.fakes.left_behind import no_fakes_left
from vaelint.trace.lazy import give_sizes, is_unsized
from vaelint.trace.mode import set_mode
from vaelint.trace.recorded_run import Built, construct, quiet_torch, record_step
from vaelint.trace.spans import SpanFinder

Make = Callable[[Mapping[str, int] | None], dict[str, torch.Tensor]]

_LIMITS: tuple[type[BaseException], ...] = (NeedsValue, *torch_private.FAKE_LIMITS)
_NOT_CARRIED: tuple[type[BaseException], ...] = (torch_private.DynamoMissing, *_LIMITS)


class Tracer:
    """Records the user's step as often as asked, at any sizes, each time from a freshly constructed model.

    `build` constructs the model; `make(sizes)` gives the inputs with some symbols at other values, in the order of `forward`.
    """

    def __init__(self, build: Callable[[], torch.nn.Module], make: Make, spans: SpanFinder, symbols: Mapping[str, int]) -> None:
        self._told, self._make, self.spans, self.symbols = build, make, spans, dict(symbols)
        self._first: tuple[Any, Mapping[str, int] | None] | None = None  # the step and sizes that a model without sizes is run with first
        self.real_because: str | None = None  # why the ladder went down to real tensors
        self.in_unit: frozenset[str] = frozenset()  # inputs whose values are vaelint's, brought into [0, 1]
        self.watch = False  # also note which names hold which tensors while a call is made
        self.calls_in: Callable[[str], bool] | None = None  # the files whose functions' calls are noted, if any
        self.variants: Callable[[int, int], Iterable[Callable[[], torch.nn.Module]]] = lambda value, to: ()  # models of other sizes
        self._lean = True
        self._fake_construction = True
        self._spare: tuple[Any, Built, Any] | None = None  # a fake model nobody has run, its mode, and the random state it left

    def run(
        self,
        step: Any,
        sizes: Mapping[str, int] | None = None,
        *,
        training: bool = True,
        build: Callable[[], torch.nn.Module] | None = None,
    ) -> Record:
        """One recorded run; `sizes` sets some symbols to other values.

        A failure under fake tensors is only believed when real tensors fail too.
        """
        if self.real_because is None:
            try:
                record = self._fake(step, sizes, training, build)
            except _LIMITS as limit:
                self.real_because = _reason(limit)
            else:
                if record.failure is None:
                    return record
                real = self.real(step, sizes, training=training, build=build)
                if real.failure is not None:
                    return real  # the user's own error, in torch's own words
                self.real_because = f"fake tensors do not carry it ({_first_line(record.failure.error)})"
                return real
        return self.real(step, sizes, training=training, build=build)

    def real(
        self,
        step: Any,
        sizes: Mapping[str, int] | None = None,
        *,
        training: bool = True,
        build: Callable[[], torch.nn.Module] | None = None,
        device: str = "cpu",
        change: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
    ) -> Record:
        """The same on real tensors; `change` may exchange the inputs."""
        with quiet_torch():
            built = construct(self._sized(build, step, sizes), self.spans)
            set_mode(built.model, training)
            if (empty := next((name for name, p in built.model.named_parameters() if p.is_meta), None)) is not None:
                help = "build the model on a device that holds values"
                raise TargetError("VAE002", f"the parameter {empty} of the model is on the meta device and has no values", help)
            self.move(built.model, device)
            made = self.inputs(sizes)
            inputs = self.moved(change(made) if change is not None else made, device)
            return self._recorded(built, step, inputs, sizes, "real")

    def _recorded(self, built: Built, step: Any, inputs: Mapping[str, torch.Tensor], sizes: Mapping[str, int] | None, rung: Rung) -> Record:
        at = {**self.symbols, **(sizes or {})}
        return record_step(built, step, inputs, at, self.spans, rung, watch=self.watch, calls_in=self.calls_in)

    def attempt(
        self, step: Any, sizes: Mapping[str, int], build: Callable[[], torch.nn.Module] | None = None, *, training: bool = True
    ) -> Record | None:
        """One run of what may well fail, on the rung that the others stand on; None where that rung does not carry it.

        It says nothing about later runs. Raises TargetError for a constructor that raises.
        """
        if self.real_because is not None:
            return self.real(step, sizes, training=training, build=build)
        kept = self._fake_construction
        try:
            return self._fake(step, sizes, training, build)
        except _LIMITS:
            return None
        finally:
            self._fake_construction = kept

    def with_calls(self, step: Any) -> Record:
        """One recorded run that notes the calls of all functions of the user's."""
        kept, self.calls_in = self.calls_in, self.spans.is_user
        try:
            return self.run(step)
        finally:
            self.calls_in = kept

    def second(self, step: Any, sizes: Mapping[str, int] | None = None) -> Record:
        """The second of two steps of one model, on real tensors."""
        with quiet_torch():
            built = construct(self._sized(None, step, sizes), self.spans)
            set_mode(built.model, True)
            for _ in range(2):
                record = record_step(built, step, self.inputs(sizes), {**self.symbols, **(sizes or {})}, self.spans, "real")
            return record

    def inputs(self, sizes: Mapping[str, int] | None) -> dict[str, torch.Tensor]:
        """Real inputs, with some symbols at other values."""
        return {k: torch.sigmoid(v) if k in self.in_unit else v for k, v in self._make(sizes).items()}

    def construct(self) -> torch.nn.Module:
        """The user's model, built as the target says, in whatever mode is active."""
        return self._build()

    def construct_for_signature(self) -> Built:
        """A model whose signature can be read: a fake one where its constructor allows."""
        with quiet_torch(), torch_private.lean_dynamo(self._lean):
            mode = torch_fakes.fake_mode()
            built = self._fake_model(mode, self._build)
            self._spare = (mode, built, random.getstate())
            return built

    def move(self, model: torch.nn.Module, device: str) -> None:
        """Takes a model to the device that a run is wanted on."""
        model.to(device)

    def moved(self, inputs: Mapping[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
        """Inputs on the device that a run is wanted on."""
        return {name: value.to(device) for name, value in inputs.items()}

    def construct_real(self, *, on_gpu: bool = False) -> Built:
        """A real model, as the confirming pass wants it; with `on_gpu` the constructor may use the GPU that is there."""
        with quiet_torch():
            return construct(self._build, self.spans, on_gpu=on_gpu)

    def _fake(self, step: Any, sizes: Mapping[str, int] | None, training: bool, build: Callable[[], torch.nn.Module] | None) -> Record:
        try:
            return self._fake_once(step, sizes, training, build)
        except torch_private.DynamoMissing:
            self._lean = False
            return self._fake_once(step, sizes, training, build)

    def _fake_once(self, step: Any, sizes: Mapping[str, int] | None, training: bool, build: Callable[[], torch.nn.Module] | None) -> Record:
        with quiet_torch(), torch_private.lean_dynamo(self._lean), no_fakes_left(self.spans.is_user):
            mode, built = self._fresh(build, step, sizes)
            set_mode(built.model, training)
            with mode:
                inputs = self._make(sizes)
                rung: Rung = "concrete"
                record = self._recorded(built, step, inputs, sizes, rung)
                record.recording.mode = mode
        if record.failure is not None and isinstance(record.failure.error, torch_private.DynamoMissing):
            raise record.failure.error
        if record.failure is not None and _is_limit(record.failure.error):
            raise record.failure.error
        return record

    def _build(self) -> torch.nn.Module:
        """The model as the target says; once a step is known, all its parameters have their shapes."""
        model = self._told()
        if self._first is not None and is_unsized(model):
            step, sizes = self._first
            give_sizes(model, step, self._make(sizes))
        return model

    def _sized(
        self, build: Callable[[], torch.nn.Module] | None, step: Any, sizes: Mapping[str, int] | None
    ) -> Callable[[], torch.nn.Module]:
        """A way to build the model that gives its parameters the shapes that they have in this step."""
        self._first = step, sizes
        if build is None:
            return self._build

        def built() -> torch.nn.Module:
            model = build()
            if is_unsized(model):
                give_sizes(model, step, self._make(sizes))
            return model

        return built

    def _fresh(self, build: Callable[[], torch.nn.Module] | None, step: Any, sizes: Mapping[str, int] | None) -> tuple[Any, Built]:
        """A fake model that nothing has been done with, and its mode. The first is the one whose signature was read."""
        spare, self._spare = self._spare, None
        sized = self._sized(build, step, sizes)
        if spare is not None and build is None and not is_unsized(spare[1].model):
            random.setstate(spare[2])
            return spare[0], spare[1]
        mode = torch_fakes.fake_mode()
        return mode, self._fake_model(mode, sized)

    def extended(self, record: Record, step: Any) -> Record | None:
        """A record of the step that takes up another record where it ended, for a step that begins with the recorded one.

        None where that is not possible, or where the rest fails: then the whole is run.
        """
        if record.rung == "real" or record.recording is None or not step.continues(record.step):
            return None
        try:
            with quiet_torch(), torch_private.lean_dynamo(self._lean), record.recording.mode:
                again: Record = record.recording.extended(step)
        except _NOT_CARRIED:
            return None
        return again if again.failure is None else None

    def _fake_model(self, mode: Any, build: Callable[[], torch.nn.Module]) -> Built:
        if self._fake_construction:
            try:
                with mode, _uninitialised():
                    faked = construct(build, self.spans)
            except Exception:  # noqa: BLE001 - a constructor that reads values; whether it is the user's fault shows next, on real tensors
                faked = None
            if faked is not None and not is_unsized(faked.model):  # fake tensors give no sizes to what has none
                return faked
            self._fake_construction = False
        with contextlib.nullcontext():
            built = construct(build, self.spans)
        keras_models.relink(built.model, torch_private.to_fake(built.model, mode), mode.from_tensor)
        return built


@contextlib.contextmanager
def _uninitialised() -> Iterator[None]:
    """Fake tensors have no values: initialising them costs time and does nothing."""
    kept = {name: fn for name, fn in vars(torch.nn.init).items() if name.endswith("_") and not name.startswith("_") and callable(fn)}

    def skip(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return tensor

    for name in kept:
        setattr(torch.nn.init, name, skip)
    try:
        yield
    finally:
        for name, fn in kept.items():
            setattr(torch.nn.init, name, fn)


def _is_limit(error: BaseException) -> bool:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, _NOT_CARRIED):
            return True
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False


def _first_line(error: BaseException) -> str:
    text = message_of(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _reason(limit: BaseException) -> str:
    return (
        f"it reads the value of a tensor ({limit})"
        if isinstance(limit, NeedsValue)
        else f"fake tensors do not carry it ({_first_line(limit)})"
    )
