"""Law C1: a likelihood that learns its own spread is a density.

Prediction: exp(-term) over all values of one element of the data adds up to one number, the same in every state of the decoder, for some
support that the data can have (the real line, an interval, counts, the levels that the data have or that the term itself tells, two ends)
and a weight of 1, 2 or 1/2. Where no support and no weight gives that, the spread that minimises the loss is not the one that the data
has. Where only a weight of 2 or 1/2 gives it, a Gaussian or Laplace law must add up to 1 there, or to what is left where its constant is:
else the log of its scale is halved.

What is added of the data alone is left out where the target is no part of it, or where the term is a density without it: no gradient sees
it, as the volume of a map of the data, d logit(x) / dx.

A term that only learns where the data lies is exempt (any distance does), and so are one that is weighed by detached values (beta-NLL),
counts times the logs of shares that add up to one (a multinomial), and data that are held against another input, element by element
(successes out of so many trials): which values they may have hangs on it.

Source: Bishop 2006, Pattern Recognition and Machine Learning, section 1.2.1; Salimans et al. 2017, PixelCNN++, eq. 2, for the bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.densities.elementwise import Elementwise, TooLargeError
from vaelint.laws.densities.missing_parts import is_censored, loose_weights, missing_part, missing_share
from vaelint.laws.densities.numbers import Number, Put, mending_number
from vaelint.laws.law import Broken, law
from vaelint.laws.supports.supports import (
    CIRCLES,
    HALF_LINE,
    LINE,
    SPREAD,
    SUPPORTS,
    Support,
    goes_round,
    hangs_on_an_end,
    has_values_alone,
    levels_of_data,
    may_be,
    own_levels,
    range_of_data,
)
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_FEWEST, _MOST = 24, 64  # states of the decoder
_WEIGHTS = (1.0, 0.5, 2.0)  # with the half that a formula may leave out, or have once too often
_QUICK = 600_000  # numbers of a curve that is taken many times
_TRUSTED = 0.85  # of the states must have a sum that does not hang on the grid
_HANGS = 0.02  # of log Z, that half of the points give otherwise
_FLAT = 0.01
_FAR = 1e4  # only what stands for infinity is that large
_UNMEASURED = 200.0  # of log Z: in some state the sum has met nothing of it
_TOLD = 0.25  # of the states, at least, must not hang on what happens right at an end
_BEYOND = math.log(0.004)  # of a state's sum
_COUNTED = 0.4  # and of those over counts, whose tails may be long


@law(
    "likelihoods-are-densities",
    "exp(-term) adds up to one number over the data's values, whatever the decoder puts out",
    covered=("VAE304", "VAE307", "VAE309", "VAE310", "VAE311", "VAE318", "VAE320", "VAE331"),
    cost="replay",
)
def likelihoods_are_densities(bench: Bench) -> Iterator[Broken]:
    """Likelihoods with a learned spread, element by element."""
    reasons: list[str] = []
    for one in Elementwise.all_of(bench):
        if not one.learns_its_spread or one.is_detached or one.is_known or one.has_data_elsewhere:
            continue
        try:
            if _is_of_shares(one) or is_censored(one):
                continue
            levels = levels_of_data(one)
            nearest = nearest_support(one, levels)
            if nearest is not None and nearest[0] > nearest[1].spread and one.of_data_alone and _over_another_measure(one):
                continue
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if nearest is not None and nearest[0] > _UNMEASURED:
            reasons.append("it is narrower than any grid in some state of the decoder")
        elif nearest is not None and nearest[0] > nearest[1].spread:
            holds = _mended(one, levels)
            mended = loose_weights(one, holds) or mending_number(one, holds) or missing_share(one, holds) or missing_part(one, holds)
            yield _broken(bench, one, mended, *nearest)
        elif nearest is not None and nearest[1].words == LINE and (halved := _halved(one, nearest[1])) is not None:
            yield _broken(bench, one, halved, *nearest)
    if reasons:
        raise CannotMeasureError(f"the likelihood cannot be added up: {reasons[0]}")


def _is_of_shares(one: Elementwise) -> bool:
    """Whether each element counts the log of its share of a whole, `-(x * log(p)).sum()`: a density of all elements at once."""
    curve = one.over(torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64))[one.core]
    slope = curve[1] - curve[0]
    if not torch.allclose(curve[2] - curve[0], 3 * slope, rtol=1e-5, atol=1e-8):
        return False
    shares = torch.exp(-slope).reshape([n for n in shape(one.at.target)[1:] if n != 1] or [1])
    return any(bool(((shares.sum(axis) - 1).abs() < 1e-3).all()) for axis in range(shares.dim()))


def _over_another_measure(one: Elementwise) -> bool:
    """Whether the term is a density without what is added of the data alone: of y, with a volume that is written of y."""
    found = nearest_support(replace(one, bare=True))
    return found is not None and found[0] <= found[1].spread


def is_density(one: Elementwise, support: Support, put: Put, weights: tuple[float, ...] = _WEIGHTS) -> bool:
    """Whether the term is a density over these values with some nodes changed; False where that does not run."""
    try:
        off = _spread_of_states(one, support, put, weights)
    except ReplayError:
        return False
    return off is not None and off <= support.spread


def nearest_support(one: Elementwise, levels: Support | None = None) -> tuple[float, Support] | None:
    """The support on which the term is nearest to a density, and how far log Z moves there; None where no sum could be trusted.

    `levels`: those that the data have.
    """
    best: tuple[float, Support] | None = None
    untried: TooLargeError | None = None
    failed: ReplayError | None = None
    untrusted: ReplayError | None = None
    between = range_of_data(one)
    for support in _supports(one, levels):
        try:
            off = _spread_of_states(one, support)
        except TooLargeError as error:
            untried = error
            continue
        except ReplayError as error:
            failed = error
            continue
        if off is not None and off <= support.spread:
            return off, support
        if off is None and support.words == HALF_LINE and levels is None and between[0] >= 0 and between[1] > 1:
            untrusted = ReplayError("no sum over positive numbers can be trusted")
        if off is not None and (best is None or off < best[0]) and support.holds(*between):
            best = (off, support)
    if untrusted is not None:
        raise untrusted
    if untried is not None:  # it may be a density over the values that were not tried
        raise untried
    if best is None and failed is not None:
        raise failed
    return best and (_over_own_levels(one, levels) or best)


def _supports(one: Elementwise, levels: Support | None) -> Iterator[Support]:
    """What is tried, the data's own levels early; of other levels those that the data may be of; no lines where a level has a value that
    nothing near it has: what is added up along a line takes no notice of it."""
    alone = levels is not None and has_values_alone(one, levels)
    if not alone:
        yield SUPPORTS[0]()
    if levels is not None:
        yield levels
    yield from (s for s in (make() for make in SUPPORTS[1:]) if may_be(levels, s) and not (alone and s.is_line))
    if not alone and goes_round(one):
        yield from (make() for make in CIRCLES)


def _over_own_levels(one: Elementwise, levels: Support | None) -> tuple[float, Support] | None:
    """The levels over which the term adds up to one number, where there are some. Raises TooLargeError where they cannot be looked for."""
    try:
        for support in own_levels(one, levels):
            off = _spread_of_states(one, support)
            if off is not None and off <= support.spread:
                return off, support
    except TooLargeError:
        raise
    except ReplayError:  # it does not take such values
        return None
    return None


def _spread_of_states(one: Elementwise, support: Support, put: Put = lambda *_: {}, weights: tuple[float, ...] = _WEIGHTS) -> float | None:
    """How much log Z differs between many states of the decoder: each element is one, and where what makes an element's state has fewer
    numbers (a scale that all share), the decoder puts out something else again."""
    curve = one.over(support.points, put=put(support.points, 0))[one.core][:, :_MOST]
    off = _least_spread(curve, support, weights)
    if off is not None and off > SPREAD and curve.shape[1] >= _FEWEST:
        return off
    for seed in range(1, min(8, -(-_FEWEST // one.fewest_numbers))):
        curve = torch.cat([curve, one.over(support.points, seed, put=put(support.points, seed))[one.core][:, :_MOST]], 1)
    return _least_spread(curve, support, weights)


def _least_spread(curve: torch.Tensor, support: Support, weights: tuple[float, ...]) -> float | None:
    """How much log Z differs between the states of the decoder, at the weight where it differs least."""
    found = []
    for weight in weights if support.words == LINE else (1.0,):
        spread = _spread(weight * curve, support)
        if spread is not None:
            found.append(spread)
            if spread <= SPREAD:
                break
    return min(found, default=None)


def _spread(curve: torch.Tensor, support: Support) -> float | None:
    """The same at one weight, over the states whose sum can be trusted: half of the points give the same, and no end holds much."""
    logs = support.log_mass[:, None] - curve
    z = torch.logsumexp(logs, 0)
    if support.ends:
        last = logs[-1] - z
        good = (last < -12) & (last - torch.log1p(-torch.exp(logs[-1] - logs[-2])) < _BEYOND)  # that much lies beyond, in equal ratios
    elif not support.step and support.points.numel() > 300:
        even, odd = (torch.logsumexp(logs[k::2], 0) + 0.6931471805599453 for k in (0, 1))
        good = ((even - z).abs() < _HANGS) & ((odd - z).abs() < _HANGS)
        if support.points[-1] > _FAR:  # what is as likely without end as it ever is has no sum
            outer = torch.minimum(curve[0], curve[-1]) if support.words == LINE else curve[-1]
            good &= outer > curve.min(0).values + _FLAT
    else:
        good = torch.ones_like(z, dtype=torch.bool)
    good &= z.isfinite()
    told = ~hangs_on_an_end(curve, support) if support.bounds else torch.ones_like(good)
    good &= told
    if int(good.sum()) < (_COUNTED if support.ends else _TRUSTED) * max(int(told.sum()), _TOLD * z.numel()):
        return None
    kept = z[good]
    return float(kept.max() - kept.min())


def _mended(one: Elementwise, levels: Support | None) -> Callable[[Put], bool]:
    """Whether the term is a density with some nodes changed, on supports that are quickly added up."""
    supports = [s for s in _supports(one, levels) if s.points.numel() * math.prod(shape(one.at.target)[1:]) < _QUICK]

    def holds(put: Put) -> bool:
        return any(is_density(one, support, put) for support in supports)

    return holds


def _halved(one: Elementwise, line: Support) -> Number | None:
    """The number that halves or doubles a part of the normaliser: a power of the error, with its scale, that is a density only at another
    weight, and there adds up to what neither its normaliser nor the lack of it explains. A factor of the whole term is a weight."""
    curve = one.over(line.points)[one.core][:, :_MOST]
    if _least_spread(curve, line, (1.0,)) is None or (_least_spread(curve, line, (1.0,)) or 0.0) <= SPREAD:
        return None
    weight = next((w for w in _WEIGHTS if (_spread(w * curve, line) or math.inf) <= SPREAD), None)
    power = _power(curve, line)
    if weight is None or power is None:
        return None
    whole = math.log(2.0) if power == 1 else 0.5 * math.log(2 * math.pi)
    left = float(torch.logsumexp(line.log_mass[:, None] - weight * curve, 0).median())
    if min(abs(left - k * whole) for k in ((1.0,) if power == 1 else (1.0, 0.5, 0.0, -0.5, -1.0))) < SPREAD:
        return None

    def holds(put: Put) -> bool:
        try:
            changed = one.over(line.points, put=put(line.points, 0))[one.core][:, :_MOST]
            off = _spread_of_states(one, line, put, (1.0,))
        except ReplayError:
            return False
        left = changed - weight * curve
        is_weight = torch.allclose(left, left.mean(), rtol=1e-6, atol=1e-6)  # of log 2 b, two weighed addends, log 2 is the constant
        return off is not None and off <= SPREAD and not is_weight

    return mending_number(one, holds)


def _power(curve: torch.Tensor, line: Support) -> int | None:
    """1 or 2 where the term grows from its lowest point as that power of the distance, for every state."""
    lowest, at = curve.min(0)
    kept = line.points[at].abs() < 8
    near, far = (curve.gather(0, torch.searchsorted(line.points, line.points[at] + by)[None])[0] - lowest for by in (1.0, 4.0))
    powers = (far / near)[kept].log() / math.log(4.0)
    for power in (1, 2):
        if powers.numel() >= 2 and bool(((powers - power).abs() < 0.08).all()):
            return power
    return None


def _broken(bench: Bench, one: Elementwise, number: Number | None, off: float, support: Support) -> Broken:
    model = bench.model
    label = "adds up to another number in each state of the decoder"
    found = Found(
        number.place if number is not None else model.where(one.core),
        label=number.words if number is not None else label,
        labels=model.labels((one.core, label), (one.at.target, "the data")),
        why="the spread that minimises the loss is not the data's: a part of the normaliser is missing or counted twice, "
        "or the bins overlap or leave gaps",
        help="write -log p(x) whole: log sigma once for each squared error over sigma^2; bins from (x - h) to (x + h) with h half of the "
        "step between two values of the data, and h divided by the scale as x is",
    )
    text = f"over no values (a line, an interval, steps, counts) is it one number: it differs by a factor of {math.exp(off):.3g} or more"
    if off <= support.spread:
        text = "it does at another weight alone, and not to the number of that density: the log of the scale is halved or doubled"
    return Broken("likelihood-not-normalised", found, "exp(-term) adds up to one number over the data's values", text)
