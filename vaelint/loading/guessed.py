"""Constructor arguments that nobody gave: another value where ours does not fit, and no finding that only our value makes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from vaelint.errors import TargetError
from vaelint.finding import Finding
from vaelint.graph import Record
from vaelint.loading.build import Loaded
from vaelint.result import TargetResult
from vaelint.source.blame import one_line
from vaelint.trace.ladder import Tracer

_MOST = 12  # runs spent on other values
_OF_SIZES = ("VAE102", "VAE103", "VAE104", "VAE107")  # findings about sizes that meet


def another_guess(loaded: Loaded, tracer: Tracer, step: Any, record: Record, result: TargetResult) -> Record:
    """A run with other values for the made-up arguments, taken from the sizes that torch's message names.

    Raises TargetError VAE002 if none runs: what a value of ours breaks is no finding about the user's code.
    """
    assert record.failure is not None
    text = one_line(record.failure.error)
    chosen = dict(loaded.made_up)
    for name, value in itertools.islice(_others(chosen, text), _MOST):
        loaded.arguments[name] = value
        try:
            attempt = tracer.run(step)
        except TargetError:
            attempt = None
        if attempt is not None and attempt.failure is None:
            loaded.made_up[name] = value
            result.notes.append(f"{name}={value} fits where {chosen[name]} does not")
            return attempt
        loaded.arguments[name] = chosen[name]
    raise _refused(loaded, f"runs into {text}", record.failure.spans[0] if record.failure.spans else loaded.span)


def _others(chosen: dict[str, object], text: str) -> Iterator[tuple[str, int]]:
    """Each made-up number with each size of the message."""
    sizes = [int(n) for n in dict.fromkeys(re.findall(r"\d+", text))]
    for name, value in chosen.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from ((name, size) for size in sizes if size not in (0, value))


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
    listed = ", ".join(f"{name}={value!r}" for name, value in loaded.made_up.items())
    told = " ".join(f"--init {name}=..." for name in loaded.made_up)
    return TargetError("VAE002", f"{loaded.name} with {listed}, chosen for want of better, {what}", f"say the values: {told}", span)
