"""Law B5, for multipliers that are plain numbers: what multiplies a constraint in the loss rises while the constraint is violated.

Intervention: the step runs again with the constraint raised, then lowered, where the code computes it, and with the multiplier at other
values before. Where the constraint is raised the multiplier must not fall from each of these values, and rise where it is lowered. Exempt
is a weight that goes to a value that follows from the data (the inverse of an average error): from some values it rises, from others it
falls.

Source: Rezende & Viola 2018, Taming VAEs (GECO), algorithm 1.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from vaelint.anatomy.loss.facts import KlFact, ReconFact
from vaelint.anatomy.loss.term_weights import Factor
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import span
from vaelint.rule import Found

_BUILDS = ("__init__", "__post_init__")
_MOST = 4  # values that the constraint is made of
_SIZES = (1.0, 30.0, 1000.0)  # of the constraint's own size
_STARTS = (0.1, 10.0)  # of the multiplier
_NOTHING = 1e-9


@dataclass(frozen=True)
class _Turn:
    """How often a step computes a value, the value, and the multiplier before and after it."""

    times: int
    value: float
    before: float
    after: float


@dataclass(frozen=True)
class _Moved:
    """A multiplier before, after a step with its constraint raised, and with it lowered."""

    start: float
    up: float
    down: float
    wrong: bool


@law(
    "number-multipliers-rise",
    "a multiplier that is a plain number rises while the constraint that it multiplies is violated",
    covered=("VAE311", "VAE407", "VAE902", "VAE905"),
    cost="all",
)
def number_multipliers_rise(bench: Bench) -> Iterator[Broken]:
    """Numbers that objects hold, that weigh a term, and that the code sets outside of constructors."""
    facts: list[ReconFact | KlFact] = [*bench.model.recons, *bench.model.kls]
    for factor in (f for fact in facts for f in fact.factors if f.origin == "named" and f.value is not None and f.value > 0):
        place = span(factor.node)
        writes = _writes(bench, factor, place) if place is not None else []
        constraint = next((n for n in factor.node.all_input_nodes if bench.is_real(n)), None)
        if place is None or not writes or constraint is None or not bench.knows(constraint):
            continue
        for source, sign in _sources(bench, constraint):
            at = span(source)
            if at is None:
                continue
            moved = _judged(bench, factor.text, at, sign)
            if moved is not None and moved.wrong:
                yield _wrong(bench, factor, writes[0], moved)
            if moved is not None:
                return


def _writes(bench: Bench, factor: Factor, place: Span) -> list[Span]:
    """Where the code of a weight's file sets the attribute outside of constructors, but for bounds that are put on it."""
    owner, _, name = factor.text.rpartition(".")
    if not owner.isidentifier() or not name.isidentifier():
        return []
    file = bench.model.source.file(place.file)
    built = {n for f in ast.walk(file.tree) if isinstance(f, ast.FunctionDef) and f.name in _BUILDS for n in ast.walk(f)}
    found = []
    for node in ast.walk(file.tree):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        if node not in built and any(isinstance(t, ast.Attribute) and t.attr == name for t in targets):
            assert isinstance(node, ast.stmt)
            found.append(Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1))
    return sorted(found, key=lambda s: s.line)


def _sources(bench: Bench, constraint: fx.Node) -> list[tuple[fx.Node, float]]:
    """The numbers that a constraint is made of, the last first, and which way it goes with each."""
    flow, base = bench.model.flow, bench.base
    near = [n for n in reversed(flow.sorted({constraint, *flow.ancestors(constraint)})) if n in flow.learned and bench.is_real(n)]
    scalars = [n for n in near if base.has(n) and base.value(n).numel() == 1 and base.value(n).requires_grad][:_MOST]
    slopes = base.gradient(bench.value_with_graph(constraint), [bench.value_with_graph(n) for n in scalars]) if scalars else []
    return [(n, math.copysign(1.0, float(g.sum()))) for n, g in zip(scalars, slopes, strict=True) if g is not None and float(g.sum())]


def _judged(bench: Bench, text: str, at: Span, sign: float) -> _Moved | None:
    """How a multiplier moves with a value; None where it does not, or the step does not run."""
    plain = _turn(bench, text, at, 0, 0.0, 1.0)
    for size in _SIZES if plain is not None else ():
        assert plain is not None
        by = sign * size * (1 + abs(plain.value))
        up, down = (_turn(bench, text, at, plain.times, way, 1.0) for way in (by, -by))
        if up is None or down is None or abs(up.after - down.after) <= _NOTHING * up.before:
            return None
        if up.after > down.after:
            return _Moved(up.before, up.after, down.after, wrong=False)
        if _is_wrong(up, down):
            more = [[_turn(bench, text, at, plain.times, way, start) for way in (by, -by)] for start in _STARTS]
            wrong = all(u is not None and d is not None and _is_wrong(u, d) for u, d in more)
            return _Moved(up.before, up.after, down.after, wrong)
    return None


def _is_wrong(up: _Turn, down: _Turn) -> bool:
    return up.after < up.before * (1 - _NOTHING) and down.after > down.before * (1 + _NOTHING)


def _turn(bench: Bench, text: str, at: Span, when: int, by: float, start: float) -> _Turn | None:
    """A run of the step in which a value is moved when it is computed for the last time, and the multiplier is multiplied then."""
    watching = _Watching(bench, text, at, when, by, start)
    with watching:
        run = bench.base.again(as_is=True)
    if run.record.failure is not None or watching.owner is None or not watching.before > 0:
        return None
    after = watching.held()
    return _Turn(watching.times, watching.value, watching.before, after) if math.isfinite(after) else None


class _Watching(TorchFunctionMode):
    """Moves a number that the user's code computes at one place, and the attribute that goes by a name there."""

    def __init__(self, bench: Bench, text: str, at: Span, when: int, by: float, start: float) -> None:
        super().__init__()
        self._spans, self._at, self._when, self._by, self._start = bench.model.tracer.spans, at, when, by, start
        self._object, _, self._name = text.rpartition(".")
        self.times, self.value, self.before = 0, 0.0, 0.0
        self.owner: object = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not isinstance(made, torch.Tensor) or made.numel() != 1 or not made.is_floating_point():
            return made
        frame = sys._getframe(1)
        if self._spans.stack(frame, limit=1) != (self._at,):
            return made
        self.times += 1
        if self._when not in (0, self.times):
            return made
        self.value = float(made.detach())
        self._set(frame)
        return made + self._by if self._by else made

    def held(self) -> float:
        """The attribute, as it is now."""
        value = vars(self.owner)[self._name]
        return float(value) if isinstance(value, int | float) else math.nan

    def _set(self, frame: FrameType | None) -> None:
        while frame is not None:
            owner = frame.f_locals.get(self._object)
            if hasattr(owner, "__dict__") and isinstance(vars(owner).get(self._name), int | float):
                self.owner = owner
                self.before = self.held() * self._start
                vars(owner)[self._name] = self.before
                return
            frame = frame.f_back


def _wrong(bench: Bench, factor: Factor, write: Span, moved: _Moved) -> Broken:
    found = Found(
        write,
        label="falls where the constraint is violated more",
        labels=bench.model.labels((factor.node, "multiplies the constraint here")),
        why="the multiplier goes to 0 while the constraint is not met, and without end once it is: the loss gives up what it was to hold",
        help="raise it with the constraint: multiplier *= exp(rate * constraint), for a loss of kl + multiplier * constraint",
    )
    text = f"{factor.text} goes from {moved.start:.4g} to {moved.up:.4g} with the constraint raised, to {moved.down:.4g} with it lowered"
    return Broken("multiplier-inverted", found, "a multiplier rises with its constraint", text)
