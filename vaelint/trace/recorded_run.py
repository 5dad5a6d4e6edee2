"""One recorded run of the user's step: build, call, record. User code runs here."""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable

import torch

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import Births, MadeDistribution, ModeSet, Objective, Record, Rung, UsedUp
from vaelint.record.sizes import NeedsValue
from vaelint.trace import keras_models, torch_private
from vaelint.trace.autocast import noting_autocast
from vaelint.trace.calls import noting_calls
from vaelint.trace.modules import ModuleTracker, noting_births, noting_modes
from vaelint.trace.optimizers import (
    noting_empty_limits,
    noting_keras_steps,
    noting_optimizers,
    noting_scales,
    noting_schedules,
    noting_steps,
    noting_used_up,
)
from vaelint.trace.plainly import running_plainly
from vaelint.trace.pyro_sites import Sites, pyro_watched
from vaelint.trace.recorder import Recorder
from vaelint.trace.spans import SpanFinder
from vaelint.trace.standin import InsteadOfCuda

_DEEP = 4  # objects within objects that are looked through


@dataclass
class Built:
    """A model, the place where each of its modules was constructed, and the optimizers it built for itself."""

    model: torch.nn.Module
    births: Births = field(default_factory=Births)
    keep: list[Any] = field(default_factory=list)
    optimizers: list[Any] = field(default_factory=list)  # those that the constructor built
    used_up: list[UsedUp] = field(default_factory=list)  # parameters that it asked for where there were none left
    schedules: list[tuple[Any, Span | None]] = field(default_factory=list)  # LambdaLRs that it made, and where
    asked_for_cuda: list[tuple[Span, str]] = field(default_factory=list)  # where the constructor asks for a GPU by name


def names_of_tensors(model: torch.nn.Module) -> dict[int, str]:
    """id -> dotted name, for parameters, buffers and tensors held as plain attributes."""
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for key, val in vars(module).items():
            if isinstance(val, torch.Tensor):
                names.setdefault(id(val), prefix + key)
        for key, val in torch_private.own_tensors(module):
            names.setdefault(id(val), prefix + key)
    return names


def held_by_objects(model: torch.nn.Module) -> dict[int, str]:
    """id -> dotted path, for tensors that an object among plain attributes holds: `prior.loc` of `self.prior = Normal(0, 1)`."""
    held: dict[int, str] = {}

    def visit(owner: object, path: str, seen: frozenset[int]) -> None:
        for key, val in _attributes_of(owner).items():
            if isinstance(val, torch.Tensor):
                held.setdefault(id(val), f"{path}.{key}")
            elif id(val) not in seen and len(seen) < _DEEP:
                visit(val, f"{path}.{key}", seen | {id(val)})

    for path, module in model.named_modules():
        for key, val in vars(module).items():
            if not isinstance(val, torch.Tensor):
                visit(val, f"{path}.{key}" if path else key, frozenset({id(val)}))
    return held


def _attributes_of(value: object) -> dict[str, Any]:
    """What an object of its own keeps, no layer, function or class; none of its code runs."""
    if isinstance(value, torch.nn.Module | type | FunctionType | MethodType | ModuleType):
        return {}
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """User code sees fixed seeds, no argument checks of distributions (they branch on values), no warnings; all restored after."""
    validate = torch_private.distributions_validate()
    python, dtype, grad = random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[], device_type="cpu"):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)  # torch.manual_seed asks every device, which may not answer any more
        random.seed(0)
        torch.distributions.Distribution.set_default_validate_args(False)
        try:
            yield
        finally:
            torch.distributions.Distribution.set_default_validate_args(validate)
            random.setstate(python)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)


def construct(build: Any, spans: SpanFinder, *, on_gpu: bool = False) -> Built:
    """Calls `build()` and notes where each module was constructed. Whatever user code raises goes through.

    What the constructor asks of a GPU it gets with `on_gpu`; otherwise the CPU takes the GPU's place.
    """
    built = Built(model=torch.nn.Module())
    if torch.get_default_device().type == "meta":  # the user's module has set it: a model that holds no values says nothing
        torch.set_default_device(None)
    constructing = noting_optimizers(spans, built.optimizers, in_step=False)
    gpu = contextlib.nullcontext() if on_gpu else InsteadOfCuda(spans)
    asked, schedules = noting_used_up(spans, built.used_up), noting_schedules(spans, built.schedules)
    with noting_births(spans, built.births, built.keep), constructing, asked, schedules, running_plainly(), gpu as instead:
        built.model = build()
    if instead is not None:
        built.asked_for_cuda = instead.asked
    return built


@runtime_checkable
class Replays(Protocol):
    """A step that was recorded already, and is run again from its record."""

    def replay(self, built: Built, inputs: Mapping[str, torch.Tensor], sizes: Mapping[str, int], *, as_is: bool = False) -> Record:
        """The record of another run."""


def record_step(
    built: Built,
    step: Any,
    inputs: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    spans: SpanFinder,
    rung: Rung,
    *,
    watch: bool = False,
    calls_in: Callable[[str], bool] | None = None,
    until: Objective | None = None,
    as_is: bool = False,
) -> Record:
    """Runs `step(model, inputs)` under the recorder. What user code raises is kept in `Record.failure` with the partial graph.

    With `watch`, each node also knows the names that held tensors when it ran: `meta["scopes"]`. With `calls_in`, calls of functions
    of the files it names are noted in `Record.functions`. With `until`, the step ends when that objective's passes have run; with
    `as_is` its optimizers move what they move, and its backward passes free what they free.

    Raises `NeedsValue` and torch's fake tensor limits, which say that this rung cannot carry the code.
    """
    if isinstance(step, Replays):
        return step.replay(built, inputs, sizes, as_is=as_is)
    device = torch.get_default_device()
    try:
        return Recording(built, inputs, sizes, spans, rung, watch, calls_in, until, as_is).run(step)
    finally:
        if torch.get_default_device() != device:  # a step may set it; what is measured afterwards is not the step's
            torch.set_default_device(device)


class Recording:
    """A model, its inputs and the recorder of what is done with them; what it has recorded can be gone on with."""

    def __init__(
        self,
        built: Built,
        inputs: Mapping[str, torch.Tensor],
        sizes: Mapping[str, int],
        spans: SpanFinder,
        rung: Rung,
        watch: bool,
        calls_in: Callable[[str], bool] | None,
        until: Objective | None = None,
        as_is: bool = False,
    ) -> None:
        self._built, self._inputs, self._spans, self._calls_in = built, inputs, spans, calls_in
        self._modules = ModuleTracker(built.model, built.births, spans)
        names = names_of_tensors(built.model)
        self._recorder = Recorder(spans, self._modules, names, fake=rung != "real", watch=watch, until=until, as_is=as_is)
        self._recorder.held = held_by_objects(built.model)
        self._instead = InsteadOfCuda(spans) if all(t.device.type == "cpu" for t in inputs.values()) else None
        self._record = Record(self._recorder.graph, built.model, rung, dict(sizes), births=built.births)
        self._record.optimizers, self._record.used_up = list(built.optimizers), list(built.used_up)
        self._record.schedules = list(built.schedules)
        self._record.node_for = self._recorder.node_for
        self._record.inputs = {name: self._recorder.input(name, tensor) for name, tensor in inputs.items()}
        self._drawn = random.getstate()
        self.mode: Any = contextlib.nullcontext()  # that of fake tensors, where they are fake

    def run(self, step: Any) -> Record:
        """Runs the step."""
        return self._go(step, lambda: step(self._built.model, self._inputs), self._record)

    def extended(self, step: Any) -> Record:
        """Goes on with the rest of a step whose beginning is what was run; a record of the whole, in the same graph."""
        random.setstate(self._drawn)
        output = self._record.raw_output
        record = replace(self._record, shapes={}, symbols={}, notes=[])
        return self._go(step, lambda: step.rest(self._built.model, self._inputs, output), record)

    def _go(self, step: Any, act: Callable[[], Any], record: Record) -> Record:
        recorder, modules, spans, built = self._recorder, self._modules, self._spans, self._built
        record.step, record.recording, record.sites = step, self, Sites()
        noting = noting_calls(recorder, record.functions, self._calls_in) if self._calls_in else contextlib.nullcontext()
        with (
            modules.watching(),
            noting_modes(built.model, lambda: setattr(record, "reads_mode", True), partial(self._note_mode, record)),
            running_plainly(),
            noting_births(spans, built.births, built.keep, record.guests),
            noting_optimizers(spans, record.optimizers, in_step=True),
            noting_used_up(spans, record.used_up),
            noting_autocast(recorder.autocast),
            noting_scales(recorder.updates),
            noting_empty_limits(spans, recorder.updates),
            noting_distributions(recorder, record),
            recording_from_numpy(recorder),
            keras_models.metrics_aside(recorder),
            noting_keras_steps(spans, recorder.updates),
            pyro_watched(record.sites, spans),
        ):
            try:
                with self._instead or contextlib.nullcontext(), recorder, noting, noting_steps(spans, recorder.updates):
                    outcome = act()
                self._find_loss(record, outcome.loss, outcome.fault)
            except NeedsValue:
                raise
            except (KeyboardInterrupt, MemoryError):
                raise
            except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
                record.failure = recorder.failure(error)
            else:
                record.raw_output = outcome.output
                record.output = recorder.to_arg_structure(outcome.output)
        record.calls, record.reads, record.backwards = modules.calls, recorder.reads, recorder.updates.calls
        record.idle_steps, record.inner = recorder.updates.idle + recorder.updates.wasted(), frozenset(recorder.updates.inner)
        record.uses = recorder.updates.uses
        record.asked_for_cuda = [*built.asked_for_cuda, *(self._instead.asked if self._instead is not None else ())]
        self._drawn = random.getstate()
        return record

    def _note_mode(self, record: Record, module: torch.nn.Module, training: bool) -> None:
        """A module leaves training mode, or is told to be in it."""
        stack = self._spans.stack(sys._getframe(2), limit=1)
        if stack:
            noted = record.told_to_train if training else record.left_training
            noted.append(ModeSet(module, len(self._recorder.graph.nodes), stack[0]))

    def _find_loss(self, record: Record, left: Any, fault: Exception | None) -> None:
        """The loss of a step: what it differentiated itself, else what it left in `loss`. Raises `fault` where that is none."""
        recorder, updates = self._recorder, self._recorder.updates
        found = updates.objectives()
        main = updates.chosen(found, left if isinstance(left, torch.Tensor) else None)
        if main is None:
            if fault is not None:
                raise fault
            record.loss_value = left
            node = recorder.node_for(left) if isinstance(left, torch.Tensor) else recorder.to_arg(left)
            record.loss = node if isinstance(node, torch.fx.Node) else None
            return
        record.loss_value = updates.loss_of(main)
        record.loss = recorder.node_for(record.loss_value)
        others = [replace(o, loss=recorder.node_for(updates.loss_of(o))) for o in found if not set(o.passes) & set(main.passes)]
        record.objectives = [replace(main, loss=record.loss), *others]


@contextlib.contextmanager
def noting_distributions(recorder: Recorder, record: Record) -> Iterator[None]:
    """Notes each torch distribution that user code makes: its family, its parameters, and where."""
    original = torch.distributions.Distribution.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        found = {
            name: recorder.node_for(value) for name in _parameters_of(self) if isinstance(value := self.__dict__.get(name), torch.Tensor)
        }
        stack = spans_of(recorder)
        if stack and any(n is not None for n in found.values()):
            record.distributions.append(MadeDistribution(type(self).__name__, {k: n for k, n in found.items() if n is not None}, stack))

    torch.distributions.Distribution.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.distributions.Distribution.__init__ = original  # type: ignore[method-assign]


def _parameters_of(distribution: Any) -> list[str]:
    """The names of a distribution's parameters; some families give them as a property, and a user's own may not say."""
    try:
        constraints = getattr(distribution, "arg_constraints", {})
    except NotImplementedError:  # torch's own base class raises it
        return []
    return list(constraints) if isinstance(constraints, dict) else []


@contextlib.contextmanager
def recording_from_numpy(recorder: Recorder) -> Iterator[None]:
    """`torch.from_numpy` does not announce itself to function modes; what fake tensors do inside of it does."""
    original = torch.from_numpy

    def from_numpy(ndarray: Any) -> torch.Tensor:
        with torch_private.no_torch_function():
            made = original(ndarray)
        recorder.record_made(original, (ndarray,), made)
        return made

    torch.from_numpy = from_numpy
    try:
        yield
    finally:
        torch.from_numpy = original


def spans_of(recorder: Recorder) -> tuple[Span, ...]:
    """The user's frames above the caller."""
    return recorder.spans.stack(sys._getframe(2))
