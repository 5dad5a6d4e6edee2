"""The step of a target, recorded and lifted to symbols, with its anatomy."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from vaelint.anatomy.analyse import analyse
from vaelint.anatomy.loss.describe import describe_anatomy, describe_loss
from vaelint.anatomy.model import Model
from vaelint.core.assumption import SIZES
from vaelint.core.errors import TargetError
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.loading.build import Loaded
from vaelint.loading.guessed import another_choice
from vaelint.loading.placeholder import holds_placeholder, needed
from vaelint.pipeline.anatomy_of import anatomy_of
from vaelint.pipeline.loss_search import LossSearch
from vaelint.pipeline.maximised import settled
from vaelint.pipeline.prepare import Prepared
from vaelint.pipeline.pyro_pairs import found_in, raise_if_no_pair
from vaelint.pipeline.run_rules import failure_findings
from vaelint.record.record import Failure, Record
from vaelint.replay.ranges import wants_unit
from vaelint.rule_packages import load_rules
from vaelint.source.blame import one_line
from vaelint.source.written import Source
from vaelint.step.step import own_loss_step
from vaelint.trace.ladder import Tracer
from vaelint.trace.lift import lift, lift_ends

Emit = Callable[[dict[str, Any]], None]


def trace_step(request: Request, result: TargetResult, prepared: Prepared, emit: Emit) -> Model | None:
    """Records the step (finding the loss first if none was given), lifts it to symbols, and finds its anatomy; None where it raises."""
    _, inputs, tracer, _, names = prepared
    source = Source(os.getcwd())
    step, record = _recorded(request, result, prepared, source)
    result.symbols = dict(inputs.symbols)
    raise_if_no_pair(record, request)
    if record.failure is not None or holds_placeholder(record.raw_output):
        _raise_if_not_the_models(record)
    result.findings += found_in(record.sites, request)
    if record.failure is not None and (request.guessed or (SIZES in request.ours and not isinstance(record.failure.error, TargetError))):
        raise _not_called(request, record.failure)
    if record.failure is not None:
        _report_failure(request, result, record, prepared, step, source, emit)
        return None
    other, record = lifted(record, tracer, inputs, step)
    if record.reads:
        from vaelint.trace.host import link_host_values

        link_host_values(record, tracer, step)
    result.rung = record.rung
    model = anatomy_of(record, tracer, inputs, step, source, other)
    if request.step is None and request.loss is None and (instead := settled(model, step)) is not None:
        model = _settled(model, instead, tracer, inputs, source, result) or model
    _describe(request, result, model, prepared)
    if unread := model.step.unread(names):
        result.notes.append(f"the step uses no {' and no '.join(unread)}, which is given: {model.step.code}")
    if tracer.real_because:
        result.notes.append(f"traced on real tensors: {tracer.real_because}")
    return model


def _not_called(request: Request, failure: Failure) -> TargetError:
    """That no way to call a model was found: what the one that came furthest raises, and what would tell a better one."""
    place = failure.spans[0] if failure.spans else None
    where = f" at {place.file}:{place.line}" if place is not None else ""
    text = f"with --input {' --input '.join(request.inputs)}, which vaelint made up, it raises {one_line(failure.error)}{where}"
    told = f"say what your data are: vaelint check {request.target} --input BxCxHxW, with your numbers"
    return TargetError("VAE003", text, f"{told}; or observe your training: vaelint run train.py", place)


def _recorded(request: Request, result: TargetResult, prepared: Prepared, source: Source) -> tuple[Any, Record]:
    """A step and its run: the one given, the model's own loss where `forward` raises, else extended by the loss that is found."""
    loaded, inputs, tracer, step, names = prepared
    record = _run(prepared, step, result)
    if request.step is not None:
        return step, record
    if record.failure is not None and not isinstance(record.failure.error, TargetError | RuntimeError):
        step, record = _without_forward(loaded, inputs, tracer, step, names, record, result)
    if record.failure is None and not step.has_loss:
        search = LossSearch(request, loaded, inputs, tracer, step, names, record, source)
        step, record = search.extend(result, lambda other: _run(prepared, other, result))
    return step, record


def _report_failure(
    request: Request, result: TargetResult, record: Record, prepared: Prepared, step: Any, source: Source, emit: Emit
) -> None:
    """What is said of a step that raises: findings, repairs where they were asked for, and the trail up to there."""
    loaded, inputs, tracer, _, _ = prepared
    load_rules()  # whose words it is said in
    failure_findings(record, tracer, inputs, step, source, result, loaded.span)
    if request.fixes:
        from vaelint.repair.propose import proposals_for_failure

        emit({"kind": "proposals", "proposals": proposals_for_failure(record, source, result.findings)})
    if request.trail:
        from vaelint.diagnose.failure import lifted_failure

        partial = analyse(lifted_failure(record, tracer, inputs, step), tracer, inputs, step, source, None)
        result.trail, result.symbols = _trail(partial), dict(partial.symbols)


def _describe(request: Request, result: TargetResult, model: Model, prepared: Prepared) -> None:
    """Writes into the result what the model is, with what else the request asks for."""
    loaded, inputs, tracer, _, _ = prepared
    if request.perturb:
        from vaelint.perturb.culprits import Perturbation

        model.perturbation = Perturbation(loaded, loaded.arguments, tracer, inputs, model.step)
    result.symbols = dict(model.symbols)
    result.anatomy, result.loss = describe_anatomy(model), describe_loss(model)
    if request.trail:
        result.trail = _trail(model)
    if request.fits:
        from vaelint.diagnose.fits import which_fit

        result.fits = [f.to_json() for f in which_fit(tracer, model.step, inputs, inputs.symbols)]


def _run(prepared: Prepared, step: Any, result: TargetResult) -> Record:
    """The step recorded; with other values for arguments that nobody gave, if it fails for those chosen first."""
    loaded, _, tracer, _, _ = prepared
    record = _in_range(prepared, step, tracer.run(step), result)
    if record.failure is not None and loaded.choice is not None and not isinstance(record.failure.error, TargetError | NameError):
        return another_choice(loaded, tracer, step, record, result)
    return record


def _in_range(prepared: Prepared, step: Any, record: Record, result: TargetResult) -> Record:
    """The record; one with values in [0, 1] for the inputs of which no range was given, where the loss takes no others."""
    _, inputs, tracer, _, names = prepared
    if record.failure is None or record.rung != "real" or tracer.in_unit or not wants_unit(record.failure.error):
        return record
    tracer.in_unit = frozenset(
        name
        for name, spec in zip(names, inputs.specs, strict=False)
        if not spec.is_integer and spec.values is None and spec.low is None and spec.high is None
    )
    again = tracer.run(step) if tracer.in_unit else record
    if again.failure is None or not wants_unit(again.failure.error):  # what is the matter besides is the code's own
        result.notes.append("inputs without a declared range were drawn from [0, 1], as the loss wants")
        return again
    tracer.in_unit = frozenset()
    return record


def _settled(model: Model, step: Any, tracer: Tracer, inputs: InputSet, source: Source, result: TargetResult) -> Model | None:
    """The anatomy of a step that takes the loss in another way; None where it does not run."""
    record = tracer.run(step)
    if record.failure is not None:
        return None
    other, record = lifted(record, tracer, inputs, step)
    result.notes = [f"the loss was found: {step.code}" if n == f"the loss was found: {model.step.code}" else n for n in result.notes]
    result.notes += [n for n in step.notes if n not in result.notes]
    return anatomy_of(record, tracer, inputs, step, source, other)


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


def _trail(model: Model) -> dict[str, Any]:
    from vaelint.trail.trail import make_trail  # only where it was asked for

    return make_trail(model)


def lifted(record: Record, tracer: Tracer, inputs: InputSet, step: Any) -> tuple[Record | None, Record]:
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
