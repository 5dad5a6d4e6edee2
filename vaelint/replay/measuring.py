"""How the weight of any term moves with every size: at which sizes to run it, and what to make of what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from torch import fx

from vaelint.replay.growing import grown
from vaelint.replay.replay import Replay, ReplayError
from vaelint.replay.scale import Scaling, measure

Weight = Callable[[float, Mapping[str, int]], float]

EVENS = (1.0, 1e-30, 0.75)
"""The shares of their largest value that inputs are set to, all elements alike."""


def own_symbols(texts: tuple[str, ...], symbols: Mapping[str, int]) -> tuple[str, ...]:
    """The named dimensions of a shape, the batch aside."""
    return tuple(t for t in texts if t in symbols and t != "B")


def bases(symbols: Mapping[str, int]) -> list[dict[str, int]]:
    """Sizes to probe at: small ones, and the user's own with a small batch where the code insists on them."""
    small = {s: 1 if n == 1 else 3 if s == "B" else 2 if s.startswith("L") else 4 for s, n in symbols.items()}
    return [small, {**symbols, "B": 3}, dict(symbols)]


def measured(weight: Weight, symbols: Mapping[str, int], replay: Replay, fixed: str = "", at: fx.Node | None = None) -> Scaling | None:
    """The scaling of a weight; sizes at which the slice does not run as it stands are varied with its constants stretched along.

    Args:
        weight: of one element, with all elements of the inputs at a share of their largest value, at sizes.
        symbols: the sizes of the recorded run.
        replay: runs the slice.
        fixed: a size that is not varied.
        at: the value whose elements are weighed; its rows may be some of the batch.
    """
    scaling = _measured(weight, symbols, replay, fixed)
    picked = picked_rows(replay, at) if at is not None and scaling is not None else None
    return scaling if scaling is None or picked is None else _moved_by_rows(scaling, weight, symbols, *picked)


def picked_rows(replay: Replay, at: fx.Node) -> tuple[str, int] | None:
    """How many rows a value has that is of some of the batch, as a size is named and counted; None for a value of all of it."""
    return next(((text, int(at.meta["val"].shape[d])) for d, text in enumerate(replay.texts_of(at)) if text.startswith("~")), None)


def _measured(weight: Weight, symbols: Mapping[str, int], replay: Replay, fixed: str) -> Scaling | None:
    plain = _measured_plainly(weight, symbols, fixed)
    plain = grown(weight, plain, symbols, replay) if plain is not None else None
    unknown = [s for s, e in plain.exponents.items() if e is None and s != "B"] if plain is not None else []
    if plain is None or not unknown:
        return plain
    with replay.stretched():
        again = _measured_plainly(weight, symbols, fixed)
    if again is None or abs(again.value - plain.value) > 1e-4 * abs(plain.value):
        return plain  # what was stretched is not what it was taken for
    exponents = {s: again.exponents.get(s) if e is None else e for s, e in plain.exponents.items()}
    constant = plain.constant
    for s in unknown:
        constant /= symbols[s] ** (exponents[s] or 0.0)
    return Scaling(plain.value, exponents, constant)


def _moved_by_rows(scaling: Scaling, weight: Weight, symbols: Mapping[str, int], text: str, rows: int) -> Scaling:
    """The scaling of a weight on rows that a mask picks, or on a part of the batch.

    No size says how many (`text`), but of two batches there are twice as many.

    Where their number cannot be varied, how the weight moves with the batch is not known.
    """
    try:
        here, there = (abs(weight(EVENS[0], {**symbols, text: n})) for n in (rows, 2 * rows))
    except ReplayError:
        here = there = 0.0
    power = math.log2(there / here) if here and there else math.nan
    own = scaling.exponents.get("B", 0.0)
    if own is None or not math.isfinite(power) or abs(power - round(power)) > 1e-4:
        return Scaling(scaling.value, {**scaling.exponents, "B": None}, scaling.constant * symbols.get("B", 1) ** (own or 0.0))
    return Scaling(scaling.value, {**scaling.exponents, "B": own + round(power)}, scaling.constant / symbols.get("B", 1) ** round(power))


def _measured_plainly(weight: Weight, symbols: Mapping[str, int], fixed: str) -> Scaling | None:
    """Runs with inputs all 1 (masks let through), or all next to 0 (masks of what is left out do), or all 3/4 (counts stay finite).

    `fixed` is not varied.

    None where the weight moves with a size by no whole power: it depends on the values, not only on the sizes. A weight that moves with
    a size nobody knows how is only that of the size it was measured at.
    """
    second: Scaling | None = None
    for base in bases(symbols):
        if fixed:
            base = {**base, fixed: symbols[fixed]}
        vary = {s: base[s] * 2 for s, n in symbols.items() if s != fixed and n > 1}
        for even in EVENS:
            try:
                found = measure(partial(weight, even), base, symbols, vary)
            except ReplayError:
                break
            whole = all(e is None or e == round(e) for e in found.exponents.values())
            if not math.isfinite(found.constant):
                continue
            if found.constant and whole and found.exponents.get("B", 0.0) is not None:
                return found
            there = all(base[s] == symbols[s] for s, e in found.exponents.items() if e is None)  # its value is that at the user's sizes
            second = second or (found if found.constant and whole and there else None)
        if second is not None:
            return second
    return None
