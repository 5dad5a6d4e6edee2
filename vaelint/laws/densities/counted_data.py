"""Law C1, for counts: what a likelihood of counts is given are counts.

Prediction: where exp(-term) adds up to one number over the counts 0, 1, 2, ..., whatever the decoder puts out, and all that the target
was made of was declared as whole numbers, the target is whole. Logarithms of counts, and counts divided by their total, have no
probability under a negative binomial: the decoder then learns the mean of the logarithms. Data that was never declared whole is asked
another question: where the expected count follows a total of the data, the data that are counted add up to it. Likelihoods that learn only
where the data lies, and targets that are drawn or masked, are exempt.

Source: Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, eq. 1 to 6: log(1 + x) is what the encoder gets.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.addends import entered
from vaelint.laws.bench import Bench
from vaelint.laws.densities.counts import Counted
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_BATCH = 4
_MOST = 0.2  # of the target's values that may be no whole numbers
_WHOLE = 1e-6
_SAME = 0.02
_TOTAL = 20.0


@law(
    "counts-are-counted",
    "a likelihood of counts is given counts",
    covered=("VAE306", "VAE331", "VAE333"),
    cost="replay",
)
def counts_are_counted(bench: Bench) -> Iterator[Broken]:
    """Likelihoods over counts, and targets made of whole numbers."""
    reasons: list[str] = []
    for one in Elementwise.all_of(bench):
        sources = [n for n in bench.model.flow.ancestors(one.at.target) if n.op == "placeholder"]
        if not sources or not one.learns_its_spread or one.is_detached:
            continue
        try:
            if any(bench.is_real(n) for n in sources):
                yield from _of_another_total(bench, one)
                continue
            got = bench.model.replay([one.at.target], {}, {**bench.model.record.sizes, "B": _BATCH})[one.at.target].double()
            share = float(((got - got.round()).abs() > _WHOLE).double().mean())
            if share > _MOST and Counted(one).log_mass is not None:
                yield _broken(bench, one, f"{share:.0%} of the values that it is given are between whole numbers")
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the likelihood does not run by itself: {reasons[0]}")


def _of_another_total(bench: Bench, one: Elementwise) -> Iterator[Broken]:
    """A target made of the values whose total the expected counts follow, and of nothing else, that adds up to something else."""
    model, target = bench.model, one.at.target
    for condition in one.at.conditions:
        root = behind(condition, ops.POINTWISE | ops.SHAPE)
        summed = next(iter(ops.value_inputs(root)), None) if ops.op(root) == "sum" else None
        if summed is None or shape(summed) != shape(target) or not _made_of(bench, target, summed):
            continue
        sizes = {**model.record.sizes, "B": _BATCH}
        values = model.replay([summed, target], {}, sizes)
        raw, got = (values[n].double().flatten(1).sum(1) for n in (summed, target))
        if bool(((got - raw).abs() < _SAME * raw.abs()).any()) or Counted(one).log_mass is None or not _follows(one, root):
            continue
        share = float((got / raw).median())
        yield _broken(bench, one, f"it adds up to {share:.3g} of the total that the expected counts add up to")
        return


def _made_of(bench: Bench, target: fx.Node, source: fx.Node) -> bool:
    """Whether a target is another function of these values, of nothing else, and not drawn."""
    flow = bench.model.flow
    way = flow.ancestors(target, stop={source}) - {source}
    given = any(n.op == "placeholder" for n in way)
    return target in flow.descendants(source) and target is not source and not given and not any(ops.op(n) in ops.RANDOM for n in way)


def _follows(one: Elementwise, total: fx.Node) -> bool:
    """Whether the expected count doubles with the total."""
    once, twice = (Counted(one).moments({total: value}) for value in (_TOTAL, 2 * _TOTAL))
    good = once[2] & twice[2]
    return bool(good.any()) and abs(float((twice[0] / once[0])[good].median()) - 2) < _SAME


def _broken(bench: Bench, one: Elementwise, text: str) -> Broken:
    model, target = bench.model, one.at.target
    made = _made(one)
    reader = next((n for n in model.flow.sorted(one.inside) if target in ops.value_inputs(n)), one.core)
    found = Found(
        entered(reader, made) or model.where(reader),
        label="a likelihood of counts gets values between the counts",
        labels=model.labels((made, "the counts become real numbers here")),
        why="the probabilities add up to one over whole numbers, and the data has none of them: "
        "the decoder learns the mean of the transformed counts, and its draws are on another scale",
        help="transform the counts for the encoder alone, and give the likelihood the counts themselves",
    )
    return Broken("wrong-target", found, "what a likelihood of counts is given are counts", text)


def _made(one: Elementwise) -> fx.Node:
    """What made the target of the counts: the last value before it that is no view of another."""
    node = one.at.target
    while ops.op(node) in ops.SHAPE | ops.CAST and len(inputs := ops.value_inputs(node)) == 1:
        node = inputs[0]
    return node
