"""Law A6, for hierarchies: of two draws, the prior of one is made of the other, and not the other way round as well.

p(z1 | z2) p(z2 | z3) p(z3) is a density of all draws together because each factor is made of draws that have priors of their own. Where
the prior of z2 is made of z3 and that of z3 of z2, their product is the density of nothing: nothing can be drawn from it, and some draw
is held to a prior of another. Observed on the addends of the KL: which draw an addend judges, and of which other draws layers make what
it is held to. Measured on the real run: with the judged draw and all posteriors held, the addend moves with that other draw.

Exempt are addends that judge several draws at once, and posteriors: what is made of heads is held.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import reachable
from vaelint.experiment.trial import differ
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_MOVED = 1e-6


@dataclass(frozen=True)
class _Held:
    """A draw that an addend holds to what is made of another draw."""

    leaf: Leaf
    site: Site
    given: Site


@law(
    "priors-go-one-way",
    "of two draws the prior of one is made of the other, not each of the other",
    covered=("VAE40", "VAE41", "VAE424", "VAE432", "VAE434"),
)
def priors_go_one_way(bench: Bench) -> Iterator[Broken]:
    """Draws of a hierarchy, level by level; of a ring of priors the two draws that are nearest to each other in it."""
    sites = [s for s in bench.model.sites if s.heads and bench.knows(s.z)]
    if len(sites) < 2 or len(sites) < len(bench.model.sites):
        return
    found: dict[tuple[fx.Node, fx.Node], _Held] = {}
    for term in bench.model.terms:
        for leaf in term.leaves if term.role == "kl" and term.detached is None else ():
            for held in _made_of_others(bench, leaf, sites):
                found.setdefault((held.site.z, held.given.z), held)
    for (judged, given), held in found.items():
        back = found.get((given, judged))
        if back is not None and all(_moves(bench, one, sites) for one in (held, back)):
            yield _both_ways(bench, held, back)
            return


def _made_of_others(bench: Bench, leaf: Leaf, sites: list[Site]) -> Iterator[_Held]:
    """The other draws that layers make an addend's prior of, where it judges one draw."""
    flow = bench.model.flow
    ends = {n for s in sites for n in (s.z, *s.heads)}
    near = reachable([leaf.node], lambda n: [] if n in ends or _is_layer(n) else flow.inputs[n])
    judged = [s for s in sites if {s.z, *s.heads} & near]
    layers = [n for n in near if _is_layer(n) and n not in ends]
    if len(judged) != 1 or not layers:
        return
    behind = flow.ancestors(*layers, stop=ends)
    for other in sites:
        if other is not judged[0] and other.z in behind:
            yield _Held(leaf, judged[0], other)


def _is_layer(node: fx.Node) -> bool:
    return ops.uses_parameter(node) and ops.op(node) not in ops.POINTWISE


def _moves(bench: Bench, held: _Held, sites: list[Site]) -> bool:
    """Whether an addend moves with the other draw, its own and all posteriors held."""
    node = held.leaf.node
    if not bench.knows(node):
        return False
    same = bench.same({n for s in sites for n in (s.z, *s.heads) if bench.knows(n)})
    before, after = (bench.after(same | put, [node]).get(node) for put in ({}, {held.given.z: same[held.given.z] + 1.0}))
    return before is not None and after is not None and differ(before, after) > _MOVED


def _both_ways(bench: Bench, held: _Held, back: _Held) -> Broken:
    model = bench.model
    found = Found(
        model.where(held.leaf.node),
        label="of two draws each is held to a prior that is made of the other",
        labels=model.labels((held.site.z, "the prior of this draw is made of the other"), (held.given.z, "and that of this draw of it")),
        why="priors that are made of each other are the density of nothing: no order is left in which they can be drawn, "
        "and a level is held to the prior of another level",
        help="hold each draw to its own prior: where posteriors go from the data upwards and priors from the top down, turn one of the two "
        "lists round",
    )
    text = "with a draw and all posteriors held, the KL of each of two draws moves with the other"
    return Broken("latent-density-formula", found, "one of two draws has a prior that is not made of the other", text)
