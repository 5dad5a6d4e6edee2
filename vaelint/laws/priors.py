"""Laws A6 and C4: the prior does not look at the draw that it judges, and the KL is not the same for every posterior.

Interventions: a draw is moved while all else is held; the weights of the model are exchanged for others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.experiment.trial import Trial, differ
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.sampled_priors import own_draws
from vaelint.laws.samples.own_noise import shared_draws
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.rule import Found

_SEEDS = (1, 2)
_STEPS = 3
_NOTHING = 1e-6
_DEVIATIONS = 5.0
_SCALES = (-3.0, 0.0, 1.0)  # of the heads that give the spread, whatever they are taken for
_FAR = 1e-3
_ROUNDING = 2e-5  # of the posterior's own numbers: what float32 leaves of a sum that is 0, in whatever order it is taken
_BOUNDS = frozenset(
    {"clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "relu", "threshold", "where", "hardtanh"}
)


@law("prior-does-not-look", "the prior of a draw does not move with that draw", covered=("VAE410", "VAE434"))
def prior_does_not_look(bench: Bench) -> Iterator[Broken]:
    """Closed forms: a term that reads the draw itself, as log p(z) of a flow does, moves with it; of such, the mean that a draw of many
    steps is held to is asked, element by element."""
    seen: set[fx.Node] = set()
    for leaf in _judging(bench):
        for site, prior in pairs(bench, leaf):
            if prior not in seen and site.z in bench.model.flow.ancestors(prior) and site.z not in leaf.frontier:
                seen.add(prior)
                if site.kind == "gaussian" and (_weighs(bench, prior, leaf) or _is_moved_draw(bench, site, leaf)):
                    continue  # of a mixture's components: they are inferred from the draw, and weigh priors that do not see it
                if _is_beside_densities(bench, site, leaf):
                    continue
                moved = _moved_by(bench, site, prior)
                if moved > _NOTHING:
                    yield _looks(bench, site, prior, leaf, moved)
                    return
        if (stacked := _of_all_steps(bench, leaf)) is not None:
            yield _looks(bench, *stacked[:2], leaf, stacked[2])
            return
    for own in own_draws(bench):
        yield _looks(bench, own.site, own.prior, own.leaf, own.moved, None if own.given is own.site.z else own.given)
        return


def _is_moved_draw(bench: Bench, site: Site, leaf: Leaf) -> bool:
    """Whether an addend sees a draw only as a flow has moved it, the value that everything is decoded from: that is the draw, no prior."""
    return any(site.z not in bench.model.flow.ancestors(leaf.node, stop={n}) for n in moved_draws(bench, site, leaf))


def _is_beside_densities(bench: Bench, site: Site, leaf: Leaf) -> bool:
    """Whether an addend reads the means of a posterior alone, where others judge its draw, log q(z) - log p(z): that is a KL without it."""
    spreads, read = set(site.heads) - set(site.mu_heads), set(leaf.frontier)
    others = (other for t in bench.model.terms_of("kl") if t.detached is None for other in t.leaves if other is not leaf)
    return bool(spreads) and not spreads & read and any(site.z in other.frontier for other in others)


def moved_draws(bench: Bench, site: Site, leaf: Leaf) -> list[fx.Node]:
    """The values of a draw's size that an addend reads and everything is decoded from: what a flow has made of the draw."""
    flow, size = bench.model.flow, shape(site.z)
    decoded = [other.node for term in bench.model.terms_of("reconstruction") for other in term.leaves]
    behind = flow.ancestors(leaf.node) & flow.descendants(site.z)
    return [n for n in flow.gates(site.z, decoded) if n in behind and n is not site.z and shape(n) == size] if decoded else []


def _weighs(bench: Bench, node: fx.Node, leaf: Leaf) -> bool:
    """Whether a value reaches an addend only as shares: it, or all that is made of it, is not negative and sums to 1."""
    flow = bench.model.flow
    users = [u for u in flow.users.get(node, ()) if u in flow.ancestors(leaf.node)]
    return _are_shares(bench, node) or (bool(users) and all(_are_shares(bench, u) for u in users))


def _are_shares(bench: Bench, node: fx.Node) -> bool:
    value = bench.value(node) if bench.knows(node) else None
    if value is None or value.dim() < 2 or value.shape[-1] < 2 or not value.is_floating_point() or bool((value < 0).any()):
        return False
    return torch.allclose(value.sum(-1), torch.ones_like(value.sum(-1)), atol=1e-4)


def _of_all_steps(bench: Bench, leaf: Leaf) -> tuple[Site, fx.Node, float] | None:
    """Of draws made step by step and one prior computed for all of them at once: a draw that moves the very elements of the KL that its
    own posterior moves. Where the elements of two steps cannot be told apart, nothing is said."""
    sites, priors = sorted(_sites(bench, leaf), key=lambda s: bench.model.flow.order[s.z]), _priors(bench, leaf)
    if len(sites) < _STEPS or not 0 < len(priors) < len(sites) or not bench.knows(leaf.node) or any(s.z in leaf.frontier for s in sites):
        return None
    same = bench.same({x for s in sites for x in (s.z, *s.heads) if bench.knows(x)})
    before = bench.after(same, [leaf.node])[leaf.node]
    seen, moved = torch.zeros(before.shape, dtype=torch.bool, device=before.device), 0.0
    for site in (sites[1], sites[len(sites) // 2], sites[-1]):
        own = bench.after(same | {h: same[h] + 0.5 for h in site.heads if h in same}, [leaf.node])[leaf.node] != before
        after = bench.after(same | {site.z: same[site.z] + 1.0}, [leaf.node])[leaf.node]
        if not bool(own.any()) or bool((own & seen).any()) or not bool((own & (after != before)).any()):
            return None
        seen |= own
        moved = differ(before[own], after[own])
    return (sites[-1], priors[0], moved) if moved > _NOTHING else None


def _judging(bench: Bench) -> Iterator[Leaf]:
    """The addends of a KL; also of one that the reconstruction's term took up, since a prior made of the draw looks like what is
    decoded from it. Such an addend reads mean and spread of a draw that no other judges, and no bare data."""
    model = bench.model
    terms = [t for t in model.terms if t.detached is None]
    beside = {n for part in model.parts for n in part.addends}  # an exact KL has a prior without what stands beside it
    kl = [leaf for t in terms if t.role == "kl" for leaf in t.leaves if leaf.node not in beside]
    yield from kl
    rest = [leaf for t in terms if t.role == "reconstruction" for leaf in t.leaves]
    for leaf in rest:
        read, judged = set(leaf.frontier), {h for other in (*kl, *rest) if other is not leaf for h in other.frontier}
        alone = [s for s in model.sites if s.mu_heads and read & set(s.mu_heads) and not judged & set(s.mu_heads)]
        bare = any(n in model.flow.data and n not in model.flow.learned for n in leaf.frontier)
        if len(alone) == 1 and not bare and all(h in read for h in alone[0].heads):
            yield leaf


def pairs(bench: Bench, leaf: Leaf) -> Iterator[tuple[Site, fx.Node]]:
    """Each draw with its own prior; of steps that were stacked before the KL, the first with the first, where they go up evenly."""
    order = bench.model.flow.order
    sites = sorted(_sites(bench, leaf), key=lambda s: order[s.z])
    if any(len(shared_draws(bench, n)) > 1 for s in sites for n in s.noise):
        return  # one noise makes several draws, of which the record knows the first
    priors = sorted(_priors(bench, leaf), key=order.__getitem__)
    each = len(priors) // len(sites) if sites else 0
    if each and len(priors) == each * len(sites):
        yield from ((sites[k // each], prior) for k, prior in enumerate(priors))


def _sites(bench: Bench, leaf: Leaf) -> list[Site]:
    return [s for s in bench.model.sites if any(h in leaf.frontier for h in s.heads) and bench.knows(s.z)]


def _priors(bench: Bench, leaf: Leaf) -> list[fx.Node]:
    """What an addend reads beside its posterior, where layers made it of the data."""
    heads = {h for s in bench.model.sites for h in (*s.heads, s.z)}
    flow = bench.model.flow
    made = [f for f in leaf.frontier if f not in heads and f in flow.data and f in flow.learned and bench.knows(f)]
    own = [h for h in leaf.frontier if h in heads]
    return [f for f in made if not own or not _is_added_up_apart(bench, f, leaf, own)]


def _is_added_up_apart(bench: Bench, node: fx.Node, leaf: Leaf, heads: list[fx.Node]) -> bool:
    """Whether a value meets the posterior only as a sum that was taken without it: the error of what was decoded, beside the KL in one
    function of both, as exp(-ELBO). The parameters of a prior meet those of the posterior one by one."""
    flow = bench.model.flow
    within = flow.ancestors(leaf.node, stop=set(leaf.frontier)) | {leaf.node}
    mine, theirs = (flow.descendants(*group, stop=set(leaf.frontier) - set(group)) & within for group in ([node], heads))
    meets = [n for n in mine & theirs if any(i in mine - theirs for i in flow.inputs[n])]
    whole = math.prod(shape(node))
    return bool(meets) and all(ops.op(n) in ops.ADD and math.prod(shape(n)) < whole for n in meets)


def _moved_by(bench: Bench, site: Site, node: fx.Node) -> float:
    """How far a prior moves with its draw; of a draw of many steps at once, with the last, which no prior of earlier ones reads."""
    same = bench.same({s.z for s in bench.model.sites if bench.knows(s.z)})  # a prior may read other draws, which its own has led to
    before = bench.after(same, [node]).get(node)
    moved = []
    over_time = batch_of(bench.model).runs_over_time or bench.base.batch_axis(site.z) not in (0, None)
    for change in _changes(same[site.z], first=0 if over_time else 1):
        after = bench.after({**same, site.z: change}, [node]).get(node)
        moved.append(0.0 if before is None or after is None else differ(before, after))
    return min(moved)


def _changes(z: torch.Tensor, first: int) -> Iterator[torch.Tensor]:
    """The draw moved as a whole; and, of axes between batch and latent, at its last place only, and at its very last element."""
    yield z + 1.0
    for axis in range(first, z.dim() - 1):
        changed = z.clone()
        changed.select(axis, -1).add_(1.0)
        yield changed
    if z.dim() > 2:
        changed = z.clone()
        changed.reshape(len(z), -1)[:, -1] += 1.0
        yield changed


def _looks(bench: Bench, site: Site, prior: fx.Node, leaf: Leaf, moved: float, made_of: fx.Node | None = None) -> Broken:
    model = bench.model
    found = Found(
        (model.where(made_of) if made_of is not None else None) or _given(prior, site.z, leaf.node) or apart(bench, prior),
        label="the prior is made of what the draw has already entered",
        labels=model.labels((site.z, "the draw that it judges"), (leaf.node, "the KL that reads it")),
        why="the prior follows the sample instead of predicting it: the KL no longer holds the posterior to anything, "
        "and sampling has no such draw to condition on",
        help="compute the prior from the state before the draw, before it is updated with x_t and z_t",
    )
    text = f"the prior moves by {moved:.2g} of its size when its own draw moves by 1 and all else is held"
    return Broken("prior-sees-posterior", found, "the prior stays when the draw it judges moves", text)


def _given(prior: fx.Node, draw: fx.Node, judge: fx.Node) -> Span | None:
    """Where the prior's network is called by the code that holds the draw, or by the code that judges it: within, it takes what it is
    given."""
    way = route(prior)
    depths = []
    for other in (route(draw), route(judge)):
        same = 0
        while same < min(len(way), len(other)) and way[-1 - same] == other[-1 - same]:
            same += 1
        depths.append(same)
    return way[-1 - max(depths)] if max(depths) < len(way) else None


def apart(bench: Bench, prior: fx.Node) -> Span | None:
    """The innermost place on the way to a prior that does not run for a posterior as well: of a shared helper, its call."""
    behind = bench.model.flow.ancestors(*(h for s in bench.model.sites for h in s.heads))
    shared = {place for n in behind for place in route(n)}
    return next((place for place in route(prior) if place not in shared), bench.model.where(prior))


@law(
    "kl-is-moved-by-the-weights",
    "other weights give another KL",
    covered=("VAE407", "VAE412", "VAE413", "VAE417", "VAE434", "VAE502"),
    cost="all",
)
def kl_is_moved(bench: Bench) -> Iterator[Broken]:
    """A KL that is zero whatever the weights: a posterior against itself, a clamp that nothing passes."""
    terms = [t for t in bench.model.terms if t.role == "kl" and t.detached is None and t.core is not None and bench.knows(t.core)]
    if not terms:
        return
    runs = [bench.reweighed(seed).base for seed in _SEEDS]
    for term in terms:
        values = torch.cat([_values(run, term) for run in runs])
        parts = [_largest_part(runs, run, term) for run in runs]
        still = float(values.max() - values.min()) <= _ROUNDING * max(1.0, *parts)
        if still and min(parts) > _FAR and not _rests_on_a_floor(bench, runs[0], term):
            yield _zero(bench, term)


def _rests_on_a_floor(bench: Bench, run: Trial, term: Term) -> bool:
    """Whether a bound holds the term (free bits) that a posterior passes whose mean is five deviations of the prior away."""
    assert term.core is not None
    if not _is_bounded(bench, term):
        return False
    heads = {h: h in s.mu_heads for s in term.sites for h in s.heads if run.has(h)}
    for scale in _SCALES:
        away = {h: run.value(h).detach() * 0.5 + (_DEVIATIONS if mean else scale) for h, mean in heads.items()}
        if not differ(run.value(term.core), run.recompute([term.core], away)[term.core]) <= _FAR:  # nor is NaN a constant
            return True
    return False


def _is_bounded(bench: Bench, term: Term) -> bool:
    """Whether a bound (a clamp, a maximum) stands between the posterior and the term."""
    front = {f for leaf in term.leaves for f in leaf.frontier}
    return term.core is not None and any(ops.op(n) in _BOUNDS for n in bench.model.flow.ancestors(term.core, stop=front) | {term.core})


def _values(run: Trial, term: Term) -> torch.Tensor:
    """The term before its constants and its reduction, element by element: what is the same whatever the weights is no KL."""
    assert term.core is not None
    value = run.value(term.core).detach().double().flatten()
    if not value.numel() or not bool(value.isfinite().all()):
        raise CannotMeasureError("the KL is not finite with other weights")
    return value


def _largest_part(runs: Sequence[Trial], run: Trial, term: Term) -> float:
    """The size of the posterior's parameters that the term reads: where they are all 0 a KL of 0 is no fault. What is the same in all runs,
    as the -1e30 of a masked score, is no parameter."""
    largest = 0.0
    for head in (h for s in term.sites for h in s.heads if all(r.has(h) for r in runs)):
        first, last, own = (r.value(head).detach().double() for r in (runs[0], runs[-1], run))
        moved = own[first != last] if first.shape == last.shape == own.shape else own
        largest = max(largest, float(moved.abs().max()) if moved.numel() else 0.0)
    return largest


def _zero(bench: Bench, term: Term) -> Broken:
    model = bench.model
    priors = [p for leaf in term.leaves for p in _priors(bench, leaf)] if not _is_bounded(bench, term) else []
    found = Found(
        apart(bench, priors[0]) if priors else model.where(term.core),
        label="the same distribution as the posterior" if priors else "the same whatever the posterior is",
        labels=model.labels((term.core, "this KL is the same whatever the weights")) if priors else (),
        why="a KL of 0 in every state holds the posterior to nothing: the model is an autoencoder with noise",
        help="give the KL the prior's own parameters, made without the target"
        if priors
        else "take away the clamp, or give it room above 0",
    )
    return Broken(
        "prior-sees-posterior" if priors else "kl-constant",
        found,
        "other weights give another KL",
        "the same number with two other sets of weights, for every sample",
    )
