"""Runs the rules over a model; nothing is skipped in silence. Also turns user code that raised into findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vaelint.anatomy.model import Model
from vaelint.core.errors import NotExamined
from vaelint.core.finding import Certainty, Evidence, Finding, Severity, Span
from vaelint.core.memory import SMALLER, asked_for, ran_out
from vaelint.core.messages import message_of
from vaelint.core.result import TargetResult
from vaelint.core.sign import Found, Kind, sign
from vaelint.diagnose.failure import diagnose
from vaelint.pipeline.rule_facts import arguments
from vaelint.replay.replay import ReplayError
from vaelint.rule import NEEDS, Rule

if TYPE_CHECKING:
    from vaelint.core.inputs import InputSet
    from vaelint.record.record import Record
    from vaelint.source.written import Source
    from vaelint.trace.ladder import Tracer

MET: dict[str, Callable[[Model], bool]] = {
    "site": lambda m: bool(m.sites),
    "draw": lambda m: m.variational,
    "gaussian": lambda m: any(s.kind in ("gaussian", "drawn") for s in m.sites),
    "loss": lambda m: m.has_loss,
    "kl": lambda m: bool(m.kls),
    "reconstruction": lambda m: bool(m.recons),
    "beta": lambda m: bool(m.betas),
    "perturbation": lambda m: m.perturbation is not None,
}
"""Whether a model has what a rule needs, by the name of the need."""

_OF_LOSS = {"loss", "kl", "reconstruction", "beta"}  # what no model has whose loss is not known


def run_rules(rules: list[Rule], model: Model, home: Span, result: TargetResult) -> None:
    """Appends findings, each with its claim and its repair, and what the other rules came to, to `result`."""
    found: list[tuple[Kind, Found]] = []
    for rule in rules:
        lacks = [n for n in rule.needs if not MET[n](model)]
        if lacks:
            first = "loss" if not model.has_loss and _OF_LOSS & set(lacks) else lacks[0]
            result.not_applicable.append({"code": rule.code, "reason": NEEDS[first]})
            continue
        try:
            produced = [(rule.kind, f) for f in _distinct(rule.check(*arguments(rule, model)))]
        except ReplayError as error:
            result.not_applicable.append(
                {"code": rule.code, "reason": f"the part of the graph it asks about does not run by itself: {message_of(error)}"}
            )
            continue
        except NotExamined as error:
            result.not_applicable.append({"code": rule.code, "reason": str(error)})
            result.notes.append(f"{rule.code}: {error}")
            continue
        except Exception as error:  # noqa: BLE001 - one broken rule must not cost the findings of the others; it is named in the result
            result.leave_out(*_stopped_by(error, model), code=rule.code)
            continue
        found += produced
        if not produced:
            result.quiet.append(rule.code)
    result.exempt = [note.to_json() for note in model.exempted]
    for kind, said in sorted(found, key=lambda kf: _order(kf[1].span or home, kf[0].code)):
        result.findings.append(_signed(kind, said, home, result.findings, model.source))


def _order(place: Span, code: str) -> tuple[str, int, int, str]:
    return place.file, place.line, place.column, code


def _stopped_by(error: Exception, model: Model) -> tuple[str, str]:
    """Why a rule could not run, and what to do. No rule is at fault where the sizes that were asked for fit into no memory."""
    if ran_out(error):
        sizes = ", ".join(f"{name}={size}" for name, size in model.inputs.symbols.items())
        return f"too large: what it measures does not fit in memory at {sizes}{asked_for(error)}", SMALLER
    return (
        f"{type(error).__name__}: {message_of(error)}",
        "please report it, with the model that shows it; --ignore with the rule's code leaves it out",
    )


def _distinct(found: Any) -> list[Found]:
    """One finding a place: a loop draws many times on one line. Raises TypeError for what a rule may not yield."""
    seen: dict[Any, Found] = {}
    for f in found:
        if not isinstance(f, Found):
            raise TypeError(f"the rule yields {type(f).__name__}, not Found")
        seen.setdefault(f.span, f)
    return list(seen.values())


def _signed(kind: Kind, found: Found, home: Span, before: list[Finding], source: Source) -> Finding:
    line = source.line(found.span or home)
    return sign(kind, found, home, line, sum(f.code == kind.code and source.line(f.span) == line for f in before))


def failure_findings(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, result: TargetResult, home: Span) -> None:
    """User code raised at the user's own sizes: what and where, and what would fit."""
    result.rung = record.rung
    kind, found, analysed = diagnose(record, tracer, inputs, step, source, home)
    finding = _signed(kind, found, home, [], source)
    if record.rung == "real" and record.failure is not None:  # seen on real tensors already
        text = (
            f"{type(record.failure.error).__name__}: {next(iter(message_of(record.failure.error).strip().splitlines()), '')}".removesuffix(
                ": "
            )
        )
        finding = finding.with_certainty(Certainty.CONFIRMED, Evidence("the step on real tensors", "it raises here", text[:160], "cpu"))
        result.confirm = {"device": "cpu", "outcome": "raised", "reason": text[:160]}
    result.findings.append(finding)
    result.fits = list(finding.facts.get("fits", ()))
    result.notes.append("user code raised: the rules that need a complete run did not run")
    if not analysed:
        result.status = "failed"
    if finding.severity is Severity.ERROR and analysed:
        result.settle()
