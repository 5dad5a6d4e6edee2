"""Law C4, for the sign: a closed-form KL of a draw costs more where its mean lies farther off.

Intervention: the mean is shifted both ways. A KL to any Gaussian prior is a parabola in the mean that opens upwards; where all that is
known of a term is that it is one, and it opens downwards, it enters the loss with the wrong sign.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.anatomy.loss.signs import sign_place
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.divergence import slices_of
from vaelint.laws.law import Broken, law
from vaelint.laws.spread import Spread
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found


@law(
    "kl-opens-upwards",
    "a closed-form KL costs more where the mean of the draw is farther off",
    covered=("VAE205", "VAE40", "VAE41"),
    cost="replay",
)
def kl_opens_upwards(bench: Bench) -> Iterator[Broken]:
    """Terms that no exact formula was recognised in, of draws that are affine in Gaussian noise."""
    told = {f.site.z for f in bench.model.kls if f.site is not None and f.probe.verdict not in ("other", "unknown")}
    reasons: list[str] = []
    for term in bench.model.terms:
        if term.role not in ("kl", "other") or term.detached is not None:
            continue
        for slice_, site in slices_of(bench, term):
            spread = Spread(bench, slice_, site)
            try:
                if site.z not in told and spread.disagreement() is None and spread.bend < 0:
                    yield _turned(bench, spread)
                    return
            except ReplayError as error:
                reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


def _turned(bench: Bench, spread: Spread) -> Broken:
    model, term = bench.model, spread.slice.term
    own = [leaf for leaf in term.leaves if set(leaf.frontier) & set(spread.site.mu_heads)] or term.leaves
    compared = [set(leaf.chain) for t in model.terms_of("reconstruction") for leaf in t.leaves]
    met = [n for n in own[0].chain if any(n in chain for chain in compared)]  # the last of them: where the two are added up
    found = Found(
        model.where(met[-1] if met else sign_place(model, own[0], term.core)),
        label="takes away what the posterior's distance from its prior costs",
        labels=model.labels((spread.site.z, f"drawn here: {model.written(spread.site.z)}"), (model.record.loss, "minimised here")),
        why="the loss rewards the posterior for leaving the prior, and has no lower bound",
        help="change the sign of the term",
    )
    text = f"a shift of the mean by one standard deviation, both ways, changes the loss by {spread.bend:.3g}"
    return Broken("kl-sign", found, "the loss rises where the mean is farther from its prior", text)
