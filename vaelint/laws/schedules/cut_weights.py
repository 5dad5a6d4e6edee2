"""Law B4, for the rest: a weight that is reckoned from a counter is not cut to one number by a division that leaves whole numbers.

Intervention: the expression that a KL's weight is reckoned by is evaluated at many values of a counter that the code counts on, as it is
written, and with the rest that one `//`, `int` or `round` throws away. Where it is one number at all of them, and a schedule with the rest,
the cut took the schedule. Exempt are weights that move at all, however late, and those that the rest hardly moves.

Source: Fu et al. 2019, Cyclical Annealing Schedule, section 3.2.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.counted import is_counted, is_made_by
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.rule import Found
from vaelint.source.arithmetic import NotArithmetic

_STEPS = (*range(400), *(k * by for by in (7, 131, 2511, 48611, 913001, 17212345) for k in range(60)))
_A_WAY = 0.5  # of the largest weight
_WHOLE = ("int", "round", "floor")


@law("schedules-keep-their-rests", "a weight that follows a counter takes more than one value", covered=("VAE416", "VAE903"), cost="all")
def schedules_keep_their_rests(bench: Bench) -> Iterator[Broken]:
    """Weights of a KL that the user's code reckons from a number that it counts up."""
    for weight in reckoned_weights(bench):
        counters = [c for c, now in weight.counters() if is_counted(bench, weight, c) and is_made_by(weight, c, now)]
        for counter in counters if any(True for _ in _cuts(weight)) else ():
            for place, text in _cuts(weight):
                if (way := _way(weight, counter, text)) is not None:
                    yield _stuck(weight, counter, place, way)
                    return


def _cuts(weight: Reckoned) -> Iterator[tuple[Span, str]]:
    """Where something is cut to a whole number on the way to the weight, and how it is written."""
    for scope, node in weight.parts():
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv)
        calls = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _WHOLE
        if isinstance(node, ast.BinOp | ast.Call) and (divides or calls) and scope.file:
            yield Span(scope.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1), ast.unparse(node)


def _way(weight: Reckoned, counter: str, uncut: str) -> tuple[float, float] | None:
    """The least and the largest weight with the rest of one cut, where as it is written it is one number; else None."""
    try:
        if len({weight.at(counter, step) for step in _STEPS}) != 1:
            return None
        exact = [weight.at(counter, step, uncut=uncut) for step in _STEPS]
    except NotArithmetic:
        return None
    return (min(exact), max(exact)) if max(exact) - min(exact) > _A_WAY * max(map(abs, exact)) else None


def _stuck(weight: Reckoned, counter: str, place: Span, way: tuple[float, float]) -> Broken:
    found = Found(
        place,
        label=f"a whole number: the weight is {weight.value:g} at every {counter}",
        when=f"{counter} moves on in training",
        why="there is no schedule: the KL has one weight in all of the training" + (", and it is 0" if weight.value == 0 else ""),
        help="divide with /, and keep the rest",
    )
    text = f"{weight.value:g} for {len(_STEPS)} values of {counter} from 0 to 1e9; {way[0]:.3g} to {way[1]:.3g} with the rest"
    return Broken("kl-weight-stuck", found, "a weight that follows a counter takes more than one value", text)
