"""From the texts of a request to a target that can be built and called."""

from __future__ import annotations

import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from types import ModuleType
from typing import Any, NamedTuple

import torch

from vaelint.core.errors import TargetError
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.late import dataclass
from vaelint.loading.build import Loaded, load_target
from vaelint.loading.tensors import make_inputs
from vaelint.perturb.constructor_arguments import changed, knobs
from vaelint.pipeline.step_trials import leaves_a_loss
from vaelint.source.shapetypes import typed_files
from vaelint.source.target import parse_init, parse_target
from vaelint.step.keras_steps import own_inputs
from vaelint.step.step import forward_step, input_names, told_step
from vaelint.trace import keras_models
from vaelint.trace.ladder import Tracer
from vaelint.trace.recorded_run import Built
from vaelint.trace.spans import SpanFinder
from vaelint.trace.standin import as_if_without_gpu


@dataclass(frozen=True)
class FromPython:
    """A target handed over as an object, with its constructor arguments, and what else it is told by object: the loss, the step."""

    obj: Any
    init: dict[str, Any]
    names: dict[str, Any] = field(default_factory=dict)

    def load(self, request: Request) -> Loaded:
        """The object's module and place, as if it had been named."""
        if isinstance(self.obj, str):
            loaded = load_target(parse_target(self.obj), request)
        else:
            owner = self.obj if inspect.isclass(self.obj) or inspect.isroutine(self.obj) else type(self.obj)
            module = sys.modules[owner.__module__]
            loaded = Loaded(module, self.obj, self._file(owner, module), owner.__name__)
        if self.names:
            loaded.module = _with_names(loaded.module, self.names)
        return loaded

    @staticmethod
    def _file(owner: Any, module: ModuleType) -> str:
        """Where it is written; for the cell of a notebook, the name that its code goes by."""
        try:
            return inspect.getfile(owner)
        except (OSError, TypeError):
            return getattr(module, "__file__", None) or "<python>"


def _with_names(module: ModuleType, names: Mapping[str, Any]) -> ModuleType:
    """A module with more names; its own stays as it is."""
    more = ModuleType(module.__name__, module.__doc__)
    more.__dict__.update({**vars(module), **names})
    return more


class Prepared(NamedTuple):
    """A target that can be built and called."""

    loaded: Loaded
    inputs: InputSet
    tracer: Tracer
    step: Any
    names: list[str]  # of its inputs


def prepare(request: Request, result: TargetResult, given: FromPython | None = None) -> Prepared:
    """From texts to a way of building and calling the model."""
    inputs = _batch_as_b(InputSet.from_texts(request.inputs))
    started = time.perf_counter()
    loaded = given.load(request) if given is not None else load_target(parse_target(request.target), request)
    if keras_models.is_used_by(loaded.namespace):
        inputs = (inputs if inputs.specs else _own_inputs(request, loaded, given)).with_channels_last()
    result.timing["load_s"] = round(time.perf_counter() - started, 4)  # what the module imports: not ours
    try:
        return Prepared(loaded, inputs, *_made_ready(request, loaded, inputs, given))
    finally:
        result.notes += loaded.notes  # where it fails, they say what led there


def _own_inputs(request: Request, loaded: Loaded, given: FromPython | None) -> InputSet:
    """What a Keras model's own `Input`s say, where no input is given; none where it cannot be built, which is told later."""
    none = InputSet.from_texts(())
    try:
        with as_if_without_gpu():
            model = loaded.build(loaded.resolve_init(none, given.init if given is not None else parse_init(request.init)))
    except TargetError:
        return none
    own = InputSet.from_specs(own_inputs(model))
    if own.specs:
        loaded.notes.append(f"no --input is given: the model's own Input says {' and '.join(map(str, own.specs))}")
    return own


def _made_ready(request: Request, loaded: Loaded, inputs: InputSet, given: FromPython | None) -> tuple[Tracer, Any, list[str]]:
    """The tracer of a model that can be built, the way to call it, and the names of its inputs."""
    step: Any = None
    init = loaded.resolve_init(inputs, given.init if given is not None else parse_init(request.init))
    spans = SpanFinder(home_of(loaded))
    names: list[str] = []

    def make(sizes: Mapping[str, int] | None) -> dict[str, torch.Tensor]:
        return make_inputs(inputs, names, sizes, seed=request.seed)

    def fresh() -> Tracer:
        tracer = Tracer(lambda: loaded.build(init), make, spans, inputs.symbols)
        tracer.variants = lambda value, to: _resized(loaded, init, value, to)
        tracer.watch, tracer.calls_in = request.fixes, typed_files(home_of(loaded))
        return tracer

    tracer, probe = _constructed(loaded, fresh)
    loaded.made_up |= {name: loaded.arguments[name] for name in request.ours if name in loaded.arguments}
    if request.step is not None:
        step = told_step(request.step, loaded)
        names += [spec.name for spec in inputs.specs if spec.name]
        names[:] = input_names(probe.model, inputs) if len(names) < len(inputs.specs) else names
    else:

        def tried(step: Any, given: list[str]) -> bool:
            names[:] = given
            return leaves_a_loss(tracer, step)

        step, found = forward_step(loaded, probe.model, inputs, tried)
        names[:] = found
    return tracer, step, names


def _resized(loaded: Loaded, init: dict[str, object], value: int, to: int) -> Iterator[Callable[[], torch.nn.Module]]:
    """Models whose constructor gets `to` in the place of one argument that is `value`."""
    for knob in knobs(loaded, init):
        if knob.value == value and not knob.is_global:
            other = changed(loaded, init, knob, to)
            yield lambda other=other: loaded.build(other)  # type: ignore[misc]


def _constructed(loaded: Loaded, fresh: Callable[[], Tracer]) -> tuple[Tracer, Built]:
    """A first model: of the ways to fill its constructor the first that works. Raises the error of the one that came furthest."""
    first, error, depth = loaded.choice, None, -1
    while True:
        tracer = fresh()
        try:
            with as_if_without_gpu():
                return tracer, tracer.construct_for_signature()
        except TargetError as raised:
            deep = len(list(traceback.walk_tb(raised.__cause__.__traceback__))) if raised.__cause__ is not None else 0
            if deep > depth:
                error, first, depth = raised, loaded.choice, deep
            if not loaded.next_choice():
                if first is not None:
                    loaded.take(first)
                assert error is not None
                raise error from error.__cause__


def _batch_as_b(inputs: InputSet) -> InputSet:
    """The batch is B in all that follows, whatever the user named it."""
    own = inputs.batch
    if own is None or own == "B" or "B" in inputs.symbols:
        return inputs
    symbols = {"B" if k == own else k: v for k, v in inputs.symbols.items()}
    dims = tuple(tuple("B" if d == own else d for d in dim) for dim in inputs.dims)
    return replace(inputs, symbols=symbols, dims=dims, batch="B")


def home_of(loaded: Loaded) -> str:
    """The folder whose files are the user's: that of the target's file, or its package."""
    if loaded.package and loaded.package in sys.modules:
        return os.path.dirname(os.path.abspath(sys.modules[loaded.package].__file__ or loaded.file))
    return os.path.dirname(os.path.abspath(loaded.file))
