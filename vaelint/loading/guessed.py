"""Constructor arguments that nobody gave: another value where ours does not fit, and no finding that only our value makes."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vaelint.errors import TargetError
from vaelint.finding import Finding
from vaelint.graph import Record
from vaelint.loading.arguments import shown
from vaelint.loading.build import Loaded
from vaelint.result import TargetResult
from vaelint.source.blame import one_line
from vaelint.trace.ladder import Tracer

_MOST = 12  # runs spent on other values
_OF_SIZES = ("VAE102", "VAE103", "VAE104", "VAE107")  # findings about sizes that meet


def another_choice(loaded: Loaded, tracer: Tracer, step: Any, record: Record, result: TargetResult) -> Record:
    """A run with other arguments where those that nobody gave do not fit: as the repository builds the model elsewhere, else with
    sizes that torch's message names.

    Raises TargetError VAE002 if none runs: what a value of ours breaks is no finding about the user's code.
    """
    assert record.failure is not None
    first, failed = loaded.choice, record
    while True:
        found = _resized(loaded, tracer, step, failed, result)
        if found is not None:
            return found
        if not loaded.next_choice():
            break
        failed = _run(tracer, step) or failed
        if failed.failure is None:
            return _said(loaded, result, failed)
    if first is not None:
        loaded.take(first)
    raise _refused(loaded, f"runs into {one_line(record.failure.error)}", record.failure.spans[0] if record.failure.spans else loaded.span)


def _resized(loaded: Loaded, tracer: Tracer, step: Any, failed: Record, result: TargetResult) -> Record | None:
    """A run with another size in the arguments, None if none of those that the message names fits."""
    assert failed.failure is not None
    fresh = dict(loaded.made_up)
    each = [t[0].numel() for t in tracer.inputs(None).values() if t.ndim > 1]
    for name, value in itertools.islice(_others(fresh, one_line(failed.failure.error), each), _MOST):
        loaded.arguments[name] = value
        attempt = _run(tracer, step)
        if attempt is not None and attempt.failure is None:
            loaded.made_up[name] = value
            _said(loaded, result, attempt)
            result.notes.append(f"{name}={shown(value)} fits where {shown(fresh[name])} does not")
            return attempt
        loaded.arguments[name] = fresh[name]
    return None


def _run(tracer: Tracer, step: Any) -> Record | None:
    """A run with the arguments as they are now; None if the model cannot be built."""
    try:
        return tracer.run(step)
    except TargetError:
        return None


def _said(loaded: Loaded, result: TargetResult, attempt: Record) -> Record:
    """Notes that were true of the first choice give way to those of the one that runs."""
    assert loaded.choice is not None
    result.notes += [n for n in loaded.choice.notes if n not in result.notes]
    return attempt


def _others(chosen: dict[str, object], text: str, each: Sequence[int]) -> Iterator[tuple[str, object]]:
    """Each made-up number with each size of the message; within a list or a configuration, what one sample holds, or a size of the
    message, for another of them."""
    sizes = [int(n) for n in dict.fromkeys(re.findall(r"\d+", text)) if int(n)]
    for name, value in chosen.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from ((name, size) for size in sizes if size != value)
        elif isinstance(value, list | tuple | dict | argparse.Namespace):
            pairs = ((old, new) for new in (*each, *sizes) for old in sizes if old != new != 1)
            for old, new in pairs:
                if (other := _exchanged(value, old, new)) != value:
                    yield name, other


def _exchanged(value: Any, old: int, new: int) -> Any:
    """A value with one number in place of another, wherever it stands in it."""
    if isinstance(value, list | tuple):
        return type(value)(_exchanged(v, old, new) for v in value)
    if isinstance(value, dict):
        return {k: _exchanged(v, old, new) for k, v in value.items()}
    if isinstance(value, argparse.Namespace):
        return argparse.Namespace(**_exchanged(vars(value), old, new))
    return new if type(value) is int and value == old else value


def refuse_findings_of_guesses(loaded: Loaded, result: TargetResult) -> None:
    """Raises TargetError VAE002 where a finding about sizes names a size that is ours."""
    ours = {int(n) for value in loaded.made_up.values() for n in re.findall(r"\d+", repr(value))} - {0, 1}
    for finding in result.findings:
        if finding.code in _OF_SIZES and ours & _sizes(finding):
            result.findings.remove(finding)
            raise _refused(loaded, f"may be at odds with the input: {finding.message} ({finding.label})", finding.span)


def _sizes(finding: Finding) -> set[int]:
    return {int(n) for n in re.findall(r"\d+", finding.label)}


def _refused(loaded: Loaded, what: str, span: Any) -> TargetError:
    listed = ", ".join(f"{name}={shown(value)}" for name, value in loaded.made_up.items())
    told = " ".join(f"--init {name}=..." for name in loaded.made_up)
    return TargetError("VAE002", f"{loaded.name} with {listed}, chosen for want of better, {what}", f"say the values: {told}", span)
