"""What vaelint took for granted in one check, and the findings that hang on it: they are gone at other values, and are not reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vaelint.core.assumption import SIZES, Assumption, told, withheld
from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.loading.arguments import shown
from vaelint.loading.build import Loaded
from vaelint.loading.guessed import instead, other_builds
from vaelint.loading.names import Means, meanings
from vaelint.step.other_values import other_value

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

SAYS_NOTHING = "nothing in the repository says its value"

_LIKELIHOODS = "VAE3"

Again = Callable[[Any, frozenset[str]], Sequence[Finding] | None]
"""What the rules of some codes find with a step, and with the arguments as they are then; None where it does not run."""


def assumptions_of(loaded: Loaded, step: Any, request: Request, inputs: InputSet) -> list[Assumption]:
    """Every choice behind a result, in the order in which they were made."""
    found = told((*loaded.notes, *step.notes))
    for name, value in loaded.arguments.items():
        why = _reason(loaded, name) or (SAYS_NOTHING if name in request.ours else "")
        if name in loaded.made_up or why:
            found.append(
                Assumption("constructor argument", name, shown(value), why or "not given", loaded.span, varied=name in loaded.made_up)
            )
    if SIZES in request.ours:
        texts = [text.rpartition("=")[2] for text in request.inputs]
        found += [
            Assumption("input sizes", n, t, SAYS_NOTHING, loaded.span, varied=True) for n, t in zip(_names(inputs), texts, strict=True)
        ]
    for name, spec in zip(_names(inputs), inputs.specs, strict=True):
        if spec.low is None and spec.values is None and not spec.is_integer:
            found.append(Assumption("values", name, "standard normal", "no range given with --input"))
    for name, value in step.made_up.items():
        why = "read from the repository" if name in step.told else "nothing says what it is"
        found.append(Assumption("loss argument", name, value, why, step.place_of(name), varied=other_value(value) is not None))
    if request.step is None and request.loss is None and step.has_loss:
        file, _, line = step.place.rpartition(":")
        found.append(Assumption("loss", "loss", step.code, "no --step and no --loss", Span(file, int(line)) if line.isdigit() else None))
    return found


def settle_values(result: TargetResult) -> None:
    """Corrects how the inputs without a range were drawn, where the real pass had to draw them as the loss wants."""
    if "inputs" in result.confirm:
        result.assumptions[:] = [
            replace(a, value="uniform in [0, 1]", why=f"{a.why}, and the loss wants these") if a.kind == "values" else a
            for a in result.assumptions
        ]


def _reason(loaded: Loaded, name: str) -> str:
    """Why the constructor got its value for an argument, as the notes of that choice say; empty where nothing was chosen."""
    notes = loaded.choice.notes if loaded.choice is not None else ()
    said = next((n for n in notes if re.search(rf"(^|, ){re.escape(name)}=", n)), "")
    return said.partition(": ")[2] if said else ""


def _names(inputs: InputSet) -> list[str]:
    """What the inputs are called, by their places where they have no name."""
    return [spec.name or f"input {place}" for place, spec in enumerate(inputs.specs, 1)]


def withhold(loaded: Loaded, model: Model, result: TargetResult, again: Again) -> None:
    """Takes back the findings that are gone at other values of what vaelint chose, one kind of choice after another.

    Raises TargetError VAE002 where no other constructor arguments run and a finding is about a size among them.
    """
    step, tracer = model.step, model.tracer
    _withhold_batch_sizes(loaded, model, result)
    _withhold_pairing(step, result)
    chosen = [a for a in result.assumptions if a.varied]
    arguments = [a for a in chosen if a.kind == "constructor argument"]
    if arguments and (doubtful := _doubtful(result)):
        seen = None
        for refused in other_builds(loaded, tracer):
            if (seen := again(step, frozenset(f.code for f in doubtful))) is not None:
                break
            refused(result, doubtful)
        _take_back(result, doubtful, seen, arguments)
    for one in (a for a in chosen if a.kind == "loss argument"):
        other = step.varied(one.name, other_value(one.value)) if (doubtful := _doubtful(result)) else None
        if other is not None:
            _take_back(result, doubtful, again(other, frozenset(f.code for f in doubtful)), [one])


def _withhold_pairing(step: Any, result: TargetResult) -> None:
    """Takes back that a likelihood does not suit what it gets, where the repository has several losses and nothing tells this model's."""
    gone = [f for f in _doubtful(result) if f.code.startswith(_LIKELIHOODS)] if step.rivals else []
    others = ", ".join(step.rivals[:3])
    why = f"nothing says with which loss this model is trained: there is {others} too"
    result.notes += [f"{f.code} at {f.span.file}:{f.span.line} is not reported: {why}" for f in gone]
    result.findings[:] = [f for f in result.findings if f not in gone]


def _withhold_batch_sizes(loaded: Loaded, model: Model, result: TargetResult) -> None:
    """Takes back that a batch size is fixed where the constructor asks for it, vaelint answered, and the step runs with another answer."""
    required = {n for n, p in loaded.signature.parameters.items() if p.default is p.empty}
    asked = {n for n in required & set(loaded.arguments) if meanings(n)[:1] == [Means.BATCH] and _reason(loaded, n).startswith("the batch")}
    chosen = [a for a in result.assumptions if a.kind == "constructor argument" and a.name in asked]
    for finding in [f for f in result.findings if chosen and f.code == "VAE102" and "tried" in f.facts]:
        size = finding.facts["tried"]
        with instead(loaded, dict.fromkeys(asked, size)):
            record = model.tracer.attempt(model.step, {str(model.inputs.batch): size})
        if record is not None and record.failure is None:
            result.findings.remove(finding)
            result.notes.append(withheld(finding, chosen))


def unsettle_beta(step: Any, result: TargetResult, beta_of: Callable[[Any], float | None]) -> None:
    """Takes back an effective beta that is another one at another value of what vaelint chose for the loss, and says so.

    `beta_of` measures it for a step.
    """
    for one in (a for a in result.assumptions if a.kind == "loss argument" and a.varied):
        beta = result.loss.get("beta")
        value = (beta or {}).get("value")
        other = step.varied(one.name, other_value(one.value)) if value is not None else None
        if other is None or (there := beta_of(other)) == value:
            continue
        at = f", {there:.4g} with {one.name}={other_value(one.value)}" if there is not None else ""
        reason = f"effective beta: unknown, as it depends on the guessed {one.text()}: {value:.4g} with it{at}"
        result.loss |= {"beta": None, "objective": "", "weights": {}, "published": [], "notes": [*result.loss["notes"], reason]}


def _doubtful(result: TargetResult) -> list[Finding]:
    return [f for f in result.findings if f.severity is not Severity.INFO]


def _take_back(result: TargetResult, doubtful: Sequence[Finding], seen: Sequence[Finding] | None, chosen: Sequence[Assumption]) -> None:
    """Without the findings that are not among those seen at other values; all stay where nothing was seen."""
    if seen is None:
        return
    there = {(f.code, f.span.file, f.span.line) for f in seen}
    gone = [f for f in doubtful if (f.code, f.span.file, f.span.line) not in there]
    result.notes += [withheld(f, chosen) for f in gone]
    result.findings[:] = [f for f in result.findings if f not in gone]
