"""Law A10, for the spread of the data: what is generated is as wide as the likelihood says.

Intervention: the model's own method that draws is run with weights that are all elsewhere, and the likelihood is laid out over the data at
what the decoder's last layers put out there. A Gaussian's curvature over the data is w / v, its variance v and one weight w for all
elements; the method draws the data as mean + s noise. Prediction: v goes as s^2 over the elements. Where it goes as s, one of the two
takes a standard deviation for a variance.

Exempt are likelihoods that are no Gaussians, spreads that are alike for all elements, and methods that give the mean alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import fx

from vaelint.core.finding import Label
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.generation import generated, generators, using
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, shape, span
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_POINTS = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
_ROWS = 3
_FEWEST = 4
_PARABOLA = 1e-6
_VARIES = 0.05  # of the logarithm of the spread, from element to element
_SAME = 5e-3


@law(
    "generated-data-spreads-as-charged",
    "what is generated has the spread that the likelihood charges the data with",
    covered=("VAE310", "VAE318", "VAE331"),
    cost="all",
)
def generated_data_spreads_as_charged(bench: Bench) -> Iterator[Broken]:
    """Gaussian likelihoods with a scale for each element, and methods that draw the data with it."""
    learned = [one for one in Elementwise.all_of(bench) if one.learns_its_spread and not one.is_detached and not one.has_data_elsewhere]
    if not learned:
        return
    for name in generators(bench):
        record = generated(bench, name)
        if record is None:
            continue
        for (noise, scale), one in product(list(_drawn(record)), learned):
            if shape(noise)[1:] == shape(one.at.target)[1:] and _takes_it_for_a_variance(one, record, scale):
                yield _broken(bench, name, one, noise)
                return


def _drawn(record: Record) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Noise that no layer reads, and what scales it."""
    for node in record.nodes:
        given = ops.value_inputs(node)
        if ops.op(node) == "normal" and len(given) == 2:
            yield node, given[1]
            continue
        factors = given[1:] if ops.op(node) == "addcmul" else given if ops.op(node) in ops.MUL else []
        if len(factors) == 2:
            for noise, scale in (factors, factors[::-1]):
                if ops.op(noise) in ("randn", "randn_like", "normal") and not ops.value_inputs(noise)[1:] and shape(scale) == shape(noise):
                    yield noise, scale


def _takes_it_for_a_variance(one: Elementwise, record: Record, scale: fx.Node) -> bool:
    """Whether the likelihood's variance goes as the scale of the draws, and not as its square."""
    twins = {n: using(record, n) for n in one.at.raw}
    if one.at.parameters or any(t is None or shape(t)[1:] != shape(n)[1:] for n, t in twins.items()):
        return False
    charged, spread = [], []
    for row in range(_ROWS):
        put = {n: _row(t, row).expand(len(_POINTS), *shape(n)[1:]).clone() for n, t in twins.items() if t is not None}
        try:
            curve = one.over(_POINTS, put=put)[one.core]
        except ReplayError as error:
            raise CannotMeasureError(f"the likelihood does not run by itself: {message_of(error)}") from error
        bends = curve[2:] - 2 * curve[1:-1] + curve[:-2]
        if not bool((bends > 0).all()) or float(((bends - bends[:1]) / bends[:1]).abs().max()) > _PARABOLA:
            return False
        charged.append(-bends[0].log())
        spread.append(_row(scale, row).flatten().abs().log())
    v, s = torch.cat(charged), torch.cat(spread)
    if len(s) < _FEWEST or not bool(s.isfinite().all()) or float(s.std()) < _VARIES:
        return False
    return float((v - s).std()) < _SAME


def _row(node: fx.Node, row: int) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"].detach().double().cpu()
    return value[row : row + 1]


def _broken(bench: Bench, name: str, one: Elementwise, noise: fx.Node) -> Broken:
    model, place = bench.model, span(noise)
    found = Found(
        model.where(one.core),
        label=f"the variance here is what {name} draws with as a standard deviation",
        labels=(Label(place, f"{name} draws the data with it"),) if place is not None else (),
        why="the two disagree on what the decoder puts out: what is generated is not spread as the data that it was fitted to",
        help="let the likelihood have the square of the standard deviation (std**2), or, where the decoder is meant to put out a variance, "
        f"draw with its root in {name}",
    )
    text = "over the elements, the likelihood's variance is in proportion to the scale of the draws, not to its square"
    return Broken("generation-differs", found, "the variance of the likelihood is the square of the scale of the draws", text)
