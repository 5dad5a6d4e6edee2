"""The pipeline, in reading order: target -> trace -> anatomy -> rules -> confirm. Runs in the worker, or in-process for the API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vaelint.anatomy.loss.describe import describe_loss
from vaelint.anatomy.model import Model
from vaelint.core.errors import TargetError
from vaelint.core.finding import Finding
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import SETUP, fail
from vaelint.core.sign import Found, sign
from vaelint.core.strength import as_said
from vaelint.experiment.trial import Trial
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.observe import observe_laws, replay_laws
from vaelint.loading.build import Loaded
from vaelint.observe.held.held_back import writes_held_back
from vaelint.pipeline.anatomy_of import anatomy_of
from vaelint.pipeline.assumptions import assumptions_of, settle_values, unsettle_beta, withhold
from vaelint.pipeline.gaps import note_gaps, note_no_run
from vaelint.pipeline.keras_words import in_words_of
from vaelint.pipeline.meant_for import quiet_on_the_cpu
from vaelint.pipeline.no_density import unsettle_likelihood
from vaelint.pipeline.not_observed import say_unseen
from vaelint.pipeline.other_sizes import at_sizes_that_fit
from vaelint.pipeline.over_time.full_weight import at_full_weight
from vaelint.pipeline.prepare import FromPython, prepare
from vaelint.pipeline.run_rules import run_rules
from vaelint.pipeline.trace_step import Emit, lifted, trace_step
from vaelint.pipeline.watched_run import check_watched
from vaelint.rule import Rule
from vaelint.rule_packages import load_rules
from vaelint.source.target import parse_target
from vaelint.trace.standin import as_if_without_gpu


def check_target(request: Request, emit: Emit) -> TargetResult:
    """Checks one target, in a process of its own. What user code does wrong comes back as findings; nothing is written to its folders.

    `emit` gets the static result before the real pass.
    """
    if request.run:
        return check_watched(request, emit)
    with writes_held_back(parse_target(request.target).path) as held:
        result = check_here(request, emit)
    result.notes += held.said
    say_unseen(request, result)
    return result


def check_here(request: Request, emit: Emit, given: FromPython | None = None) -> TargetResult:
    """Checks one target that is built, in the caller's process."""
    result = _checked(request, emit, given)
    return as_said(at_sizes_that_fit(request, result, lambda other: _checked(other, lambda message: None, given)))


def _of_symbols(request: Request, loaded: Loaded) -> list[Finding]:
    """A Keras loss that needs more than training gives it."""
    symbolic = loaded.symbolic
    if symbolic is None or symbolic.added or not request.wants("VAE010"):
        return []
    read = " and ".join(symbolic.names) if len(symbolic.names) < 3 else f"{', '.join(symbolic.names[:-1])} and {symbolic.names[-1]}"
    are = "is" if len(symbolic.names) == 1 else "are"
    label = f"{read} {are} given by nothing" if symbolic.as_arguments else f"{read} {are} symbolic: no values of a batch"
    why = "fit calls the loss with the targets and the outputs of a batch, and nothing else"
    help = "add the KL where its tensors have values: self.add_loss(kl) in the call of the layer that draws z, or in compute_loss"
    found = Found(symbolic.place, label, why=why, help=help, notes=(f"the rest of the analysis gives it the values of {read}",))
    return [sign(SETUP["VAE010"], found, symbolic.place, label)]


def _checked(request: Request, emit: Emit, given: FromPython | None) -> TargetResult:
    """The result with the severities of the rules, whatever was measured."""
    result = TargetResult(request.target)
    try:
        loaded, model = _traced(request, result, emit, given)
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

        emit({"kind": "proposals", "proposals": proposals(model, result.findings)})
    if request.device != "none" and model is not None:
        trial = _measure(request, result, model, emit, with_laws=model.has_loss and not loaded.made_up)
        if trial is not None and model.has_loss and not loaded.made_up and request.laws == "all":
            _later(request, result, trial, loaded)
        result.findings[:] = in_words_of(loaded.namespace, result.findings)
    return result


def _traced(request: Request, result: TargetResult, emit: Emit, given: FromPython | None) -> tuple[Loaded, Model | None]:
    """All that needs no real run: the target, its model (None where its step raises), and what rules find.

    Raises:
        TargetError: it cannot be loaded, built or called.
    """
    started = time.perf_counter()
    rules = [r for r in load_rules() if request.wants(r.code)] if request.trail != "only" else []
    emit({"kind": "stage", "stage": "load"})
    prepared = prepare(request, result, given)
    emit({"kind": "stage", "stage": "trace"})
    with as_if_without_gpu():
        model = trace_step(request, result, prepared, emit)
    result.timing["trace_s"] = round(time.perf_counter() - started - result.timing["load_s"], 4)
    emit({"kind": "stage", "stage": "rules"})
    result.findings += _of_symbols(request, prepared.loaded)
    if model is not None:
        _judged(request, result, model, prepared.loaded, rules)
        result.findings[:] = in_words_of(prepared.loaded.namespace, result.findings)
    note_gaps(model, request, result)
    result.timing["rules_s"] = round(time.perf_counter() - started - sum(result.timing.values()), 4)
    return prepared.loaded, model


def _judged(request: Request, result: TargetResult, model: Model, loaded: Loaded, rules: list[Rule]) -> None:
    """What rules find, and the laws that need no real run."""
    with as_if_without_gpu():
        run_rules(rules, model, loaded.span, result)
        result.assumptions = assumptions_of(loaded, model.step, request, model.inputs)
        if request.trail != "only":
            unsettle_beta(model.step, result, lambda step: _beta_again(model, step))
        withhold(loaded, model, result, lambda step, codes: _found_again(model, step, codes, rules, loaded))
        quiet_on_the_cpu(request, result, model, loaded)
    if any(f.repair is not None and f.repair.sure for f in result.findings):
        from vaelint.repair.propose import with_sure_fixes

        result.findings[:] = with_sure_fixes(model, result.findings)
    if not (model.has_loss or model.variational):
        result.status = "failed"
        result.notes.append("nothing is drawn and no loss is known: there was nothing to check")
    if model.has_loss and not loaded.made_up:  # a law that breaks on what we made up says nothing of the user's
        with as_if_without_gpu():
            replay_laws(model, request, result)
    unsettle_likelihood(result)
    if offer := batch_of(model).offer or model.inputs.second_axis_note:
        result.notes.append(offer)
    if model.perturbation is not None:
        result.notes += model.perturbation.report.said


def _later(request: Request, result: TargetResult, trial: Trial, loaded: Loaded) -> None:
    """The same where the weight of a KL has risen that is 0 at this step."""

    def judge(scratch: TargetResult, later: Model) -> None:
        _judged(request, scratch, later, loaded, [r for r in load_rules() if request.wants(r.code)])
        _measure(request, scratch, later, lambda message: None, with_laws=True)

    def again() -> Model | None:
        with as_if_without_gpu():
            return _again(trial.model, trial.model.step)

    before = time.perf_counter()
    at_full_weight(request, result, trial, again, judge)
    result.timing["later_s"] = round(time.perf_counter() - before, 4)
    result.settle()


def _measure(request: Request, result: TargetResult, model: Model, emit: Emit, *, with_laws: bool) -> Trial | None:
    """The real run: each claim is tried, then each law. What was run, where it could be."""
    from vaelint.confirm.run import confirm

    emit({"kind": "stage", "stage": "confirm"})
    before = time.perf_counter()
    trial = confirm(model, request, result)
    result.timing["confirm_s"] = round(time.perf_counter() - before, 4)
    if trial is not None and with_laws:
        before = time.perf_counter()
        observe_laws(trial, request, result)
        result.timing["laws_s"] = round(time.perf_counter() - before, 4)
    note_no_run(request, result)
    settle_values(result)
    result.settle()
    return trial


def _found_again(model: Model, step: Any, codes: frozenset[str], rules: Sequence[Rule], loaded: Loaded) -> list[Finding] | None:
    """What some rules find with a step, and with the constructor arguments as they are now; None where it does not run with them."""
    other = _again(model, step)
    if other is None:
        return None
    scratch = TargetResult("")
    run_rules([r for r in rules if r.code in codes], other, loaded.span, scratch)
    return scratch.findings


def _beta_again(model: Model, step: Any) -> float | None:
    """The effective beta with another step; None where it does not run, or is not known there."""
    other = _again(model, step)
    beta = describe_loss(other)["beta"] if other is not None else None
    return float(beta["value"]) if beta is not None else None


def _again(model: Model, step: Any) -> Model | None:
    """The anatomy of a step, with the constructor arguments as they are now; None where it does not run."""
    tracer, inputs = model.tracer, model.inputs
    try:
        record = tracer.run(step)
        if record.failure is not None:
            return None
        other, record = lifted(record, tracer, inputs, step)
    except TargetError:
        return None
    return anatomy_of(record, tracer, inputs, step, model.source, other)
