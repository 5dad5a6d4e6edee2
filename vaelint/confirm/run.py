"""The real pass: forward, loss, backward on real tensors; then each claim is measured, and findings become confirmed or refuted."""

from __future__ import annotations

import time
from typing import Any

import torch

from vaelint.anatomy.model import Model
from vaelint.confirm.budget import Estimate, estimate, few_threads, plan
from vaelint.confirm.finite import source_of_non_finite
from vaelint.confirm.kernels import blocking_launches, steady_kernels
from vaelint.confirm.ratio import FAR, all_finite, gradient_ratio
from vaelint.confirm.stepping import optimizer_step
from vaelint.confirm.words import answers, in_words
from vaelint.core.errors import TargetError
from vaelint.core.finding import Certainty, Evidence, Finding, Outcome, Severity, Span
from vaelint.core.memory import ran_out
from vaelint.core.messages import message_of
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import SETUP
from vaelint.core.sign import Found, sign
from vaelint.core.strength import weighed
from vaelint.experiment.power import put_to
from vaelint.experiment.runs import Runner
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, experiment_of
from vaelint.faults.batch import batch_experiments  # noqa: F401  registers
from vaelint.faults.batch.batch_experiments import first_line
from vaelint.faults.bounds import (
    bound_experiments,  # noqa: F401  registers
    mixture_experiments,  # noqa: F401  registers
)
from vaelint.faults.devices import device_experiments  # noqa: F401  registers
from vaelint.faults.gradients import gradient_experiments  # noqa: F401  registers
from vaelint.faults.kl import divergence_experiments  # noqa: F401  registers
from vaelint.faults.likelihood import (
    class_experiments,  # noqa: F401  registers
    comparison_experiments,  # noqa: F401  registers
    density_experiments,  # noqa: F401  registers
)
from vaelint.faults.numerics import value_experiments  # noqa: F401  registers
from vaelint.faults.sampling import noise_experiments  # noqa: F401  registers
from vaelint.faults.schedule import state_experiments  # noqa: F401  registers
from vaelint.faults.shapes import annotation_experiments  # noqa: F401  registers
from vaelint.observe.limits import TimeIsUpError, stopped_after
from vaelint.record.record import Failure, Record, span
from vaelint.replay.ranges import wants_unit, without_range
from vaelint.replay.replay import ReplayError
from vaelint.rule import Claim, Rule, declared_as
from vaelint.trace import torch_private

_TIME_SHARE = 0.3  # of the time that is left, for the first run; the rest is for second runs
_FEW = 4  # rows of a batch, where a whole one takes longer


def confirm(model: Model, request: Request, result: TargetResult) -> Trial | None:
    """Runs the step for real and measures the claim of every finding. Never raises for what user code or torch does: that is a result too.

    The run, for whoever has more to ask of it; None where there was none, or where the step raised.
    """
    with blocking_launches(request.device):  # before the driver is asked what there is
        device, why_not = choose_device(request.device)
        if device is None:
            result.confirm = {"device": None, "outcome": "skipped", "reason": why_not, "torch": torch.__version__}
            return None
        return _confirm_on(device, why_not, model, request, result)


def _confirm_on(device: str, note: str, model: Model, request: Request, result: TargetResult) -> Trial | None:
    """`confirm` on a device that is there."""
    spent = sum(result.timing.values())
    need = estimate(model.record)
    with few_threads(need), steady_kernels(device):
        trial = _first_run(model, need, device, max(5.0, request.timeout - spent), result, note)
        if trial is None:
            return None
        _backward(trial, result)
        before = time.perf_counter()
        for index, finding in enumerate(list(result.findings)):
            if finding.claim is not None:
                after = _measured(trial, finding, finding.claim, result)
                if not answers(device):
                    again = f"repeated on the CPU, as an experiment ended in an assertion on {device}"
                    return _confirm_on("cpu", again, model, request, result)
                result.findings[index] = after
        _non_finite(trial, result)
        stepped = optimizer_step(trial) if trial.record.failure is None and model.has_loss else None
        if stepped is not None:
            result.confirm["optimizer"] = stepped
        result.timing["experiments_s"] = round(time.perf_counter() - before, 4)
        return trial if trial.record.failure is None else None


def choose_device(asked: str) -> tuple[str | None, str]:
    """The device to run on, or None and why there is none."""
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu", ""
    asked = "cuda:0" if asked == "auto" else asked
    if not torch.cuda.is_available():
        return None, f"--device {asked}: torch finds no CUDA device here"
    index = asked.partition(":")[2] or "0"
    if not index.isdigit() or int(index) >= torch.cuda.device_count():
        return None, f"--device {asked}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
    device = f"cuda:{index}"
    return (device, "") if answers(device) else ("cpu", f"on the CPU: after an assertion in a kernel {device} answers this process no more")


def _first_run(
    model: Model, need: Estimate, device: str, seconds: float, result: TargetResult, note: str = "", elsewhere: Failure | None = None
) -> Trial | None:
    """Runs the step at the user's sizes, or at a batch that fits; fills `result.confirm`."""
    symbol = model.inputs.batch
    batch = model.record.sizes.get(symbol, 1) if symbol is not None else 1
    facts: dict[str, Any] = {
        "device": device, "outcome": "ran", "reason": note or None, "batch": batch, "parameters": need.parameters,
        "estimated_memory_bytes": need.memory, "estimated_activation_bytes": need.activations, "estimated_flops": need.flops,
        "torch": torch.__version__,
    }  # fmt: skip
    if need.uncounted:
        facts["uncounted"] = list(need.uncounted)
    result.confirm = facts
    planned = plan(need, batch, device, _TIME_SHARE * seconds)
    if planned.batch is None:
        facts.update(outcome="skipped", reason=planned.reason)
        return None
    if planned.reason:
        facts.update(batch=planned.batch, reason=planned.reason)
    sizes = {symbol: planned.batch} if symbol is not None and planned.batch != batch else None
    runner = Runner(model.tracer, model.step, device, sizes, seconds)
    runner.until = model.record.objectives[0] if model.record.objectives else None
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        runner.held = int(torch.cuda.memory_allocated(device))
    started, free = time.perf_counter(), without_range(model)
    record, error = _attempt_in_time(runner, free, facts, symbol, _TIME_SHARE * seconds)
    result.timing["forward_s"] = round(time.perf_counter() - started, 4)
    if error is None and record is not None:
        return Trial(model, record, runner, elsewhere)
    assert error is not None
    failure = record.failure if record is not None else None
    text = in_words(error, device, need.memory) + (
        f" at {failure.spans[0].file}:{failure.spans[0].line}" if failure is not None and failure.spans else ""
    )
    if ran_out(error):
        facts.update(outcome="out of memory", reason=text)
        return None
    if device != "cpu":
        return _first_run(model, need, "cpu", seconds, result, f"repeated on the CPU, as on {device} it raises {text}", failure)
    facts.update(outcome="raised", reason="; ".join(filter(None, [text, note])))
    _note_raised(model, failure, error, result, bool(free))
    return Trial(model, record, runner, elsewhere) if record is not None else None


def _attempt_in_time(
    runner: Runner, free: frozenset[str], facts: dict[str, Any], symbol: str | None, seconds: float
) -> tuple[Record | None, BaseException | None]:
    """A run; with a few rows, which is noted in `facts`, where one of the whole batch is not done in `seconds`."""
    batch = facts["batch"]
    if symbol is None or batch <= _FEW:
        return _attempt_in_range(runner, free, facts)
    try:
        with stopped_after(seconds):
            record, error = _attempt_in_range(runner, free, facts)
    except TimeIsUpError as stopped:
        record, error = None, stopped
    if not isinstance(error, TimeIsUpError):
        return record, error
    runner.sizes[symbol] = _FEW
    facts.update(batch=_FEW, reason=f"B={_FEW} instead of {batch}: the step was not done within {seconds:.0f} s")
    return _attempt_in_range(runner, free, facts)


def _attempt_in_range(runner: Runner, free: frozenset[str], facts: dict[str, Any]) -> tuple[Record | None, BaseException | None]:
    """A run; with the inputs of `free` drawn from [0, 1], which is noted in `facts`, where that is what the loss asks for."""
    record, error = _attempt(runner)
    if error is None or not free or not wants_unit(error):
        return record, error
    runner.squeezed = free
    again, second = _attempt(runner)
    if second is not None:
        return record, error
    facts["inputs"] = "inputs without a declared range were drawn from [0, 1], as the loss wants"
    return again, None


_OF_VALUES = ("between 0 and 1", "out of range", "out of bounds", "must be", "negative", "expected value")


def _note_raised(model: Model, failure: Failure | None, error: BaseException, result: TargetResult, invented: bool) -> None:
    """A finding of the real pass itself: the step raises on real tensors, and no other finding speaks of that line.

    Only a remark where the values are to blame and were not declared: they are ours then.
    """
    rule = declared_as(SETUP["VAE007"].name)
    place = failure.spans[0] if failure is not None and failure.spans else None
    if rule is None or place is None or _told(result, place.file, place.line):
        return
    if torch_private.tells_of_change(error) and any(f.code == "VAE506" for f in result.findings):
        return  # which says at what line, where `backward()` says only that it was
    ours = invented and (isinstance(error, ValueError | IndexError | AssertionError) or any(w in message_of(error) for w in _OF_VALUES))
    text = first_line(error)
    found = Found(
        place,
        label=text[:160],
        why="tensors without values do not refuse it, torch's kernels do: the step does not run",
        notes=("the input has no declared range, and was drawn from a normal distribution",) if ours else (),
        help="declare the range of the input: --input 32x784:float32[0,1]" if ours else "",
        severity=Severity.INFO if ours else None,
    )
    evidence = Evidence("the step on real tensors", "it runs", f"it raises {text}"[:200], str(result.confirm["device"]))
    _add(result, model, rule, found, place, evidence)


def _attempt(runner: Runner) -> tuple[Record | None, BaseException | None]:
    """A run, and what it raised: in the step, or before it could be recorded (the constructor, the move to the device)."""
    try:
        record = runner.run()
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return None, error
    return record, record.failure.error if record.failure is not None else None


def _backward(trial: Trial, result: TargetResult) -> None:
    """The gradient of the loss in every parameter; what it costs and whether it is finite."""
    facts = result.confirm
    if not isinstance(trial.record.loss_value, torch.Tensor) or trial.record.failure is not None:
        return
    started = time.perf_counter()
    trained = {n: p for n, p in trial.record.model.named_parameters() if p.requires_grad}
    try:
        loss = trial.loss.detach()
        facts["loss"] = float(f"{float(loss.double().mean()):.6g}")
        facts["finite"] = bool(loss.isfinite().all())
        found = trial.gradient(trial.loss, list(trained.values()))
        grads = [g for g in found if g is not None]
    except CannotMeasureError as error:
        facts.update(outcome="raised", reason=message_of(error))
        if not any(f.code.startswith("VAE50") for f in result.findings):  # the rules on gradients say why
            place = span(trial.loss_node)
            _note_raised(trial.model, Failure(error, (place,) if place is not None else ()), error, result, False)
        return
    except Exception as error:  # noqa: BLE001  memory, or a kernel's assertion: the outcome says which
        words = in_words(error, trial.device, int(facts["estimated_memory_bytes"]))
        facts.update(outcome="out of memory" if ran_out(error) else "raised", reason=f"in the backward pass: {words}")
        return
    facts["grad_finite"] = all_finite(grads)
    facts["parameters_with_gradient"] = sum(g.numel() for g in grads)
    ratio = gradient_ratio(trial, dict(zip(trained, found, strict=True))) if facts["grad_finite"] else None
    if ratio is not None:
        facts["gradient_ratio"] = float(f"{ratio:.3g}")
        _note_ratio(trial, ratio, result)
    result.timing["backward_s"] = round(time.perf_counter() - started, 4)
    if trial.device.startswith("cuda"):
        torch.cuda.synchronize(trial.device)
        facts["peak_memory_bytes"] = int(torch.cuda.max_memory_allocated(trial.device)) - trial.runner.held


def _rescales(trial: Trial) -> bool:
    """Whether the script's own optimizers were seen, and all divide a gradient by its size."""
    seen = [type(o.made).__mro__ for o in trial.model.record.optimizers if o.made is not None]
    return bool(seen) and all(any(kind.__name__ in _ADAPTIVE for kind in kinds) for kinds in seen)


_ADAPTIVE = frozenset({"Adam", "AdamW", "RMSprop", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "Adafactor"})


def _note_ratio(trial: Trial, ratio: float, result: TargetResult) -> None:
    """A finding of the real pass itself: the encoder's gradient vanished or exploded on its way."""
    rule = declared_as("gradient-ratio")
    place = span(trial.model.sites[0].z) if trial.model.sites else None
    if rule is None or rule.code not in result.quiet or place is None or 1 / FAR < ratio < FAR:
        return
    if _rescales(trial) and 1 / FAR**2 < ratio < FAR**2:
        return  # Adam and its like divide each gradient by its own size
    what = "vanishes" if ratio < 1 else "explodes"
    found = Found(
        place,
        label=f"the gradient {what} between here and the input",
        why=f"it is {ratio:.2g} times the decoder's in size: no learning rate serves both",
        help="normalisation between the layers, residual connections, or an activation that does not saturate",
        facts={"ratio": float(f"{ratio:.3g}")},
    )
    evidence = Evidence("the gradient in the encoder over that in the decoder", "within a million", f"{ratio:.3g}", trial.device)
    _add(result, trial.model, rule, found, place, evidence)


def _measured(trial: Trial, finding: Finding, claim: Claim, result: TargetResult) -> Finding:
    """The finding after its claim was put to its experiment. An experiment that raises is a gap in the check, and counts as one."""
    outcome, verdict = _outcome(trial, finding, claim, result)
    known = experiment_of(type(claim))
    what = known.claim if known is not None else claim.in_words()
    return weighed(finding, Evidence(what, claim.predicted, verdict.measured, trial.device, verdict.detail, outcome))


def _outcome(trial: Trial, finding: Finding, claim: Claim, result: TargetResult) -> tuple[Outcome, Verdict]:
    known = experiment_of(type(claim))
    if known is None:
        return "could not run", Verdict(None, "not measured", "no experiment of that name")
    try:
        verdict = put_to(trial, known, claim)
        return "agrees" if verdict.holds else "disagrees", verdict
    except NoPowerError as error:
        return "no power", Verdict(None, "could not be measured", message_of(error))
    except (CannotMeasureError, TargetError, ReplayError) as error:
        return "could not run", Verdict(None, "not measured", message_of(error))
    except Exception as error:  # noqa: BLE001  torch may refuse what an experiment asks of it; what raises there measures nothing, and is said
        if not ran_out(error):
            told = f"the experiment {claim.in_words()} raised {first_line(error)}"
            result.leave_out(told, "please report it, with the model that shows it", code=finding.code)
        return "could not run", Verdict(None, "not measured", f"the experiment raised {first_line(error)}")


def _non_finite(trial: Trial, result: TargetResult) -> None:
    """A finding of the real pass itself: a loss or gradient that is not finite at initialisation, where no other finding says why."""
    rule = declared_as("non-finite")
    ran = rule is not None and (rule.code in result.quiet or any(n["code"] == rule.code for n in result.not_applicable))
    healthy = result.confirm.get("finite", True) and result.confirm.get("grad_finite", True)
    if rule is None or not ran or healthy or trial.record.failure is not None:
        return
    if (spoiled := _spoiled(trial)) and (place := span(trial.loss_node)) is not None:
        _add(result, trial.model, rule, _after_a_step(place, spoiled[0]), place, Evidence(
            "the parameters when the iteration began", "finite values", f"{len(spoiled)} parameters are not finite", trial.device
        ))  # fmt: skip
        return
    found = source_of_non_finite(trial)
    place = span(found.node) if found is not None else None
    if found is None or place is None or _told(result, place.file, place.line):
        return
    where = "the gradient of the loss" if found.backward else "the loss"
    said = Found(
        place,
        label=found.what,
        why=f"{where} is not finite at initialisation: the first step of the optimizer destroys the parameters",
        help="bound the argument (clamp, softplus, an epsilon inside the root or logarithm), or use the stable form of the function",
    )
    evidence = Evidence("the first value that is not finite while its inputs are", "finite values and gradients", found.what, trial.device)
    _add(result, trial.model, rule, said, place, evidence)


def _spoiled(trial: Trial) -> list[str]:
    """The parameters that are not finite before anything is computed: a step before the one that was recorded has made them so."""
    if not hasattr(trial.model.step, "stepped"):
        return []
    return [n for n, p in trial.record.model.named_parameters() if p.is_floating_point() and not bool(p.detach().isfinite().all())]


def _after_a_step(place: Span, name: str) -> Found:
    return Found(
        place,
        label="not finite, as the parameters are not any more",
        why=f"an earlier step of this training has made {name} infinite or NaN: its gradients were not finite, and nothing is learned from "
        "there on",
        help="torch.autograd.set_detect_anomaly(True) names the operation; bound its argument, scale the data, or limit the gradients",
    )


def _told(result: TargetResult, file: str, line: int) -> bool:
    """Whether another finding speaks of that line already."""
    places = [s for f in result.findings for s in (f.span, *(x.span for x in f.labels))]
    return any(s.file == file and s.line <= line <= (s.end_line or s.line) for s in places)


def _add(result: TargetResult, model: Model, rule: Rule, found: Found, place: Span, evidence: Evidence) -> None:
    """A finding of the real pass itself."""
    result.findings.append(sign(rule.kind, found, place, model.source.line(place)).with_certainty(Certainty.CONFIRMED, evidence))
    result.quiet[:] = [c for c in result.quiet if c != rule.code]
