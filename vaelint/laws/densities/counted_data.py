"""Law C1, for counts: what a likelihood of counts is given are counts.

Prediction: where exp(-term) adds up to one number over the counts 0, 1, 2, ..., whatever the decoder puts out, and all that the target
was made of was declared as whole numbers, the target is whole. Logarithms of counts, and counts divided by their total, have no
probability under a negative binomial: the decoder then learns the mean of the logarithms. Data that was never declared whole, and
likelihoods that learn only where the data lies, are exempt.

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
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_BATCH = 4
_MOST = 0.2  # of the target's values that may be no whole numbers
_WHOLE = 1e-6


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
        if not sources or any(bench.is_real(n) for n in sources) or not one.learns_its_spread or one.is_detached:
            continue
        try:
            got = bench.model.replay([one.at.target], {}, {**bench.model.record.sizes, "B": _BATCH})[one.at.target].double()
            share = float(((got - got.round()).abs() > _WHOLE).double().mean())
            if share > _MOST and Counted(one).log_mass is not None:
                yield _broken(bench, one, share)
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the likelihood does not run by itself: {reasons[0]}")


def _broken(bench: Bench, one: Elementwise, share: float) -> Broken:
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
    text = f"{share:.0%} of the values that it is given are between whole numbers"
    return Broken("wrong-target", found, "what a likelihood of counts is given are counts", text)


def _made(one: Elementwise) -> fx.Node:
    """What made the target of the counts: the last value before it that is no view of another."""
    node = one.at.target
    while ops.op(node) in ops.SHAPE | ops.CAST and len(inputs := ops.value_inputs(node)) == 1:
        node = inputs[0]
    return node
