"""The pipeline, in reading order: target -> trace -> anatomy -> rules -> confirm. Runs in the worker, or in-process for the API."""

from __future__ import annotations

import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch

from vaelint.anatomy.analyse import analyse
from vaelint.anatomy.loss.describe import describe_anatomy, describe_loss
from vaelint.anatomy.model import Model
from vaelint.core.errors import TargetError
from vaelint.core.finding import Finding
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup_failures import fail
from vaelint.core.strength import as_said
from vaelint.laws.observe import observe_laws, replay_laws
from vaelint.loading.build import Loaded, load_target
from vaelint.loading.guessed import another_choice, withhold
from vaelint.loading.placeholder import holds_placeholder, needed
from vaelint.loading.tensors import make_inputs
from vaelint.perturb.constructor_arguments import changed, knobs
from vaelint.pipeline.gaps import note_gaps, note_no_run
from vaelint.pipeline.loss_search import LossSearch
from vaelint.pipeline.maximised import settled
from vaelint.pipeline.run_rules import failure_findings, run_rules
from vaelint.pipeline.step_trials import leaves_a_loss
from vaelint.pipeline.watched_run import check_watched
from vaelint.record.record import Record
from vaelint.rule import Rule
from vaelint.rule_packages import load_rules
from vaelint.source.blame import one_line
from vaelint.source.shapetypes import typed_files
from vaelint.source.target import parse_init, parse_target
from vaelint.source.written import Source
from vaelint.step.step import forward_step, input_names, own_loss_step, told_step
from vaelint.trace.ladder import Tracer
from vaelint.trace.lift import lift, lift_ends
from vaelint.trace.recorded_run import Built
from vaelint.trace.spans import SpanFinder
from vaelint.trace.standin import as_if_without_gpu

Emit = Callable[[dict[str, Any]], None]


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


def check_target(request: Request, emit: Emit, given: FromPython | None = None) -> TargetResult:
    """Checks one target. What user code does wrong comes back as findings; `emit` gets the static result before the real pass."""
    if request.run:
        return check_watched(request, emit)
    return as_said(_checked(request, emit, given))


def _checked(request: Request, emit: Emit, given: FromPython | None) -> TargetResult:
    """The result with the severities of the rules, whatever was measured."""
    result = TargetResult(request.target)
    started = time.perf_counter()
    try:
        rules = [r for r in load_rules() if request.wants(r.code)] if request.trail != "only" else []
        emit({"kind": "stage", "stage": "load"})
        loaded, inputs, tracer, step, names = prepare(request, result, given)
        emit({"kind": "stage", "stage": "trace"})
        with as_if_without_gpu():
            model = trace_step(request, result, loaded, inputs, tracer, step, names, emit)
        result.timing["trace_s"] = round(time.perf_counter() - started - result.timing["load_s"], 4)
        emit({"kind": "stage", "stage": "rules"})
        with as_if_without_gpu():
            claims, repairs = run_rules(rules, model, loaded.span, result) if model is not None else ([], [])
            if loaded.made_up and model is not None:
                gone = withhold(loaded, tracer, result, lambda codes: _found_again(model, codes, rules, loaded))
                claims = [(i - sum(g < i for g in gone), claim) for i, claim in claims if i not in gone]
        if model is not None and any(repair.sure for _, repair in repairs):
            from vaelint.repair.propose import with_sure_fixes

            result.findings[:] = with_sure_fixes(model, repairs, result.findings)
        if model is not None and not (model.has_loss or model.variational):
            result.status = "failed"
            result.notes.append("nothing is drawn and no loss is known: there was nothing to check")
        if model is not None and model.has_loss and not loaded.made_up:  # a law that breaks on what we made up says nothing of the user's
            with as_if_without_gpu():
                replay_laws(model, request, result)
        if model is not None and (offer := model.wiring.batch.offer):
            result.notes.append(offer)
        if model is not None and model.perturbation is not None:
            result.notes += model.perturbation.report.said
        note_gaps(model, request, result)
        result.timing["rules_s"] = round(time.perf_counter() - started - sum(result.timing.values()), 4)
    except TargetError as error:
        fail(result, error)
        return result
    if request.trail == "only":
        result.settle()
        return result
    if not result.confirm:
        result.confirm = {"device": None, "outcome": "skipped", "reason": "--device none" if request.device == "none" else "not run yet"}
    result.settle()
    emit({"kind": "static", "result": as_said(result).to_json()})
    if request.fixes and model is not None:
        from vaelint.repair.propose import proposals

        emit({"kind": "proposals", "proposals": proposals(model, repairs)})
    if request.device != "none" and model is not None:
        from vaelint.confirm.run import confirm

        emit({"kind": "stage", "stage": "confirm"})
        before = time.perf_counter()
        trial = confirm(model, claims, request, result)
        result.timing["confirm_s"] = round(time.perf_counter() - before, 4)
        if trial is not None and model.has_loss and not loaded.made_up:
            before = time.perf_counter()
            observe_laws(trial, request, result)
            result.timing["laws_s"] = round(time.perf_counter() - before, 4)
        note_no_run(request, result)
        result.settle()
    return result


def prepare(request: Request, result: TargetResult, given: FromPython | None = None) -> tuple[Loaded, InputSet, Tracer, Any, list[str]]:
    """From texts to a way of building and calling the model."""
    inputs = _batch_as_b(InputSet.from_texts(request.inputs))
    started = time.perf_counter()
    loaded = given.load(request) if given is not None else load_target(parse_target(request.target), request)
    result.timing["load_s"] = round(time.perf_counter() - started, 4)  # what the module imports: not ours
    try:
        return loaded, inputs, *_made_ready(request, loaded, inputs, given)
    finally:
        result.notes += loaded.notes  # where it fails, they say what led there


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


def _run(loaded: Loaded, tracer: Tracer, step: Any, result: TargetResult) -> Record:
    """The step recorded; with other values for arguments that nobody gave, if it fails for those chosen first."""
    record = tracer.run(step)
    if record.failure is not None and loaded.choice is not None and not isinstance(record.failure.error, TargetError | NameError):
        return another_choice(loaded, tracer, step, record, result)
    return record


def trace_step(
    request: Request, result: TargetResult, loaded: Loaded, inputs: InputSet, tracer: Tracer, step: Any, names: list[str], emit: Emit
) -> Model | None:
    """Records the step (finding the loss first if it was not told), lifts it to symbols, and finds its anatomy."""
    source = Source(os.getcwd())
    record = _run(loaded, tracer, step, result)
    if record.failure is not None and request.step is None and not isinstance(record.failure.error, TargetError | RuntimeError):
        step, record = _without_forward(loaded, inputs, tracer, step, names, record, result)
    if record.failure is None and request.step is None and not step.has_loss:
        search = LossSearch(request, loaded, inputs, tracer, step, names, record, source)
        step, record = search.extend(result, lambda other: _run(loaded, tracer, other, result))
    result.symbols = dict(inputs.symbols)
    if record.failure is not None or holds_placeholder(record.raw_output):
        _raise_if_not_the_models(record)
    if record.failure is not None:
        failure_findings(record, tracer, inputs, step, source, result, loaded.span)
        if request.fixes:
            from vaelint.repair.propose import proposals_for_failure

            emit({"kind": "proposals", "proposals": proposals_for_failure(record, source, result.findings)})
        if request.trail:
            from vaelint.diagnose.failure import lifted_failure

            partial = analyse(lifted_failure(record, tracer, inputs, step), tracer, inputs, step, source, None)
            result.trail, result.symbols = _trail(partial), dict(partial.symbols)
        return None
    other, record = _lifted(record, tracer, inputs, step)
    if record.reads:
        from vaelint.trace.host import link_host_values

        link_host_values(record, tracer, step)
    result.rung = record.rung
    model = analyse(record, tracer, inputs, step, source, other)
    if request.step is None and request.loss is None and (instead := settled(model, step)) is not None:
        model = _settled(model, instead, tracer, inputs, source, result) or model
        step, record = model.step, model.record
    if request.perturb:
        from vaelint.perturb.culprits import Perturbation

        model.perturbation = Perturbation(loaded, loaded.arguments, tracer, inputs, step)
    result.symbols = dict(model.symbols)
    result.anatomy, result.loss = describe_anatomy(model), describe_loss(model)
    if request.trail:
        result.trail = _trail(model)
    if request.fits:
        from vaelint.diagnose.fits import which_fit

        result.fits = [f.to_json() for f in which_fit(tracer, step, inputs, inputs.symbols)]
    if unread := step.unread(names):
        result.notes.append(f"the step uses no {' and no '.join(unread)}, which is given: {step.code}")
    if tracer.real_because:
        result.notes.append(f"traced on real tensors: {tracer.real_because}")
    return model


def _settled(model: Model, step: Any, tracer: Tracer, inputs: InputSet, source: Source, result: TargetResult) -> Model | None:
    """The anatomy of a step that takes the loss in another way; None where it does not run."""
    record = tracer.run(step)
    if record.failure is not None:
        return None
    other, record = _lifted(record, tracer, inputs, step)
    result.notes = [f"the loss was found: {step.code}" if n == f"the loss was found: {model.step.code}" else n for n in result.notes]
    result.notes += [n for n in step.notes if n not in result.notes]
    return analyse(record, tracer, inputs, step, source, other)


def _raise_if_not_the_models(record: Record) -> None:
    """A package that is not installed, or a step that leaves no loss: raises the TargetError that says so."""
    error = record.failure.error if record.failure is not None else None
    if (missing := needed()) is not None:
        raise missing from error
    if isinstance(error, TargetError):
        raise error


def _without_forward(
    loaded: Loaded, inputs: InputSet, tracer: Tracer, step: Any, names: Sequence[str], record: Record, result: TargetResult
) -> tuple[Any, Record]:
    """The model's own loss in the place of a `forward` that raises, if it has one that runs without; else what there was."""
    assert record.failure is not None
    own = own_loss_step(loaded, record.model, inputs, f"forward raises {one_line(record.failure.error)}")
    if own is None or list(own[1]) != list(names):
        return step, record
    other = tracer.run(own[0])
    if other.failure is not None:
        return step, record
    result.notes += own[0].notes
    return own[0], other


def _found_again(model: Model, codes: frozenset[str], rules: Sequence[Rule], loaded: Loaded) -> list[Finding] | None:
    """What some rules find with the constructor arguments as they are now; None where the step does not run with them."""
    tracer, step, inputs = model.tracer, model.step, model.inputs
    try:
        record = tracer.run(step)
        if record.failure is not None:
            return None
        other, record = _lifted(record, tracer, inputs, step)
    except TargetError:
        return None
    scratch = TargetResult("")
    run_rules([r for r in rules if r.code in codes], analyse(record, tracer, inputs, step, model.source, other), loaded.span, scratch)
    return scratch.findings


def _trail(model: Model) -> dict[str, Any]:
    from vaelint.trail.trail import make_trail  # only where it was asked for

    return make_trail(model)


def _lifted(record: Any, tracer: Tracer, inputs: InputSet, step: Any) -> tuple[Any, Any]:
    """A second run at another batch size, laid beside the first; `concrete` when only one size runs or the runs differ."""
    batch = inputs.batch
    if batch is None:
        return None, record
    size = inputs.symbols[batch]
    another = another_size(size, set(inputs.symbols.values()))
    variants = [{batch: another}]
    twins = [s for s, v in inputs.symbols.items() if v == size and s != batch]
    if twins:
        variants.append({batch: another, **dict.fromkeys(twins, another)})
    other = None
    for sizes in variants:
        attempt = tracer.run(step, sizes)
        other = other or attempt
        if attempt.failure is None:
            other = attempt
            if tracer.real_because and record.rung != "real":
                record = tracer.run(step)
            if lift(record, attempt, batch):
                record.rung = "symbolic" if record.rung == "concrete" else record.rung
                record.joined = tuple(s for s in sizes if s != batch)
            else:
                lift_ends(record, attempt, batch)
            break
    return other, record


def another_size(size: int, taken: set[int]) -> int:
    """A batch size that no other size has: the next prime that is free."""
    n = size + 1
    while n in taken or any(n % k == 0 for k in range(2, int(n**0.5) + 1)):
        n += 1
    return n
