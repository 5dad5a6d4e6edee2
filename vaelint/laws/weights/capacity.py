"""Law B5, for capacities: a capacity pulls the KL from both sides.

Intervention: the posterior is moved to the prior. A term that takes a constant from its KL is then below 0, and went there in a
straight line: nothing holds the KL at the constant, which only shifts the value of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_SUMS = ops.ADD | frozenset({"sub", "subtract", "rsub"})


@law(
    "capacities-pull-from-both-sides",
    "a constant that is taken from the KL holds it from below too",
    covered=("VAE407", "VAE408", "VAE417"),
)
def capacities_pull_from_both_sides(bench: Bench) -> Iterator[Broken]:
    """A KL under a multiplier that training moves (a Lagrangian of a constraint) is exempt: there the multiplier pulls."""
    for term in bench.model.terms:
        if term.role != "kl" or term.detached is not None or any(leaf.factors for leaf in term.leaves) or _is_of_the_draw(bench, term):
            continue
        if any(fact.term is term and fact.probe.verdict == "mean_only" for fact in bench.model.kls):
            continue  # a part of a KL: its constant is the whole's
        for node in _shared_sums(bench, term):
            shifted = _at_prior(bench, term, node)
            if shifted is not None:
                yield _one_sided(bench, node, *shifted)
                return


def _is_of_the_draw(bench: Bench, term: Term) -> bool:
    """Whether a KL is estimated at the draw, where it may be below 0 by itself, and its constants are those of two densities: it reads
    the draw, or of the posterior's parameters the scale alone."""
    behind = bench.model.flow.ancestors(*(leaf.node for leaf in term.leaves))
    means = {h for s in bench.model.sites for h in s.mu_heads}
    return bool({s.z for s in bench.model.sites} & behind) or (bool(means) and not means & behind)


def _shared_sums(bench: Bench, term: Term) -> list[fx.Node]:
    """The sums with a constant that all of a KL's addends pass, and none of another term, under constant weights."""
    chains = [leaf.chain for leaf in term.leaves]
    others = {n for t in bench.model.terms if t is not term for leaf in t.leaves if leaf.role != "constant" for n in leaf.chain}
    shared = [n for n in chains[0] if all(n in c for c in chains[1:]) and n not in others]
    if any(ops.op(n) in ops.MUL | ops.DIV and _is_moved_weight(bench, n, chains[0]) for n in chains[0]):
        return []
    return [n for n in shared if ops.op(n) in _SUMS and _below(n, term) is not None and bench.knows(n)]


def _below(node: fx.Node, term: Term) -> fx.Node | None:
    """The operand of a sum through which all of the KL comes."""
    live = [n for n in node.all_input_nodes if any(n is leaf.node or n in leaf.chain for leaf in term.leaves)]
    return live[0] if len(live) == 1 else None


def _is_moved_weight(bench: Bench, node: fx.Node, chain: tuple[fx.Node, ...]) -> bool:
    """Whether a product on the way up has a factor that is a tensor of the model's."""
    return any(n not in chain and (n.op == "get_attr" or n in bench.model.flow.learned) for n in node.all_input_nodes)


def _at_prior(bench: Bench, term: Term, node: fx.Node) -> tuple[float, float, float] | None:
    """The KL of the run, the KL at the prior, and the shifted value there, where the shift takes the value beyond 0."""
    below = _below(node, term)
    heads = [h for s in term.sites for h in s.heads if bench.knows(h)]
    if below is None or not heads or not bench.knows(below) or any(_is_normalised(bench.value(h)) for h in heads):
        return None  # of logarithms of probabilities, 0 is none that a distribution has
    if bench.model.flow.ancestors(*(n for n in node.all_input_nodes if n is not below)) & set(heads):
        return None  # what is added is a part of the KL itself
    now = float(bench.value(below).double().mean())
    got = bench.after({h: torch.zeros_like(bench.value(h)) for h in heads}, [below, node])
    if below not in got or node not in got:
        return None
    at, shifted = float(got[below].double().mean()), float(got[node].double().mean())
    if not math.isfinite(at + shifted + now) or abs(at) > 1e-4 * abs(now) or abs(shifted) < 1e-5 or shifted * now >= 0:
        return None
    return abs(now), abs(at), -abs(shifted)


def _is_normalised(value: torch.Tensor) -> bool:
    """Whether some axis of a tensor holds probabilities, or their logarithms."""
    if not value.is_floating_point():
        return False
    axes = [axis for axis, size in enumerate(value.shape) if size > 1]
    return any(bool(((total - 1).abs() < 1e-4).all()) for axis in axes for total in (value.sum(axis), value.exp().sum(axis)))


def _one_sided(bench: Bench, node: fx.Node, now: float, at: float, shifted: float) -> Broken:
    found = Found(
        bench.model.where(node),
        label=f"a KL of 0 gives {shifted:.3g} here: less is always better",
        why="the constant only shifts the loss: below it the KL is pressed down as above, to 0, and the code holds nothing",
        help="take the distance from the capacity: (kl - capacity).abs(), or its square",
    )
    text = f"at the prior the KL is {at:.2g} and this is {shifted:.3g}; in the run the KL is {now:.3g}"
    return Broken("capacity-one-sided", found, "the minimum is at the capacity, not at a KL of 0", text)
