"""Law C6, for bits: a relaxed bit follows its logits.

sigmoid((l + e) / tau) is above one half with probability sigmoid(l) where e is logistic noise, log(u) - log(1 - u). At l = 0 that is one
half, for noise of any symmetric shape.

Intervention: the scores are 0, and what the sigmoid gets is drawn many times.

Exempt: noise before a sigmoid that is no posterior's: the KL must charge for the scores that it is added to.

Source: Maddison et al. 2017, The Concrete distribution, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.relaxed.gumbel import many, noise_of
from vaelint.record import ops
from vaelint.rule import Found

_OFF = 0.1  # of all draws


@law(
    "relaxed-bits-follow-their-logits",
    "the noise of a relaxed bit is as often above 0 as below",
    covered=("VAE203", "VAE223"),
    cost="replay",
)
def relaxed_bits_follow_their_logits(bench: Bench) -> Iterator[Broken]:
    """Sigmoids of scores that a KL charges for, plus noise that depends on nothing learned."""
    model, flow = bench.model, bench.model.flow
    charged = {f for term in model.terms if term.role == "kl" for leaf in term.leaves for f in leaf.frontier}
    used = flow.ancestors(*(leaf.node for term in model.terms_of("reconstruction") for leaf in term.leaves))
    for node in flow.sorted({n for n in used if ops.op(n) == "sigmoid"}):
        noise = noise_of(bench, node)
        scores = {s for s in charged & flow.ancestors(node, stop=charged) if noise not in flow.ancestors(s)}
        if noise is None or not scores:
            continue
        above = float((many(bench, ops.value_inputs(node)[0], dict.fromkeys(scores, 0.0)) > 0).double().mean())
        if abs(above - 0.5) > _OFF:
            yield _one_sided(bench, node, noise, above)
            return


def _one_sided(bench: Bench, node: fx.Node, noise: fx.Node, above: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(noise),
        label="not as often above 0 as below",
        labels=model.labels((node, "relaxed as if it were logistic noise")),
        why="the bit does not follow the posterior's probabilities: it is pushed to one side whatever the encoder says, and the KL is that "
        "of another distribution",
        help="logistic noise is torch.log(u) - torch.log1p(-u); torch.distributions.RelaxedBernoulli draws it itself",
    )
    return Broken("gumbel-noise-inverted", found, "above 0 in half of the draws", f"above 0 in {above:.3g} of the draws at scores of 0")
