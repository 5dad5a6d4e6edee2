"""Sizes of inputs that vaelint chose: what is gone at other sizes with which the model runs, too, is not reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from vaelint.core.assumption import SIZES, withheld
from vaelint.core.finding import Finding, Severity
from vaelint.core.inputs import InputSet, InputSpec
from vaelint.core.result import Request, TargetResult
from vaelint.core.strength import as_said


def at_sizes_that_fit(request: Request, result: TargetResult, check: Callable[[Request], TargetResult]) -> TargetResult:
    """The result, where something is found, checked again with the first other inputs that run: only what is found with both is reported.

    Where something is gone there, the first sizes did not fit: it is the other result that is given back, with a note of it.
    """
    chosen = [a for a in result.assumptions if a.kind == "input sizes"]
    found = _loud(result)
    if not chosen or not found:
        return result
    ours = tuple(name for name in request.ours if name != SIZES)
    for texts in other_inputs(request.inputs):
        there = check(replace(request, inputs=texts, ours=ours))
        if there.rung is None or not there.anatomy or len(there.anatomy.get("sites", ())) != len(result.anatomy.get("sites", ())):
            continue
        both = {_key(f) for f in found} & {_key(f) for f in _loud(there)}
        gone = [f for f in found if _key(f) not in both]
        if not gone:
            return result
        there.notes += [withheld(f, chosen) for f in gone]
        there.findings[:] = [f for f in there.findings if f.severity is Severity.INFO or _key(f) in both]
        there.assumptions += [replace(a, value=text.rpartition("=")[2]) for a, text in zip(chosen, texts, strict=True)]
        there.settle()
        return there
    return result


def other_inputs(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The inputs with other sizes than those of the first: without axes of one, flat, larger; what has its sizes changes with it."""
    specs = InputSet.from_texts(texts).specs
    first = specs[0].sizes
    for change in (_squeezed, _flat, _larger):
        other = change(first)
        if other != first:
            yield tuple(str(_with(spec, other)) if spec.sizes == first else str(spec) for spec in specs)


def _squeezed(sizes: tuple[int, ...]) -> tuple[int, ...]:
    kept = tuple(n for n in sizes[1:] if n > 1)
    return (sizes[0], *kept) if kept else sizes


def _flat(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (sizes[0], math.prod(sizes[1:])) if len(sizes) > 1 else sizes


def _larger(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Images of twice the side, series of twice the length: channels and features stay."""
    if len(sizes) > 3:
        return (*sizes[:2], *(2 * n for n in sizes[2:]))
    return (*sizes[:-2], 2 * sizes[-2], sizes[-1]) if len(sizes) == 3 else (*sizes[:-1], 2 * sizes[-1])


def _with(spec: InputSpec, sizes: tuple[int, ...]) -> InputSpec:
    return replace(spec, sizes=sizes, symbols=("",) * len(sizes))


def _loud(result: TargetResult) -> list[Finding]:
    return [f for f in as_said(result).findings if f.severity is not Severity.INFO]


def _key(finding: Finding) -> tuple[str, str, int]:
    return finding.code, finding.span.file, finding.span.line
