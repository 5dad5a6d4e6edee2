"""Law C3: a closed-form KL is that of the model's own draw, whatever family it is written in.

For z = mu + A eps with Gaussian eps, and a prior with -log p = U(z): KL = -log|det A| + E[U(z)] + const. Where U is quadratic (a Gaussian
prior of any mean and covariance), E[U] moves with A by half of the second difference of U along A's columns, and the same second difference
shows when the mean moves by such a column. So the term is asked both ways: what a column costs as spread, and what it costs as a shift.
Neither the prior nor the weight of the term need be known; the weight is the one number that all changes of A must agree on.

Exempt: a likelihood of given data under the posterior, which has no prior to be near to.

Source: Kingma & Welling 2014, appendix B, for the diagonal case; the identity E[z'Pz] = mu'P mu + tr(P A A') for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.loss.mended import mended_operation, said_of
from vaelint.anatomy.loss.terms import Term, part_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.spread import Spread, is_encoded
from vaelint.replay.exchanges import Exchange, mending
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found


@law(
    "kl-is-of-the-draw",
    "a column of the posterior's spread costs what a shift of its mean by that column costs",
    covered=(
        "VAE205",
        "VAE206",
        "VAE209",
        "VAE212",
        "VAE406",
        "VAE407",
        "VAE408",
        "VAE409",
        "VAE410",
        "VAE411",
        "VAE413",
        "VAE417",
        "VAE419",
    ),
    cost="replay",
)
def kl_is_of_the_draw(bench: Bench) -> Iterator[Broken]:
    """Each closed-form KL of a draw that is affine in Gaussian noise, and that no exact formula was recognised in."""
    model = bench.model
    assert model.record.loss is not None
    told = (f for f in model.kls if f.probe.distance or (f.probe.verdict in ("exact", "prior") and not f.probe.learned_prior))
    proven = {f.site.z for f in told if f.site is not None}  # or no KL, as was measured
    reasons: list[str] = []
    for term in model.terms:
        if term.role not in ("kl", "other") or term.detached is not None or (live := _live(bench, term)) is None:
            continue
        for slice_, site in slices_of(bench, live):
            if site.z in proven:
                continue
            try:
                spread = Spread(bench, slice_, site)
                off = spread.disagreement()
                if off is not None and not (spread.is_divergence or spread.is_likelihood or _is_part_of_one(bench, live, site)):
                    yield _broken(bench, spread, off)
            except ReplayError as error:
                reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


def _live(bench: Bench, term: Term) -> Term | None:
    """The term without the addends that hold the posterior, as the KL that trains a prior towards it alone does; None where all do."""
    flow, gradients = bench.model.flow, gradients_of(bench.model)
    heads = {h for s in term.sites for h in s.heads}
    held = [leaf for leaf in term.leaves if heads & flow.ancestors(leaf.node) and not heads & gradients.reach(leaf.node)]
    kept = [leaf for leaf in term.leaves if leaf not in held]
    return term if not held else part_of(term, kept, term.sites, flow) if kept else None


def _is_part_of_one(bench: Bench, term: Term, site: Site) -> bool:
    """Whether the term is the KL together with other terms that read the same posterior: a Markov prior whose steps hang on given times,
    the cross-entropy and the entropy apart."""
    read = [t for t in bench.model.terms if t.role in ("kl", "other") and t.detached is None]
    more = [
        t
        for t in read
        if not set(map(id, t.leaves)) & set(map(id, term.leaves)) and any(set(site.heads) & set(leaf.frontier) for leaf in t.leaves)
    ]
    whole = Term("kl", [leaf for t in (term, *more) for leaf in t.leaves], term.sites)
    return bool(more) and any(s is site and Spread(bench, slice_, s).agrees for slice_, s in slices_of(bench, whole))


def slices_of(bench: Bench, term: Term) -> Iterator[tuple[Slice, Site]]:
    """The posteriors that a term in closed form may be the KL of, each with the term as a function of its raw values."""
    model, flow = bench.model, bench.model.flow
    assert model.record.loss is not None
    front = {f for leaf in term.leaves for f in leaf.frontier}
    whole = loose_ends(term, model.record.loss, model.sites, flow, model.replay)
    draws = {s.z for s in model.sites}
    if front & flow.refined and not front <= flow.refined:
        return  # what the encoder makes, held to what a loop of the step made of it
    for site in model.sites:
        if site.kind != "gaussian" or front & draws:
            continue
        if site in whole.sites:
            yield whole, site
        elif term.role == "other" and front and front <= flow.ancestors(site.z):  # residual: the heads are sums of what the KL reads
            own = [f for f in flow.sorted(front) if is_encoded(bench, f)]
            prior = [f for f in flow.sorted(front) if f not in own]
            yield Slice(term, model.record.loss, model.replay, flow, [site], own, prior, [], []), site


def _broken(bench: Bench, spread: Spread, off: float) -> Broken:
    model, site, term = bench.model, spread.site, spread.slice.term
    mended = _mended(spread)
    told = (n for n in (spread.culprit(), term.core, *_own_part(bench, spread)) if n is not None)
    node = next((n for n in told if model.where(n) is not None), term.core)  # the step's own sum stands in no file
    found = Found(
        bench.called(node, term) or model.where(node) if mended is None else model.where(mended.node),
        label="this part charges for another spread than the draw has"
        if mended is None
        else said_of(bench.model, mended, "the KL is that of the draw"),
        labels=model.labels((site.z, f"drawn here: {model.written(site.z)}")),
        why="the loss is minimised by the wrong posterior: the term is not the KL of the drawn distribution",
        help="take mean and covariance in the formula from the same expressions as in the draw: KL = (tr(S A A') + m' S m - log|A A'| - "
        "log|S| - k) / 2 with z = mean + A eps, S the prior's precision and m the distance of the means",
    )
    text = f"the two costs differ by {100 * off:.2g} % of what changes of the spread are worth"
    return Broken("kl-formula", found, "the two costs agree for every spread, up to one weight on log|A|", text)


def _mended(spread: Spread) -> Exchange | None:
    """The one operation on the way to the draw, or in the term, with another of which the term is the KL of the draw."""
    model, site = spread.bench.model, spread.site
    ends = {*spread.slice.heads, *spread.slice.others, *site.noise}
    way = model.flow.sorted(model.flow.ancestors(site.z, stop=ends) - ends)

    def holds() -> bool:
        return Spread(spread.bench, spread.slice, site).agrees

    return mending(model.replay, way, holds) or mended_operation(spread.bench.model, spread.slice.term, {*ends, site.z}, holds)


def _own_part(bench: Bench, spread: Spread) -> list[fx.Node | None]:
    """Of a term that is the KLs of several posteriors, the addends of this one: all together, and the first."""
    term, heads = spread.slice.term, set(spread.site.heads)
    own = [leaf for leaf in term.leaves if heads & set(leaf.frontier)] or term.leaves
    return [part_of(term, own, [spread.site], bench.model.flow).core, own[0].node]
