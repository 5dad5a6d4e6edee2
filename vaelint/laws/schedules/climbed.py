"""Law B4, for a ramp: a weight that is bounded by 1 takes values below its bound on the way there.

Intervention: the expression that a KL's weight is reckoned by is evaluated at whole numbers of the counter, the first ones one by one, then
further and further apart. What is given to `min(1, ...)` is above 0 and below 1 at some of them. Where it never is, and jumps from 0 to
beyond 1, either its rest is cut off (`epoch // n`), or a phase is divided by a share of a cycle and not by that share of its length.

Exempt are ramps of one step, which have nothing between, and weights without a bound: a switch that is meant compares.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1; Fu et al. 2019, Cyclical Annealing Schedule,
section 3.2.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.counted import is_counted
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.rule import Found
from vaelint.source.arithmetic import Bounds, NotArithmetic

_FIRST = 200
_FURTHER = tuple(round(_FIRST * 1.2**k) for k in range(1, 60))  # to ten million
_LONG = 2  # how many steps at 0, at least, tell of a rest that is cut off


@law("ramps-are-climbed", "a share that is bounded by 1 takes values between 0 and 1", covered=("VAE416", "VAE903"), cost="all")
def ramps_are_climbed(bench: Bench) -> Iterator[Broken]:
    """Weights of a KL that the user's code reckons from a counter."""
    told = _told(bench)
    for weight in reckoned_weights(bench):
        for counter, now in weight.counters():
            counts = counter.rpartition(".")[2] in told or is_counted(bench, weight, counter)
            if not counts or not any(_follows(weight, counter, at) for at in (now, 0.0)):
                continue
            for text, values in _given(weight, counter).items():
                if (place := _place(weight, text)) is not None and _jumps(values, _cuts_rests(weight)):
                    yield _broken(counter, text, values, place)
                    return


def _follows(weight: Reckoned, counter: str, now: float) -> bool:
    """Whether it has its value of the run at the counter's own value, and another one at some step."""
    try:
        if not math.isclose(weight.at(counter, now), weight.value, rel_tol=1e-6, abs_tol=1e-6):
            return False
        return any(not math.isclose(weight.at(counter, at), weight.value, rel_tol=1e-6) for at in (*range(_FIRST), *_FURTHER))
    except NotArithmetic:
        return False


def _told(bench: Bench) -> set[str]:
    """The names under which the step is told whole numbers."""
    code = getattr(bench.model.step, "code", "")
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return set()
    words = (k for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords)
    return {k.arg for k in words if k.arg and isinstance(k.value, ast.Constant) and type(k.value.value) is int}


def _given(weight: Reckoned, counter: str) -> dict[str, list[float]]:
    """What each call of `min` with 1 is given beside it, step by step."""
    heard: dict[str, list[float]] = {}
    for step in (*range(_FIRST), *_FURTHER):
        bounds: Bounds = []
        try:
            weight.at(counter, step, bounds)
        except NotArithmetic:
            return {}
        for text, given in bounds:
            if len(given) == 2 and given.count(1.0):
                heard.setdefault(text, []).append(next((v for v in given if v != 1.0), 1.0))
    return {text: values for text, values in heard.items() if len(values) == _FIRST + len(_FURTHER)}


def _jumps(values: list[float], cuts_rests: bool) -> bool:
    """Whether nothing lies between 0 and 1, and more than one step of a ramp would."""
    above = [v for v in values if v > 0]
    if not above or len(above) == len(values) or any(v < 1 for v in above):
        return False
    rests = next(i for i, v in enumerate(values) if v > 0)
    return min(above) > 1 or (cuts_rests and rests > _LONG)


def _cuts_rests(weight: Reckoned) -> bool:
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.FloorDiv) for _, n in weight.parts())


def _place(weight: Reckoned, text: str) -> Span | None:
    """Where a call is written."""
    for scope in (weight.scope, *weight.scopes):
        for node in ast.walk(scope.function):
            if scope.file and isinstance(node, ast.Call) and ast.unparse(node) == text:
                return Span(scope.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _broken(counter: str, text: str, values: list[float], place: Span) -> Broken:
    least = min(v for v in values if v > 0)
    first = next(i for i, v in enumerate(values) if v > 0)
    at = f", at {counter} = {first}" if first < _FIRST else ""
    found = Found(
        place,
        label=f"0, and then {least:g} at once{at}",
        when=f"{counter} moves on in training",
        why="the weight that is reckoned from it stays at its first value and then jumps to its last: there is no warm-up",
        help="divide with /, by the number of steps in which the weight is to rise",
    )
    measured = f"{text} is given no number between 0 and 1, for {len(values)} values of {counter} from 0 on"
    return Broken("kl-weight-stuck", found, "a share that is bounded by 1 takes values between 0 and 1", measured)
