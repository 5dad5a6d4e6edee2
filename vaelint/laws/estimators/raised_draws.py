"""Law B3, for wake phases: what raises log q at weighed draws holds these draws.

Prediction: a loss that falls as log q(z_k) rises, with held weights for the draws, has no gradient in z_k. log q at a draw that moves along
with its posterior does not move with the mean: the path takes back what the score pulls.

Source: Bornschein & Bengio 2015, Reweighted wake-sleep, eq. 7; Le et al. 2019, Revisiting reweighted wake-sleep, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.laws.bench import Bench
from vaelint.laws.estimators.charged import Charged
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("raised-draws-are-held", "what raises log q at weighed draws holds the draws", covered=("VAE207", "VAE422", "VAE442"))
def raised_draws_are_held(bench: Bench) -> Iterator[Broken]:
    """Densities of the posterior that held weights raise, at draws through which the gradient runs."""
    if not bench.model.has_loss:
        return
    for charged in Charged.all_of(bench):
        weight = charged.weight
        if weight is None or not charged.held_weights or not bool((weight <= 0).all()) or not bool((weight < 0).any()):
            continue
        if charged.path is not None and charged.has_score:
            yield _broken(bench, charged)
            return


def _broken(bench: Bench, charged: Charged) -> Broken:
    model = bench.model
    found = Found(
        model.where(charged.site.z),
        label="drawn with a gradient",
        labels=model.labels((charged.density, "raised here, by held weights"), *((w, "the weights") for w in charged.held_weights[:1])),
        why="log q at a draw that follows its own mean does not move with that mean: they cancel, and the weights teach nothing",
        help="hold the draws of a wake phase: q.sample(), or z.detach() in log q and log p",
    )
    text = "log q has a gradient in the draw and one in the posterior's numbers, and the loss raises it"
    return Broken("biased-estimator", found, "what raises log q at weighed draws holds the draws", text)
