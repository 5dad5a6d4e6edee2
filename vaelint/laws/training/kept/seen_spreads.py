"""Law B5, for running statistics: after each step the spread by which data are scaled is that of what was seen.

Intervention: two steps are run one after the other, with data whose mean is far from 0 and another one the second time; then the same with
all data shifted. Where the running mean is the mean of all that was seen, the statistics are exact, and what divides the data is their
spread, over all that was seen or before this step, and no shift moves it. Exempt are moving averages, whose mean is another one, averages
of the spreads of the batches, a range or another measure of spread, and first values that weigh as much as some samples.

Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.recompute import in_place
from vaelint.experiment.runs import Prepare
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import root_of
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.rule import Found

_EXACT = 1e-3
_NEAR = 0.1  # of the spread: a first value, a bound from below and n - 1 for n move it less
_SHIFTS = ((1.0, 6.0), (0.5, -3.0))  # scale and shift of the data, in their own spreads
_ALL = 10.0  # both are shifted by the second time


@dataclass(frozen=True)
class _Scaled:
    """Data less a running mean, divided by a spread."""

    data: fx.Node
    mean: fx.Node
    spread: fx.Node


@law("spreads-are-of-what-was-seen", "data are divided by the spread of what was seen", covered=("VAE902", "VAE925"), cost="all")
def spreads_are_of_what_was_seen(bench: Bench) -> Iterator[Broken]:
    """Data of real numbers that are scaled by statistics which the step itself keeps, without a layer of torch's."""
    written = {str(root_of(n).target) for n in bench.model.record.nodes if in_place(n) and root_of(n).op == "get_attr"}
    found = [s for s in _scaled(bench) if str(s.mean.target) in written] if len(written) > 1 else []
    if not found:
        return
    (model, runs), (_, others) = _twice(bench, 0.0), _twice(bench, _ALL)
    for one in found:
        mean = dict(model.named_buffers()).get(str(one.mean.target))
        ratio = _ratio(one, runs, mean) if mean is not None else None
        if ratio is not None and abs(_apart(others[-1].value(one.spread), runs[-1].value(one.spread))) > _NEAR:
            yield _broken(bench, one, ratio)
            return


def _twice(bench: Bench, further: float) -> tuple[torch.nn.Module, list[Trial]]:
    """A model after two steps, and the steps."""
    built = bench.base.runner.build()
    runs = [bench.base.again(prepare=_moved(bench, scale, shift + further), built=built) for scale, shift in _SHIFTS]
    if any(run.record.failure is not None for run in runs):
        raise CannotMeasureError("the step does not take other data")
    return built.model, runs


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The logarithm of how many times one spread is the other."""
    return float((a.detach().double() / b.detach().double()).log().mean())


def _scaled(bench: Bench) -> Iterator[_Scaled]:
    flow = bench.model.flow
    for node in bench.model.record.nodes:
        operands = ops.value_inputs(node)
        if ops.op(node) not in ops.DIV or len(operands) != 2 or ops.op(operands[0]) != "sub" or len(ops.value_inputs(operands[0])) != 2:
            continue
        data, mean = ops.value_inputs(operands[0])
        root = root_of(mean)
        if data in flow.data and data not in flow.learned and root.op == "get_attr" and shape(root) == shape(data)[1:]:
            yield _Scaled(data, root, operands[1])


def _moved(bench: Bench, scale: float, shift: float) -> Prepare:
    names = {s.name for s in bench.of_kind("data")}

    def put(_: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        for name in names & inputs.keys():
            size = inputs[name].std()
            inputs[name] = scale * inputs[name] + shift * size

    return put


def _ratio(one: _Scaled, runs: list[Trial], mean: torch.Tensor) -> float | None:
    """How many times the spread of what was seen the data are divided by; None where that is it, or where the mean is no exact one."""
    rows = [run.value(one.data).detach().double() for run in runs]
    seen, spread = torch.cat(rows), runs[-1].value(one.spread).detach().double()
    if float((mean.double() - seen.mean(0)).abs().max()) > _EXACT * float(seen.abs().max()) or spread.shape[-1:] != seen.shape[1:]:
        return None
    known = [v.var(0, correction=c).sqrt() for v in (seen, *rows) for c in (0, 1)] + [torch.stack([r.var(0) for r in rows]).mean(0).sqrt()]
    apart = [_apart(spread.reshape(-1, *seen.shape[1:])[0], k) for k in known]
    return math.exp(apart[0]) if all(abs(a) > _NEAR for a in apart) else None  # NaN of a spread that is 0 is no finding


def _broken(bench: Bench, one: _Scaled, ratio: float) -> Broken:
    model = bench.model
    kept = {str(n.target) for n in model.flow.ancestors(one.spread) if n.op == "get_attr" and shape(n) == shape(one.mean)} or {
        str(root_of(n).target) for n in one.spread.all_input_nodes
    }
    kept -= {str(one.mean.target)}
    writes = [n for n in model.record.nodes if in_place(n) and str(root_of(n).target) in kept]
    found = Found(
        span(writes[-1]) if writes else model.where(one.spread),
        label=f"makes a spread that is {ratio:.3g} times that of the data",
        labels=model.labels((one.spread, "the data are divided by it here")),
        when="the mean of the data is far from 0, in the first steps",
        why="the running mean is exact and the spread is not: what is scaled has another spread than 1",
        help="merge with the numbers of both sides: m2 += batch_m2 + delta**2 * count * n / (count + n), and only then count += n",
    )
    text = f"after two steps the data are divided by {ratio:.3g} times the spread of what was seen, and their mean is exact"
    return Broken("spread-of-other-data", found, "data are divided by the spread of what was seen", text)
