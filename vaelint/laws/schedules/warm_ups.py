"""Law B4, for the end: a weight that stays where it is until a counter has come to what it is divided by comes to rest there.

Intervention: the expression that a KL's weight is reckoned by is evaluated at other values of each number it is reckoned from. A warm-up
rises up to its length and stays; a weight that stays up to that length and rises without end from there on has the two exchanged, as
`max` for `min` does. Exempt are weights that rise from another place than the divisor (a floor under a ramp), weights of a counter that is
past the place already, and all that come to rest.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.rule import Found
from vaelint.source.arithmetic import NotArithmetic

_LEAST = 2  # steps of a warm-up
_END = 1e7  # steps: beyond any warm-up
_FAR = (2.0, 5.0, 100.0, 1e4)  # lengths of the warm-up
_CLOSE = 1e-5


@law("warm-ups-come-to-rest", "a weight that waits for a warm-up's length comes to rest there", covered=("VAE416", "VAE903"), cost="all")
def warm_ups_come_to_rest(bench: Bench) -> Iterator[Broken]:
    """Weights of a KL that the user's code reckons from a number."""
    for weight in reckoned_weights(bench):
        for counter, now in weight.counters():
            if weight.value > 0 and weight.follows(counter, now) and (length := _waits(weight, counter, now)) is not None:
                yield _grows(weight, counter, length)
                return


def _waits(weight: Reckoned, counter: str, now: float) -> float | None:
    """Up to where a weight stays that rises in a straight line for ever beyond; None where there is no such place, or none by a divisor."""
    try:
        here = weight.at(counter, 0)
        rise = (weight.at(counter, 2 * _END) - weight.at(counter, _END)) / _END
        if here <= 0 or rise <= 0:
            return None
        begin = _END - (weight.at(counter, _END) - here) / rise
        lengths = (here / rise, begin)  # of the ramp from 0, and of all up to where it leaves its start
        if begin < _LEAST or now > begin or not any(math.isclose(n, d, rel_tol=_CLOSE) for d in weight.divisors() for n in lengths):
            return None
        still = all(math.isclose(weight.at(counter, share * begin), here, rel_tol=_CLOSE) for share in (0.25, 0.5, 0.75, 0.999))
        grows = all(math.isclose(weight.at(counter, far * begin), here + rise * (far - 1) * begin, rel_tol=_CLOSE) for far in _FAR)
    except NotArithmetic:
        return None
    return begin if still and grows else None


def _grows(weight: Reckoned, counter: str, length: float) -> Broken:
    value, twice, far = weight.value, weight.at(counter, 2 * length), weight.at(counter, 100 * length)
    found = Found(
        weight.written_at(counter, 0),
        label=f"stays {value:.3g} until {counter} is {length:g}, and grows without end from there on",
        when=f"{counter} moves on in training",
        why=f"there is no warm-up: the KL weighs {value:.3g} from the start, and {far:.3g} once {counter} is {100 * length:g}",
        help="bound it from above: min, not max",
    )
    text = f"{value:.3g} for {counter} = 0 to {length:g}, {twice:.3g} at {2 * length:g}, {far:.3g} at {100 * length:g}"
    return Broken("kl-weight-stuck", found, "a weight that waits for a length comes to rest there", text)
