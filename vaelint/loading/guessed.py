"""Constructor arguments that nobody gave: another value where ours does not fit, and no finding that only our value makes."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

from vaelint.core.errors import TargetError
from vaelint.core.finding import Finding
from vaelint.core.result import TargetResult
from vaelint.loading.arguments import shown
from vaelint.loading.build import Loaded
from vaelint.record.record import Record
from vaelint.source.blame import one_line
from vaelint.trace.ladder import Tracer

Refusal = Callable[[TargetResult, Sequence[Finding]], None]
_COUNT = 8  # smaller numbers count layers or blocks: a size in their place would build a model without end
_MOST, _EACH = 18, 5  # runs spent on other values: in all, and on other sizes in one set of arguments


def another_choice(loaded: Loaded, tracer: Tracer, step: Any, record: Record, result: TargetResult) -> Record:
    """A run with other arguments where those that nobody gave do not fit: as the repository builds the model elsewhere, else with
    sizes that torch's message names. A failure that is the same whatever they are is the code's own, and comes back as it is.

    Raises TargetError VAE002 if none runs: what a value of ours breaks is no finding about the user's code.
    """
    assert record.failure is not None
    first, failed, made_up, left = loaded.choice, record, dict(loaded.made_up), _MOST
    while True:
        found, spent = _resized(loaded, tracer, step, failed, min(_EACH, left), result)
        left -= spent + 1
        if found is not None:
            return found
        if left < 0 or not loaded.next_choice():
            break
        failed = _run(tracer, step) or failed
        if failed.failure is None:
            return _said(loaded, result, failed)
    if first is not None:
        loaded.take(first)
    if not made_up or _whatever(loaded, tracer, step, record):
        return record
    raise _refused(loaded, f"runs into {one_line(record.failure.error)}", record.failure.spans[0] if record.failure.spans else loaded.span)


def _whatever(loaded: Loaded, tracer: Tracer, step: Any, record: Record) -> bool:
    """Whether it fails in the same place with the same words at other numbers, too."""
    assert record.failure is not None
    for values in variants(loaded.made_up, _sizes(tracer)):
        with instead(loaded, values):
            try:
                other = tracer.run(step)
            except TargetError:
                continue
        if other is not None:
            same = other.failure is not None and one_line(other.failure.error) == one_line(record.failure.error)
            return same and other.failure is not None and other.failure.spans[:1] == record.failure.spans[:1]
    return False


def variants(made_up: Mapping[str, object], fixed: Set[int]) -> Iterator[dict[str, object]]:
    """Other values for what nobody gave: each number one larger, else twice as large, but for those in `fixed`; none without numbers."""
    for change in (lambda n: n if n in fixed else n + 1, lambda n: n if n in fixed else 2 * n):
        changed = {name: _changed(value, change) for name, value in made_up.items()}
        if any(value != made_up[name] for name, value in changed.items()):
            yield changed


def _changed(value: object, change: Callable[[int], int]) -> object:
    if isinstance(value, list | tuple):
        return type(value)(_changed(v, change) for v in value)
    return change(value) if type(value) is int and value > 1 else value


@contextmanager
def instead(loaded: Loaded, values: Mapping[str, object]) -> Iterator[None]:
    """Builds with other values while inside."""
    kept = {name: loaded.arguments[name] for name in values}
    loaded.arguments.update(values)
    try:
        yield
    finally:
        loaded.arguments.update(kept)


def _resized(loaded: Loaded, tracer: Tracer, step: Any, failed: Record, most: int, result: TargetResult) -> tuple[Record | None, int]:
    """A run with other sizes in the arguments, None if none of those fits, and how many runs that took.

    A size with which the run comes further than without is kept, and the next one is looked for from there.
    """
    fresh, spent = dict(loaded.made_up), 0
    while spent < most:
        further: tuple[str, object, Record] | None = None
        for name, value in itertools.islice(_others(loaded.made_up, failed, tracer), most - spent):
            before, spent = loaded.arguments[name], spent + 1
            loaded.arguments[name] = value
            attempt = _run(tracer, step)
            if attempt is not None and (attempt.failure is None or _is_slip(attempt, failed)):
                loaded.made_up[name] = value
                _said(loaded, result, attempt)
                changed = [(k, v) for k, v in loaded.made_up.items() if v != fresh[k]]
                result.notes += [f"{k}={shown(v)} fits where {shown(fresh[k])} does not" for k, v in changed]
                return attempt, spent
            loaded.arguments[name] = before
            if attempt is not None and _reach(attempt) > _reach(failed):
                further = name, value, attempt
                break
        if further is None:
            break
        name, value, failed = further
        loaded.arguments[name] = loaded.made_up[name] = value
    loaded.arguments.update({name: value for name, value in fresh.items() if name in loaded.arguments})
    loaded.made_up.update(fresh)
    return None, spent


def _is_slip(record: Record, before: Record) -> bool:
    """Whether a run came further than another, to an error that no size makes: a name or an argument that is not there."""
    error = record.failure.error if record.failure is not None else None
    return isinstance(error, TypeError | NameError | AttributeError) and _reach(record) > _reach(before)


def _reach(record: Record) -> int:
    """How far a run came: the operations that were recorded."""
    return len(record.graph.nodes)


def _run(tracer: Tracer, step: Any) -> Record | None:
    """A run with the arguments as they are now, on fake tensors where these carry it: wrong sizes may be huge. None: it cannot be built."""
    try:
        return tracer.attempt(step, {}) or tracer.run(step)
    except TargetError:
        return None


def _said(loaded: Loaded, result: TargetResult, attempt: Record) -> Record:
    """Notes that were true of the first choice give way to those of the one that runs."""
    assert loaded.choice is not None
    result.notes[:] = [n for n in result.notes if n not in loaded.passed]
    result.notes += [n for n in loaded.choice.notes if n not in result.notes]
    return attempt


def _others(chosen: dict[str, object], failed: Record, tracer: Tracer) -> Iterator[tuple[str, object]]:
    """Other values for made-up numbers, one at a time: the sizes of the message, for a number that it tells of those of the input first;
    within a list or a configuration, what one sample holds, or a size of the message, for another of them."""
    assert failed.failure is not None
    sizes = [int(n) for n in dict.fromkeys(re.findall(r"\d+", one_line(failed.failure.error))) if int(n)]
    each = [t[0].numel() for t in tracer.inputs(None).values() if t.ndim > 1]
    own = list(dict.fromkeys(n for t in tracer.inputs(None).values() for n in t.shape[1:] if n > 1))
    fitting = sorted(dict.fromkeys((*sizes, *own)), key=lambda n: (n not in own, n not in sizes))
    told = {name for name, value in chosen.items() if type(value) is int and value >= _COUNT and any(s % value == 0 for s in sizes)}
    for name, value in sorted(chosen.items(), key=lambda item: item[0] not in told):
        if type(value) is int and value >= _COUNT:
            yield from ((name, size) for size in (fitting if name in told else sizes) if size != value)
        elif isinstance(value, list | tuple | dict | argparse.Namespace):
            pairs = ((old, new) for new in (*each, *sizes) for old in sizes if old >= _COUNT and old != new != 1)
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


def other_builds(loaded: Loaded, tracer: Tracer) -> Iterator[Refusal]:
    """While each is current the model is built with other values for what nobody gave.

    Each comes with what to call where it does not run: that raises TargetError VAE002 if a finding is about a size of ours.
    """
    for values in variants(loaded.made_up, _sizes(tracer)):
        with instead(loaded, values):
            yield lambda result, doubtful: _refuse_those_of_our_sizes(loaded, result, doubtful)


def _refuse_those_of_our_sizes(loaded: Loaded, result: TargetResult, doubtful: Sequence[Finding]) -> None:
    """Our numbers meet the sizes of the input, as others do not run: what is said of such a size may be our doing."""
    ours = _numbers(list(loaded.made_up.values())) - {0, 1}
    for finding in doubtful:
        if ours & {int(size) for row in finding.shapes for size in row.shape if size.isdigit()}:
            result.findings.remove(finding)
            raise _refused(loaded, f"{finding.message} ({finding.label})", finding.span)


def _sizes(tracer: Tracer) -> set[int]:
    """The sizes of the inputs, and what one sample holds: arguments that are one of these are no numbers of ours."""
    tensors = tracer.inputs(None).values()
    return {n for t in tensors for n in t.shape} | {t[0].numel() for t in tensors if t.ndim > 1}


def _numbers(values: Sequence[object]) -> set[int]:
    """The numbers in some values, however deep in lists, dicts and Namespaces."""
    found: set[int] = set()
    for value in values:
        if type(value) is int:
            found.add(value)
        elif isinstance(value, list | tuple):
            found |= _numbers(value)
        elif isinstance(value, dict | argparse.Namespace):
            found |= _numbers(list((value if isinstance(value, dict) else vars(value)).values()))
    return found


def _refused(loaded: Loaded, what: str, span: Any) -> TargetError:
    listed = ", ".join(f"{name}={shown(value)}" for name, value in loaded.made_up.items())
    told = " ".join(f"--init {name}=..." for name in loaded.made_up)
    return TargetError(
        "VAE002", f"{loaded.name} fails with the arguments vaelint guessed ({listed}): {what}", f"give the values: {told}", span
    )
