"""How a weight moves with each size: the exponent of every dimension, by running the slice at other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from vaelint.late import dataclass
from vaelint.replay.replay import ReplayError

_REDUCED = {0.0: "sum over", -1.0: "mean over", -2.0: "averaged twice over"}


@dataclass
class Scaling:
    """A weight as `constant * prod(symbol ** exponent)`; `None` marks a size that could not be varied."""

    value: float  # at the user's sizes
    exponents: dict[str, float | None] = field(default_factory=dict)
    constant: float = 0.0

    def text(self) -> str:
        """`0.5 / (B*D)`."""
        return format_product(self.constant, {k: v for k, v in self.exponents.items() if v})

    def reduction(self, own: Sequence[str]) -> str:
        """How a term comes from one number an element over the batch and its `own` sizes: `mean over B, sum over H, sum over W`."""
        words = []
        for symbol in dict.fromkeys(("B", *own)):
            exponent = self.exponents.get(symbol, 0.0)
            how = "at a fixed" if exponent is None else _REDUCED.get(exponent, f"power {exponent:g} of")
            words.append(f"{how} {symbol}")
        return ", ".join(words)

    def __abs__(self) -> Scaling:
        """The same without its sign."""
        return Scaling(abs(self.value), self.exponents, abs(self.constant))

    def holding(self, fixed: Sequence[str], actual: Mapping[str, int]) -> Scaling:
        """The same with some sizes as they are, for what cannot be had at others."""
        powers = {s: self.exponents.get(s) or 0.0 for s in fixed}
        constant = self.constant * math.prod(actual[s] ** power for s, power in powers.items())
        return Scaling(self.value, {**self.exponents, **dict.fromkeys(powers)}, constant)

    def form(self) -> str:
        """`?/(B*D)`: how it moves, for a term whose unit is not known."""
        return format_product(math.nan, {k: v for k, v in self.exponents.items() if v}).replace("nan", "?")


def measure(
    weight: Callable[[Mapping[str, int]], float], base: Mapping[str, int], actual: Mapping[str, int], vary: Mapping[str, int]
) -> Scaling:
    """Runs `weight(sizes)` at `base` and with each symbol of `vary` at its other value.

    The exponent of a symbol is the log-ratio of weights over the log-ratio of sizes, rounded when it is whole to 1e-4. One beyond -1 and 1
    must hold at a third size too: 1 / (B - 8), the last part of a batch that was cut in three, looks like 1 / B^2 between 12 and 24.
    Raises `ReplayError` when not even the base runs.
    """
    here = weight(base)
    exponents: dict[str, float | None] = {}
    for symbol, other in vary.items():
        try:
            there = weight({**base, symbol: other})
        except ReplayError:
            exponents[symbol] = None
            continue
        if not math.isfinite(here) or not math.isfinite(there) or here == 0 or there == 0 or (here < 0) != (there < 0):
            exponents[symbol] = None
            continue
        power = math.log(there / here) / math.log(other / base[symbol])
        power = float(round(power)) if abs(power - round(power)) < 1e-4 else power
        third = 2 * other - base[symbol]
        holds = abs(power) <= 1 or _reaches(weight, {**base, symbol: third}, here * (third / base[symbol]) ** power)
        exponents[symbol] = power if holds else None
    constant = here
    for symbol, exponent in exponents.items():
        if exponent:
            constant /= base[symbol] ** exponent
    value = constant
    for symbol, exponent in exponents.items():
        if exponent:
            value *= actual[symbol] ** exponent
    return Scaling(value, exponents, constant)


def _reaches(weight: Callable[[Mapping[str, int]], float], sizes: Mapping[str, int], predicted: float) -> bool:
    """Whether a weight is what it was predicted to be; a size that does not run says nothing against it."""
    try:
        return math.isclose(weight(sizes), predicted, rel_tol=1e-3)
    except ReplayError:
        return True


def ratio(top: Scaling, bottom: Scaling, actual: Mapping[str, int]) -> Scaling:
    """The quotient of two weights; a size unknown in one of them counts as 0 there."""
    symbols = {**top.exponents, **bottom.exponents}
    exponents: dict[str, float | None] = {s: (top.exponents.get(s) or 0.0) - (bottom.exponents.get(s) or 0.0) for s in symbols}
    constant = top.constant / bottom.constant if bottom.constant else math.nan
    value = constant
    for symbol, exponent in exponents.items():
        if exponent:
            value *= actual.get(symbol, 1) ** exponent
    return Scaling(value, exponents, constant)


def format_product(constant: float, exponents: Mapping[str, float | None]) -> str:
    """`constant * B^-1 * D` as people write it: `D/B`, `0.5/(B*L)`."""
    over = [_power(s, e) for s, e in exponents.items() if e and e > 0]
    under = [_power(s, -e) for s, e in exponents.items() if e and e < 0]
    number = _number(constant)
    top = "*".join(over) if over and number == "1" else "*".join([number, *over])
    if not under:
        return top
    bottom = under[0] if len(under) == 1 else f"({'*'.join(under)})"
    return f"{top}/{bottom}"


def _power(symbol: str, exponent: float) -> str:
    return symbol if exponent == 1 else f"{symbol}^{exponent:g}"


def _number(value: float) -> str:
    return f"{value:.6g}"
