"""Law C2, for ranges: what the step compares with can be put out by the decoder, whatever the data are.

Intervention: the data are exchanged for others, of other places and widths. Where in every case a good part of a target that the step
makes of them lies outside of what the decoder's last activation can put out, no data would be reached: the step brings them to mean 0, or
to another range. A target that is the data as they came says nothing here, whose range is the user's to declare (VAE308).

Exempt: parts that a mask sets aside, and targets that a learned part has made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.replay.ranges import Range, value_range
from vaelint.rule import Found

_ERRORS = ("squared_error", "absolute_error", "log_cosh")
_OUTSIDE = 0.2  # of the elements
_BEYOND = 0.02  # of the target's own width
_OTHERS = ((1.0, 0.0), (1.0, 0.5), (0.1, 0.5), (3.0, -2.0), (0.3, 4.0))  # width and place of the data that are tried


@law(
    "targets-are-in-reach",
    "what the step makes of the data to compare with is in the range of the decoder's output",
    covered=("VAE304", "VAE308", "VAE309", "VAE310"),
)
def targets_are_in_reach(bench: Bench) -> Iterator[Broken]:
    """Errors of an output that an activation bounds, against a target that is computed from the data."""
    for fact in bench.model.recons:
        target = _made_target(bench, fact)
        reach = value_range(bench.model, fact.pair.recon) if target is not None else None
        if target is None or reach is None or reach.bound_by is None or reach.open_below or reach.open_above:
            continue
        shares = [_outside(value, reach) for value in _tried(bench, target)]
        if shares and min(shares) > _OUTSIDE:
            yield _broken(bench, fact, target, reach, min(shares))
            return


def _made_target(bench: Bench, fact: ReconFact) -> fx.Node | None:
    """A target of real numbers that the step computes from one input, and that nothing sets aside."""
    target, flow = fact.pair.target, bench.model.flow
    if target is None or fact.probe.kernel not in _ERRORS or target in flow.learned or not bench.knows(target) or not bench.is_real(target):
        return None
    if behind(target, ops.SHAPE | ops.CAST | ops.SELECT).op == "placeholder" or fact.pair.leaf.factors:
        return None
    sources = [seat for seat in bench.seats if seat.node in flow.ancestors(target)]
    return target if [seat.kind for seat in sources] == ["data"] else None


def _tried(bench: Bench, target: fx.Node) -> Iterator[torch.Tensor]:
    """The target of the run, and of data of other places and widths."""
    (seat,) = (s for s in bench.seats if s.node in bench.model.flow.ancestors(target))
    yield bench.value(target)
    data = bench.value(seat.node)
    noise = torch.rand(data.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(data)
    for width, place in _OTHERS:
        yield bench.after({seat.node: place + width * noise}, [target])[target]


def _outside(value: torch.Tensor, reach: Range) -> float:
    slack = _BEYOND * float(value.max() - value.min())
    return float(((value < reach.low - slack) | (value > reach.high + slack)).double().mean())


def _broken(bench: Bench, fact: ReconFact, target: fx.Node, reach: Range, share: float) -> Broken:
    model = bench.model
    squash = model.activation(fact.pair.recon) or reach.bound_by
    place = model.birth_of(squash) if squash is not None else None
    found = Found(
        place or model.where(squash) or model.where(fact.pair.meet),
        label=f"puts out [{round(reach.low, 6):.3g}, {round(reach.high, 6):.3g}]",
        labels=model.labels((target, "made of the data, and not in that range"), (fact.pair.meet, "compared here")),
        why="part of the target is out of reach for every reconstruction: the error has a floor",
        help="use an activation that covers the target (none for standardised data, tanh for [-1, 1], sigmoid for [0, 1]), or compare with "
        "data that are in its range",
    )
    text = f"of other data, whatever their values, at least {100 * share:.0f} % of {model.written(target)} are outside of it"
    return Broken("output-range", found, "for some data the target is in the decoder's range", text)
