"""A KL whose weight is 0 at the first step is judged as it is when the weight has risen.

Whatever is wrong with such a term moves nothing at the first step: neither rules nor laws can see it there. Where the weight is reckoned
from a counter, the step is recorded once more with the largest value that it comes to, and judged and measured as any other.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from vaelint.anatomy.loss.term_weights import Factor
from vaelint.anatomy.model import Model
from vaelint.core.finding import Certainty, Finding, Severity, Span
from vaelint.core.result import Request, TargetResult
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.source.arithmetic import NotArithmetic
from vaelint.trace.by_hand.risen import risen_to

_STEPS = tuple(range(100)) + tuple(round(1.27**k) for k in range(20, 70))
_NOT_OF_LATER = ("VAE0", "VAE402", "VAE414", "VAE415", "VAE416", "VAE430", "VAE431", "VAE436", "VAE6", "VAE7", "VAE8", "VAE9")
"""What says something of the weight itself, of the device, of numbers at the edge, or of how the step is trained."""

_OF_THE_ELBO = ("VAE401", "VAE403", "VAE404", "VAE405", "VAE406")
"""What holds for a KL in full: not where the weight comes to rest at a beta of somebody's choice."""


@dataclass(frozen=True)
class _Risen:
    """A weight, and what it comes to: 1 where that is not known."""

    name: str
    value: float
    is_known: bool


def at_full_weight(
    request: Request,
    result: TargetResult,
    trial: Trial,
    again: Callable[[], Model | None],
    judge: Callable[[TargetResult, Model], None],
) -> None:
    """Adds what is found where the weights of KLs have risen, and is not found where they are 0."""
    model = trial.model
    try:
        places = dict(_rising(Bench(model, trial)))
    except CannotMeasureError:
        return
    if not places:
        return
    scratch = TargetResult(result.target)
    with risen_to(model.tracer.spans, {place: risen.value for place, risen in places.items()}):
        later = again()
        if later is None or not later.has_loss:
            return
        judge(scratch, later)
    risen = next(iter(places.values()))
    known = {(f.code, f.span.file, f.span.line) for f in result.findings} | {(f.code, "", 0) for f in result.findings if _counts(f)}
    is_whole = all(r.is_known and math.isclose(r.value, 1.0, rel_tol=1e-6) for r in places.values())
    for finding in scratch.findings:
        if not _counts(finding) or finding.code.startswith(_NOT_OF_LATER) or (finding.code in _OF_THE_ELBO and not is_whole):
            continue
        if (finding.code, "", 0) in known or (finding.code, finding.span.file, finding.span.line) in known:
            continue
        when = f"{risen.name} has risen" + (f" to {risen.value:.4g}" if risen.is_known else "")
        result.findings.append(replace(finding, when=f"{finding.when}, and {when}" if finding.when else when, fix=None))
        result.quiet[:] = [c for c in result.quiet if c != finding.code]


def _counts(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO and finding.certainty in (Certainty.CONFIRMED, Certainty.PROVED, Certainty.MEASURED)


def _rising(bench: Bench) -> Iterator[tuple[Span, _Risen]]:
    """The places where a KL is multiplied by a weight that is 0 at this step and greater than 0 at later ones."""
    factors = [(f, place) for k in bench.model.kls for f in k.factors if (place := span(f.node)) is not None]
    named = [(f, place) for f, place in factors if f.origin == "named" and f.value == 0 and f.text]
    weights = [w for w in reckoned_weights(bench) if w.value == 0] if named else []
    for factor, place in named:
        risen = {value for w in weights if (value := _largest(w)) is not None}
        if len(risen) == 1:
            yield place, _Risen(factor.text, risen.pop(), True)
        elif not risen and _is_moved(bench, factor.text, place):
            yield place, _Risen(factor.text, 1.0, False)
    for factor, place in factors:
        if factor.origin == "tensor" and not factor.value and _is_nought(bench, factor):
            yield place, _Risen("the weight", 1.0, False)


def _is_nought(bench: Bench, factor: Factor) -> bool:
    """Whether a KL is multiplied by one number that nothing has learned, and that is 0 in the run."""
    beside = [n for n in ops.value_inputs(factor.node) if n not in bench.model.flow.learned and n not in bench.model.flow.data]
    if factor.value == 0:
        return True
    return len(beside) == 1 and bench.knows(beside[0]) and bench.value(beside[0]).numel() == 1 and not bool(bench.value(beside[0]).any())


def _is_moved(bench: Bench, text: str, place: Span) -> bool:
    """Whether the code gives the weight another value somewhere: what a call gives, an entry, an attribute that is set again later on."""
    try:
        written = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if isinstance(written, ast.Call | ast.Subscript):
        return True
    if not isinstance(written, ast.Attribute):
        return False
    for function in bench.model.source.file(place.file).functions():
        for node in ast.walk(function) if function.name != "__init__" else ():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
            if any(isinstance(t, ast.Attribute) and t.attr == written.attr for t in targets):
                return True
    return False


def _largest(weight: Reckoned) -> float | None:
    """What a weight comes to: 1 where it grows on and on, None where it stays at 0."""
    for counter, at in ((counter, start) for counter, now in weight.counters() for start in (now, now - 1, 0.0)):
        if not weight.follows(counter, at):
            continue
        try:
            values = [weight.at(counter, step) for step in _STEPS]
        except NotArithmetic:
            continue
        most = max(values)
        if most > 0 and all(math.isfinite(v) for v in values):
            return 1.0 if values[-1] > 1 and values[-1] > 1.05 * values[-2] else most
    return None
