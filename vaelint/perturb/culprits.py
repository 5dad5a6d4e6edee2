"""The search: one number at a time gets another value; where the model does not follow, the literal that makes it follow is the culprit.

A number of the constructor may have to move together with a size of the input (`in_channels` with the channels, `img_size` with height
and width, `input_dim` with their product), so it is changed alone and together with each size it may be tied to, and as soon as one of
these runs, all is well. Where none does, the run that raised is repaired: literals near the place are replaced by what they would be had
they followed. A literal is accused only if (1) with it replaced the model runs and (2) replacing it at the user's own sizes breaks the
model: then the two have to agree, and only one of them can be set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import field
from functools import cached_property
from typing import Any

from vaelint.core.errors import TargetError
from vaelint.core.inputs import InputSet
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.perturb.constructor_arguments import Knob, changed, knobs
from vaelint.perturb.literals import SIZED, Change, Literal, Literals
from vaelint.perturb.response import Kind, Outcome, of_error, of_record
from vaelint.record.record import Record
from vaelint.trace.ladder import Tracer

DEPTH = 6  # literals that may have stayed behind one argument
TRIALS = 40  # repairs tried for one argument
SECONDS = 15.0  # for all of one target


_NOTHING = Knob((), 0)


@dataclass(frozen=True)
class LeftBehind:
    """Numbers in one line of the code that have to agree with an argument and do not follow it."""

    literals: tuple[Literal, ...]  # of one line
    becomes: tuple[int, ...]
    knob: Knob
    to: int
    sizes: dict[str, int]  # sizes of the input that were moved along
    outcome: Outcome  # what happens as the code stands
    silent: str = ""  # what happens without an error where the argument becomes 1


@dataclass(frozen=True)
class Refold:
    """A number in the code that makes another batch of an input of another size, without a word."""

    literal: Literal
    symbol: str
    size: int
    outcome: Outcome


@dataclass
class Report:
    """What the perturbation came to; `supported` are the arguments that the model follows, `unclear` those with the reason."""

    found: list[LeftBehind] = field(default_factory=list)
    refolds: list[Refold] = field(default_factory=list)
    supported: list[str] = field(default_factory=list)
    unclear: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def said(self) -> list[str]:
        """What was tried and what came of it, for the user."""
        follows = f"--perturb: the model follows {', '.join(self.supported)}" if self.supported else ""
        unclear = [f"--perturb: {name} could not be judged: {why}" for name, why in self.unclear]
        nothing = [] if self.supported or self.unclear or self.found else ["--perturb: the constructor takes no whole number"]
        return [*([follows] if follows else []), *unclear, *(self.notes or nothing)]


@dataclass(frozen=True)
class _Variant:
    """One number at another value, together with some sizes of the input."""

    knob: Knob
    to: int
    sizes: Mapping[str, int]


class Perturbation:
    """Changes what can be changed, on demand."""

    def __init__(self, loaded: Loaded, init: Mapping[str, object], tracer: Tracer, inputs: InputSet, step: Any) -> None:
        self._loaded, self._init, self._tracer, self._inputs, self._step = loaded, dict(init), tracer, inputs, step
        self._seconds = SECONDS

    @cached_property
    def report(self) -> Report:
        """All knobs, one after another. Raises nothing: what cannot be told is in the report."""
        report, started = Report(), time.monotonic()
        if self._base is None:
            report.notes.append("the step cannot be repeated as it was: no argument was changed")
            return report
        for knob in knobs(self._loaded, self._init):
            if time.monotonic() - started > self._seconds:
                report.unclear.append((knob.shown, f"not tried: {self._seconds:.0f} seconds were over"))
                continue
            self._one(knob, report)
        accused = {x for left in report.found for x in left.literals}
        report.refolds += [r for r in self._refolds() if r.literal not in accused]
        return report

    def _refolds(self) -> Iterator[Refold]:
        """Sizes of the input, one at a time, where the model runs and another batch comes out."""
        for symbol, size in self._inputs.symbols.items():
            if symbol == self._inputs.batch:
                continue
            outcome = self._run(_Variant(_NOTHING, 0, {symbol: size * 2}))
            if outcome.kind is not Kind.REFOLDED:
                continue
            literals = [x for x in self._literals.within(outcome.at[0]) if x.call in SIZED and x.value % size == 0] if outcome.at else []
            if literals:
                yield Refold(literals[0], symbol, size * 2, outcome)

    def _one(self, knob: Knob, report: Report) -> None:
        to = knob.value * 2
        alone = self._run(_Variant(knob, to, {}))
        if alone.kind is Kind.FINE:
            report.supported.append(knob.shown)
            return
        bad: list[tuple[_Variant, Outcome]] = []
        for variant in self._tied(knob, to):
            outcome = self._run(variant)
            if outcome.kind is Kind.FINE:
                report.supported.append(knob.shown)
                return
            if outcome.is_bad:
                bad.append((variant, outcome))
        if self._follows_input(knob):
            report.supported.append(knob.shown)
            return
        if alone.is_bad:
            bad.append((_Variant(knob, to, {}), alone))
        budget = [TRIALS]
        for variant, outcome in bad:
            repair = self._repair(variant, outcome, {}, budget, DEPTH)
            if repair:
                kept = self._needed(variant, repair)
                lines: dict[tuple[str, int], list[Literal]] = {}
                for x in sorted(kept, key=lambda x: (x.span.file, x.span.line, x.span.column)):
                    lines.setdefault((x.span.file, x.span.line), []).append(x)
                silent = self._silently(variant, outcome)
                report.found += [
                    LeftBehind(tuple(xs), tuple(kept[x] for x in xs), knob, variant.to, dict(variant.sizes), outcome, silent)
                    for xs in lines.values()
                ]
                if kept:
                    return
        said = alone.text if alone.is_bad else alone.kind.value
        report.unclear.append((knob.shown, said or "unclear"))

    def _silently(self, variant: _Variant, outcome: Outcome) -> str:
        """What becomes of a model that raises with a larger value when the value is 1, if that is no error: one channel is broadcast."""
        if outcome.kind is not Kind.RAISES or not variant.sizes or variant.knob.value == 1:
            return ""
        one = self._run(_Variant(variant.knob, 1, dict.fromkeys(variant.sizes, 1)))
        return f"with {variant.knob.shown}=1 nothing raises: {one.text}" if one.kind in (Kind.BROADCAST, Kind.REFOLDED) else ""

    # --- which sizes of the input an argument may be tied to ------------------------------------------------------

    def _tied(self, knob: Knob, to: int) -> Iterator[_Variant]:
        """The argument together with sizes that it is equal to, or whose product it is."""
        free = {s: n for s, n in self._inputs.symbols.items() if s != self._inputs.batch}
        equal = [s for s, n in free.items() if n == knob.value]
        if equal:
            yield _Variant(knob, to, dict.fromkeys(equal, to))
        if len(equal) > 1:
            for s in equal:
                yield _Variant(knob, to, {s: to})
        if knob.value < 4:
            return
        for dims in dict.fromkeys(self._inputs.dims):
            own = [s for s in dims if s in free]
            for i in range(len(own)):
                for j in range(i + 2, len(own) + 1):
                    if math.prod(free[s] for s in own[i:j]) == knob.value:
                        yield _Variant(knob, to, {own[j - 1]: free[own[j - 1]] * 2})

    def _follows_input(self, knob: Knob) -> bool:
        """Whether the argument's value is what the layers make of the input's size: another size asks for another value, and gets it."""
        groups: dict[int, list[str]] = {}
        for s, n in self._inputs.symbols.items():
            if s != self._inputs.batch and n > 1:
                groups.setdefault(n, []).append(s)
        for n, group in groups.items():
            sizes = dict.fromkeys(group, n * 2)
            before = self._run(_Variant(knob, knob.value, sizes))
            if before.kind is not Kind.RAISES:
                continue
            for number in sorted(before.numbers - {knob.value, n, n * 2}, reverse=True)[:4]:
                if number > knob.value and self._run(_Variant(knob, number, sizes)).kind is Kind.FINE:
                    return True
        return False

    # --- repairs --------------------------------------------------------------------------------------------------

    def _repair(self, variant: _Variant, outcome: Outcome, done: Change, budget: list[int], depth: int) -> dict[Literal, int] | None:
        """Literals to replace, on top of `done`, so that the variant runs; None if none was found."""
        for change in self._candidates(variant, outcome):
            if budget[0] <= 0:
                return None
            if any(x in done for x in change):
                continue
            budget[0] -= 1
            tried = {**done, **change}
            after = self._run(variant, tried)
            if after.kind is Kind.FINE:
                return tried
            deeper = depth > 1 and after.is_bad and after.depth > outcome.depth
            if deeper and (repaired := self._repair(variant, after, tried, budget, depth - 1)) is not None:
                return repaired
        return None

    def _candidates(self, variant: _Variant, outcome: Outcome) -> Iterator[dict[Literal, int]]:
        """What may have stayed behind, the nearest and the plainest first: equal numbers near the place, then numbers in proportion."""
        moved = {variant.knob.value: variant.to} | {self._inputs.symbols[s]: n for s, n in variant.sizes.items()}
        seen: set[frozenset[Literal]] = set()

        def fresh(change: dict[Literal, int]) -> bool:
            key = frozenset(change)
            is_new = bool(change) and key not in seen
            seen.add(key)
            return is_new

        near = [self._literals.within(span) for span in outcome.at]
        for literals in near:
            for x in literals:
                if x.value in moved and fresh({x: moved[x.value]}):
                    yield {x: moved[x.value]}
        for literals in near:
            yield from (c for c in self._in_proportion(literals, moved, variant) if fresh(c))
        anywhere = [x for x in self._literals.all if x.value in moved and x.value > 1]
        for x in anywhere:
            if fresh({x: moved[x.value]}):
                yield {x: moved[x.value]}

    def _in_proportion(self, literals: list[Literal], moved: Mapping[int, int], variant: _Variant) -> Iterator[dict[Literal, int]]:
        """Sizes that the layers have halved or multiplied: all equal ones of a call together, then each; then squares for images."""
        sized = [x for x in literals if x.call in SIZED and x.value > 1 and x.value not in moved]
        ratios = {n // v for v, n in moved.items() if n % v == 0 and n > v}
        for ratio in sorted(ratios):
            for value in dict.fromkeys(x.value for x in sized):
                same = [x for x in sized if x.value == value]
                if len(same) > 1:
                    yield {x: x.value * ratio for x in same}
                for x in same:
                    yield {x: x.value * ratio}
            if len(variant.sizes) > 1:
                for x in sized:
                    yield {x: x.value * ratio ** len(variant.sizes)}

    def _needless(self, change: Change) -> bool:
        """Whether the model runs at the user's own sizes with the literals replaced: then they need not agree with anything."""
        return self._run(_Variant(_NOTHING, 0, {}), change).kind is Kind.FINE

    def _needed(self, variant: _Variant, change: Mapping[Literal, int]) -> dict[Literal, int]:
        """The literals without which the repair fails, and which break the model when they alone are replaced."""
        kept = dict(change)
        for x in list(change):
            rest = {k: v for k, v in kept.items() if k is not x}
            if rest and self._run(variant, rest).kind is Kind.FINE:
                kept = rest
        return {} if self._needless(kept) else kept

    # --- runs -----------------------------------------------------------------------------------------------------

    @cached_property
    def _literals(self) -> Literals:
        obj = self._loaded.obj
        own = vars(obj).get("__init__", obj) if isinstance(obj, type) else obj
        return Literals(self._tracer.spans.is_user, self._tracer.spans.relative, own)

    @cached_property
    def _batch(self) -> dict[str, int]:
        """A batch that no other size equals, where the step runs with it."""
        batch = self._inputs.batch
        if batch is None:
            return {}
        taken = {*self._inputs.symbols.values(), *(k.value for k in knobs(self._loaded, self._init))}
        own = self._inputs.symbols[batch]
        sizes = {batch: next(n for n in (3, 5, 7, 11, 13, 17, 19, 23, own) if n not in taken or n == own)}
        record = self._tracer.attempt(self._step, sizes, self._build({}))
        return sizes if record is not None and record.failure is None else {batch: own}

    @cached_property
    def _base(self) -> Record | None:
        try:
            record = self._tracer.attempt(self._step, self._batch, self._build({}))
        except TargetError:
            return None
        return record if record is not None and record.failure is None else None

    def _build(self, init: Mapping[str, object]) -> Callable[[], Any]:
        arguments = {**self._init, **init}
        return lambda: self._loaded.build(arguments)

    def _run(self, variant: _Variant, change: Change | None = None) -> Outcome:
        """The step once, with one argument, some sizes and some literals at other values."""
        assert self._base is not None
        knob, namespace = variant.knob, self._loaded.namespace
        init = self._init if not knob.path or knob.is_global else changed(self._loaded, self._init, knob, variant.to)
        name = str(knob.path[0]) if knob.is_global else ""
        with self._literals.replaced(change) if change else nullcontext():
            if knob.is_global:
                namespace[name] = variant.to
            try:
                record = self._tracer.attempt(self._step, {**self._batch, **variant.sizes}, self._build(init))
            except TargetError as error:
                return of_error(error, self._tracer.spans)
            finally:
                if knob.is_global:
                    namespace[name] = knob.value
        if record is None:
            return Outcome(Kind.UNKNOWN)
        return of_record(record, self._base, self._tracer.spans, self._inputs.batch)
