"""Runs the laws over a real run, and turns what is broken into findings that read like any other."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from vaelint.anatomy.model import Model
from vaelint.core.finding import Certainty, Evidence, Finding, Severity
from vaelint.core.memory import ran_out
from vaelint.core.messages import message_of
from vaelint.core.result import Request, TargetResult
from vaelint.core.sign import sign
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.batch_experiments import first_line
from vaelint.laws import every  # noqa: F401 - registers the laws
from vaelint.laws.bench import Bench
from vaelint.laws.law import LAWS, Broken, Cost, Law
from vaelint.rule import Rule, declared

_PACKAGE = Path(__file__).resolve().parent.parent
_LAWS = _PACKAGE / "laws"
_AT_WORK = tuple(_PACKAGE / name for name in ("experiment", "observe", "replay", "step", "trace"))
"""Where the user's code, and what was recorded of it, is run."""
_OF_THE_GRAPH = "modified by an inplace operation"
"""What autograd says of the user's own graph, wherever a gradient is asked for."""


def replay_laws(model: Model, request: Request, result: TargetResult) -> None:
    """The laws that slices of the static record can answer, with or without a real pass."""
    _observe(Bench(model, None), ("replay",), request, result)


def observe_laws(trial: Trial, request: Request, result: TargetResult) -> None:
    """The laws that a real run is needed for."""
    _observe(Bench(trial.model, trial), ("fast", "all"), request, result)


def _observe(bench: Bench, costs: tuple[Cost, ...], request: Request, result: TargetResult) -> None:
    """Adds a finding for each law that is broken; notes in `result.laws` which held, and which could not be measured and why."""
    rules = {r.name: r for r in declared() if request.wants(r.code)}
    for law in LAWS:
        if law.cost not in costs or request.laws == "none" or (request.laws == "fast" and law.cost == "all"):
            continue
        known = [f for f in result.findings if f.certainty is not Certainty.REFUTED and f.severity is not Severity.INFO]
        if not any(f.code.startswith(law.covered) for f in known):  # another law may have spoken meanwhile
            result.laws.append(_observed(law, bench, rules, result))


def _observed(law: Law, bench: Bench, rules: dict[str, Rule], result: TargetResult) -> dict[str, Any]:
    """One law: its findings are added to `result`; what became of it is returned."""
    try:
        broken = list(law.broken(bench))
    except CannotMeasureError as error:
        return {"law": law.name, "outcome": "not measured", "reason": message_of(error)}
    except Exception as error:  # noqa: BLE001  a law replays user code on other values, which may raise anything; it is said
        if not _at_fault(error):
            return {"law": law.name, "outcome": "not measured", "reason": f"the intervention does not run: {first_line(error)}"}
        text = first_line(error)
        result.leave_out(
            f"the law {law.name} could not run: {text}", "please report it, with the model that shows it; --laws none leaves it out"
        )
        return {"law": law.name, "outcome": "not measured", "reason": f"the law itself failed: {text}"}
    for one in broken:
        finding = _finding(one, law, bench, rules)
        if finding is None and one.rule in rules:
            result.leave_out(f"the law {law.name} is broken, and no line in your files was found for it: {one.measured}", one.found.help)
        if finding is not None and not _told(result, finding):
            result.findings.append(finding)
            result.quiet[:] = [c for c in result.quiet if c != finding.code]
    return {"law": law.name, "outcome": "broken" if broken else "holds", "reason": broken[0].measured if broken else ""}


def _at_fault(error: Exception) -> bool:
    """Whether the law itself failed: no kernel raises such an error, or it arose where neither the user's code nor what was
    recorded of it was at work. What the law guards was then not checked, and that must be said."""
    frames = [Path(f.filename) for f in traceback.extract_tb(error.__traceback__)]
    last = max((i for i, path in enumerate(frames) if path.is_relative_to(_LAWS)), default=-1)
    beyond = [path for path in frames[last + 1 :] if any(path.is_relative_to(folder) for folder in _AT_WORK)]
    if ran_out(error):
        return False
    return isinstance(error, (AttributeError, KeyError, AssertionError)) or not (beyond or _OF_THE_GRAPH in message_of(error))


def _finding(broken: Broken, law: Law, bench: Bench, rules: dict[str, Rule]) -> Finding | None:
    rule, place = rules.get(broken.rule), broken.found.span
    if rule is None or place is None:
        return None
    evidence = Evidence(f"law: {law.says}", broken.predicted, broken.measured, bench.device)
    certainty = Certainty.CONFIRMED if bench.has_run else Certainty.MEASURED
    return sign(rule.kind, broken.found, place, bench.model.source.line(place)).with_certainty(certainty, evidence)


def _told(result: TargetResult, finding: Finding) -> bool:
    """Whether a finding of the same rule points at that line already, or a finding of another rule that is not refuted
    stands there."""
    place = finding.span
    for f in (f for f in result.findings if f.code == finding.code or f.certainty is not Certainty.REFUTED):
        spans = (f.span, *(x.span for x in f.labels)) if f.code == finding.code else (f.span,)
        if f.severity is not Severity.INFO and any(s.file == place.file and s.line == place.line for s in spans):
            return True
    return False
