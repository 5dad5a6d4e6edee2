"""Law C1, for the place of the bins: a likelihood of grey levels adds up to one over the levels that the data have.

Prediction: where exp(-term) adds up to one over 256 or 32 steps of some interval, ends included, that interval is the range of the data as
they are handed to it. Bins for [-1, 1] are twice too wide for data in [0, 1], and its lower edge is never met.

Only data whose range is declared is asked, and only ranges that images commonly have. Densities over a line or over positive numbers
have no ends, and are exempt; so are those that add up to one over the data's own levels, or over their whole range, as well.

Source: Salimans et al. 2017, PixelCNN++, section 2.1 (the edge cases 0 and 255).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.densities.normalised import is_density
from vaelint.laws.law import Broken, law
from vaelint.laws.supports.supports import Support
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.replay.ranges import declared_range, value_range
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.5, 0.5))
_LEVELS = (256, 32)
_COUNTS = (0.0, 255.0)  # a likelihood of counts adds up to one there too, and data of 0 and 1 are counts
_SAME = 1e-3


@law(
    "bins-lie-where-the-data-lies",
    "a likelihood of grey levels adds up to one over the levels that the data have",
    covered=("VAE309", "VAE331"),
    cost="replay",
)
def bins_lie_where_the_data_lies(bench: Bench) -> Iterator[Broken]:
    """Likelihoods with a learned spread, of data whose range is declared."""
    reasons: list[str] = []
    for one in Elementwise.all_of(bench):
        data = _range(bench, one)
        if data is None or not one.learns_its_spread or one.is_detached or one.is_known or one.has_data_elsewhere:
            continue
        try:
            bins = _bins(one, data)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if bins is not None:
            yield _broken(bench, one, data, *bins)
    if reasons:
        raise CannotMeasureError(f"the likelihood does not run by itself: {reasons[0]}")


def _range(bench: Bench, one: Elementwise) -> tuple[float, float] | None:
    """Which of the common ranges the data have, as they come to the likelihood."""
    model, target = bench.model, one.at.target
    sources = [n for n in model.flow.ancestors(target) | {target} if n.op == "placeholder"]
    if not sources or target in model.flow.learned or any(declared_range(model, n) is None for n in sources):
        return None
    reach = declared_range(model, target) if target.op == "placeholder" else None
    if target.op != "placeholder" and (found := value_range(model, target)) is not None:
        reach = found.low, found.high
    return next(
        (r for r in _RANGES if reach is not None and all(math.isclose(a, b, abs_tol=_SAME) for a, b in zip(r, reach, strict=True))), None
    )


def _bins(one: Elementwise, data: tuple[float, float]) -> tuple[tuple[float, float], int] | None:
    """The range and the number of levels that the term is a density over, where it is none over the data's."""
    one.over(torch.tensor(data, dtype=torch.float64))  # raises where it does not run
    for levels in _LEVELS:
        for other in _RANGES:
            if other not in (data, _COUNTS) and is_density(one, _over(*other, levels), _unchanged):
                own = (_over(*data, levels), _over(*data, 8 * levels), _within(*data))
                return None if any(is_density(one, support, _unchanged) for support in own) else (other, levels)
    return None


def _over(low: float, high: float, levels: int) -> Support:
    points = torch.linspace(low, high, levels, dtype=torch.float64)
    return Support(f"{levels} levels", points, torch.zeros_like(points), ends=False)


def _within(low: float, high: float) -> Support:
    points = torch.linspace(low, high, 1201, dtype=torch.float64)[:-1] + (high - low) / 2400
    return Support("the whole range", points, torch.full_like(points, (high - low) / 1200).log(), ends=False)


def _unchanged(*_: object) -> dict[fx.Node, torch.Tensor]:
    return {}


def _broken(bench: Bench, one: Elementwise, data: tuple[float, float], other: tuple[float, float], levels: int) -> Broken:
    model = bench.model
    where, own = (f"[{low:g}, {high:g}]" for low, high in (other, data))
    found = Found(
        _handed_over(bench, one) or model.where(one.core),
        label=f"data in {own}, and bins for {where}",
        labels=model.labels((one.core, "the likelihood"), (one.at.target, "the data")),
        why="the bins are not those of the data's levels: their width is another, and one edge is where no data is",
        help=f"hand the likelihood the data brought to {where}, or make its bins and edges those of {own}",
    )
    text = (
        f"it adds up to one over {levels} levels of {where}, and to another number for each output over those of [{data[0]:g}, {data[1]:g}]"
    )
    return Broken("likelihood-not-normalised", found, "it adds up to one over the levels of the data", text)


def _handed_over(bench: Bench, one: Elementwise) -> Span | None:
    """Where the function is called that computes the likelihood, if it is one of its own: no layer of the network is applied in it."""
    model, places = bench.model, route(one.core)
    functions = [model.source.function(place) for place in places]
    if not places or functions[0] is None:
        return None
    layers = [n for n in model.record.nodes if ops.uses_parameter(n) and n not in one.inside]
    working = {id(model.source.function(place)) for n in layers for place in route(n)}
    if id(functions[0]) in working:
        return None
    return next((place for place, f in zip(places, functions, strict=True) if f is not None and f is not functions[0]), None)
