"""Law B4, for the direction: the weight of the KL does not wait at its first value and then fall to nothing as training goes on.

Intervention: the expression that a KL's weight is reckoned by is evaluated at other values of a counter that the code counts up. A
logistic warm-up with the sign of its exponent turned stays near its largest value first, and ends at 0. Exempt are weights that end at a
floor, those that fall from the first step on (a decay that was chosen), counters that nothing counts up, and losses with a further term,
or a weight that rises meanwhile: what one gives up, the other takes over.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.counted import is_counted, is_made_by
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.rule import Found
from vaelint.source.arithmetic import NotArithmetic

_TIMES = (0.0, 1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
_WAITS = 0.05  # of the first value, that it may have lost a tenth of the way to its half
_NOTHING = 1e-4  # of the first value


@law("warm-ups-rise", "the weight of the KL does not wait and then fall to nothing", covered=("VAE416", "VAE903"), cost="all")
def warm_ups_rise(bench: Bench) -> Iterator[Broken]:
    """Weights of the only KL that the user's code reckons from a number that it counts up."""
    if len(bench.model.kls) != 1 or any(t.role not in ("kl", "reconstruction") for t in bench.model.terms):
        return
    weights = reckoned_weights(bench)
    for weight in weights:
        for counter, now in weight.counters():
            if not is_counted(bench, weight, counter) or not is_made_by(weight, counter, now) or any(_rises(w, counter) for w in weights):
                continue
            if (half := _falls(weight, counter)) is not None:
                yield _turned(weight, counter, half)
                return


def _way(weight: Reckoned, counter: str) -> list[tuple[float, float]]:
    """The weight at times up to where it can be reckoned."""
    found = []
    for time in _TIMES:
        try:
            found.append((time, weight.at(counter, time)))
        except NotArithmetic:
            break
    return found


def _rises(weight: Reckoned, counter: str) -> bool:
    way = _way(weight, counter)
    return len(way) > 1 and way[-1][1] > way[0][1]


def _falls(weight: Reckoned, counter: str) -> float | None:
    """When a weight that waited, and goes down to nothing, has come to its half."""
    way = _way(weight, counter)
    if len(way) < len(_TIMES) - 3 or way[0][1] <= 0 or way[-1][1] < 0 or any(b > a for (_, a), (_, b) in pairwise(way)):
        return None
    first, last = way[0][1], way[-1][1]
    low, high = next(((a, b) for (a, _), (b, value) in pairwise(way) if value < first / 2), (0.0, 0.0))
    if last > _NOTHING * first or not high:
        return None
    try:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if weight.at(counter, middle) > first / 2 else (low, middle)
        waited = weight.at(counter, high / 10) > (1 - _WAITS) * first
    except NotArithmetic:
        return None
    return high if waited and high > 1 else None


def _turned(weight: Reckoned, counter: str, half: float) -> Broken:
    first, late = weight.at(counter, 0), weight.at(counter, 4 * half)
    found = Found(
        weight.written_at(counter, 0),
        label=f"{first:.3g} at first, {first / 2:.3g} when {counter} is {half:.4g}, then nothing",
        when=f"{counter} moves on in training",
        why="the warm-up runs the other way: the KL is strongest at the start, where it empties the codes, and gone at the end, "
        "where nothing holds the posterior to the prior",
        help="turn the sign of the exponent, or take 1 minus this",
    )
    text = f"{first:.3g} for {counter} = 0, {weight.at(counter, half):.3g} for {half:.4g}, {late:.3g} for {4 * half:.4g}"
    return Broken("kl-weight-stuck", found, "the weight of the only KL does not end at nothing", text)
