"""Law A1, for draws: the draws of one path have noise of their own.

Observed on the record: one draw of noise is scaled by the spreads of several posteriors, of which a later one is made of the earlier draw
(steps of time, levels). Given the past, z_t is then no draw: its noise is known from z_1, and the sum of the KLs is not that of the path.

Exempt: common random numbers of posteriors that are decoded apart (subsets of modalities, a teacher and its student), and noise that is
scaled again without a posterior of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found


@law(
    "draws-have-their-own-noise",
    "the draws of one path, each with a posterior of its own, have noise of their own",
    covered=("VAE201", "VAE202", "VAE204"),
    cost="replay",
)
def draws_have_their_own_noise(bench: Bench) -> Iterator[Broken]:
    """Gaussian noise that is multiplied with spreads which a KL charges."""
    charged = _charged(bench)
    for noise in dict.fromkeys(n for s in bench.model.sites if s.kind == "gaussian" for n in s.noise if n in bench.model.flow.random):
        draws = [(scale, z) for scale, z in shared_draws(bench, noise) if charged & bench.model.flow.ancestors(scale)]
        later = next((z for i, (scale, z) in enumerate(draws) if any(z0 in bench.model.flow.ancestors(scale) for _, z0 in draws[:i])), None)
        if later is not None:
            yield _shared(bench, noise, draws[0][1], later, len(draws))
            return


def shared_draws(bench: Bench, noise: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """Spreads that one draw of noise is scaled by, and the draw that each makes, in order."""
    flow = bench.model.flow
    same = reachable([noise], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in ops.CAST and shape(u) == shape(noise)])
    found = []
    for product in flow.sorted({u for n in same for u in flow.users.get(n, ()) if ops.op(u) in ops.MUL}):
        scale = next((n for n in ops.value_inputs(product) if n not in same and n in flow.learned), None)
        moved = next((u for u in flow.users.get(product, ()) if ops.op(u) in ops.ADD), None)
        if scale is not None and moved is not None:
            found.append((scale, moved))
    return found


def _charged(bench: Bench) -> set[fx.Node]:
    """Raw values of posteriors and priors that a KL reads."""
    return {f for t in bench.model.terms if t.role == "kl" and t.detached is None for leaf in t.leaves for f in leaf.frontier}


def _shared(bench: Bench, noise: fx.Node, first: fx.Node, later: fx.Node, count: int) -> Broken:
    model = bench.model
    apart = model.where(first) != model.where(later)
    found = Found(
        model.where(later),
        label=f"one of {count} draws with the same noise",
        labels=model.labels((noise, "drawn here, once"), *([(first, "the first draw with it")] if apart else [])),
        why="the draws of a path move together: what the KL takes for new noise at each step is known from the first",
        help="draw again for each: torch.randn_like(std) where z is made",
    )
    text = f"the noise of {count} draws is one tensor, and later posteriors are made of the earlier draws"
    return Broken("frozen-noise", found, "each draw of a path has noise of its own", text)
