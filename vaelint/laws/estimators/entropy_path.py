"""Law C3, for gradients: the entropy of a draw is reached through the draw.

Prediction: where a loss charges log q(z) with one weight for all draws, its gradient comes through z. With z held, only the score is left,
which averages to 0: nothing holds the posterior open, though the loss has the value of the bound.

Exempt: a log q that is raised (wake-sleep) or weighed by what the draws made (score function), and one whose score is held, not its path.

Source: Roeder et al. 2017, Sticking the landing, eq. 5 to 7.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.laws.bench import Bench
from vaelint.laws.estimators.charged import Charged
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("entropies-are-reached", "the entropy of a draw is reached through the draw", covered=("VAE207", "VAE413", "VAE442", "VAE509"))
def entropies_are_reached(bench: Bench) -> Iterator[Broken]:
    """Densities of the posterior at a draw that was held for them, and for nothing else."""
    if not bench.model.has_loss:
        return
    for charged in Charged.all_of(bench):
        weight = charged.weight
        if weight is None or charged.weights_of_draws or not bool((weight >= 0).all()) or charged.path is not None:
            continue
        if charged.has_score and charged.is_drawn_through:
            yield _broken(bench, charged)
            return


def _broken(bench: Bench, charged: Charged) -> Broken:
    model = bench.model
    found = Found(
        charged.place,
        label="log q(z) with z held: only its score is left",
        labels=model.labels((charged.site.z, "drawn here")),
        why="the gradient of the entropy comes through z; the score averages to 0 over the draws, so nothing holds the posterior open",
        help="hold the posterior's numbers instead, Normal(mu.detach(), std.detach()).log_prob(z), or hold nothing",
    )
    text = "the gradient of log q in z is 0 here, while the loss pulls at z elsewhere"
    return Broken("biased-estimator", found, "the entropy of a draw is reached through the draw", text)
