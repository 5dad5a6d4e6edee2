"""Exponents of sizes that a slice cannot be run at as it stands, from a second run of the user's model at another size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from vaelint.replay.replay import Replay, ReplayError
from vaelint.replay.scale import Scaling, measure


def grown(weight: Callable[[float, Mapping[str, int]], float], plain: Scaling, symbols: Mapping[str, int], replay: Replay) -> Scaling:
    """The scaling with the exponents that were unknown filled in, one size at a time; those that stay unknown are None.

    A plain number that looks like one over a size (`1.0 / n` tells nobody where n came from) makes that size's exponent unknown.
    """
    for symbol in [s for s, e in plain.exponents.items() if s != "B" and (e is None or _hidden(replay, symbols[s], plain.constant))]:
        other = replay.along(symbol)
        if other is None:
            continue
        for even in (1.0, 0.75):
            try:
                found = measure(partial(weight, even), {**symbols, "B": 3}, symbols, {symbol: other})
            except ReplayError:
                break
            exponent = found.exponents.get(symbol)
            if exponent is not None and exponent == round(exponent) and math.isfinite(plain.constant):
                exponents = {**plain.exponents, symbol: exponent}
                gained = exponent - (plain.exponents[symbol] or 0.0)  # what was known of it is not in the constant any more
                plain = Scaling(plain.value, exponents, plain.constant / symbols[symbol] ** gained)
                break
    return plain


def _hidden(replay: Replay, size: int, constant: float) -> bool:
    """Whether a plain number that something is multiplied with, or divided by, may have been worked out from a size.

    The constant that is left of a weight may be one as well: of a mask over `torch.arange(n)`, which has n entries at every size.
    """
    numbers = (*replay.factors, constant)
    return size > 2 and any(abs(abs(number) * by - 1) < 1e-9 for number in numbers for by in (size, 2 * size, size / 2, 1 / size))
