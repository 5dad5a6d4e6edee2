"""Law B1, for draws: a draw that moves the loss is reached by its gradient.

Intervention: the draw takes other values. Where the loss follows, and no loss of the step has a gradient in the draw though it was drawn
to have one, all of its ways are cut: the posterior is trained by what it costs alone, and falls back to its prior.

Exempt: a straight-through value; a draw that also comes to a loss with its gradient (targets, probes, a second stage), one whose log-
density is taken with the draw held (score function), and a posterior that no loss trains.

Source: Kingma & Welling 2014, section 2.4; Sonderby et al. 2016, Ladder variational autoencoders, eq. 7 and 8, for several levels.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_NOTHING = 1e-6  # of the loss
_SHIFT = 0.5


@law(
    "draws-are-reached", "a draw that moves the loss is reached by its gradient", covered=("VAE207", "VAE413", "VAE503", "VAE505", "VAE509")
)
def draws_are_reached(bench: Bench) -> Iterator[Broken]:
    """Draws with a gradient of their own, of a posterior that a closed form or an estimate charges."""
    loss = bench.model.record.loss
    if loss is None or not bench.knows(loss):
        return
    live = gradients_of(bench.model).of_loss
    for site in bench.model.sites:
        if site.z in live or not site.z.meta.get("grad") or not bench.knows(site.z) or not set(site.heads) & live:
            continue
        cut = _cut(bench, site, loss)
        if cut is None or _is_scored(bench, site) or _is_straight_through(bench, site, cut):
            continue
        moved = _moved(bench, site, loss)
        if moved > _NOTHING:
            yield _broken(bench, site, cut, moved)
            return


def _cut(bench: Bench, site: Site, loss: fx.Node) -> fx.Node | None:
    """The first value made of the draw that has no gradient, on the way to the loss."""
    flow = bench.model.flow
    way = flow.sorted(flow.descendants(site.z) & flow.ancestors(loss))
    return next((n for n in way if ops.op(n) == "detach" or (bench.is_real(n) and not n.meta.get("grad"))), None)


def _is_straight_through(bench: Bench, site: Site, cut: fx.Node) -> bool:
    """Whether the value goes on beside the posterior's own, which has the gradient in its place: `p + (draw - p).detach()`."""
    flow = bench.model.flow

    def on(node: fx.Node) -> list[fx.Node]:
        return [u for u in flow.users.get(node, ()) if ops.op(u) in ops.POINTWISE and shape(u) == shape(cut) and not ops.uses_parameter(u)]

    live = [n for n in reachable([cut], on) if n is not cut and n.meta.get("grad")]
    return any(set(site.heads) & flow.ancestors(n, stop={site.z, cut}) for n in live)


def _is_scored(bench: Bench, site: Site) -> bool:
    """Whether an addend is made of the draw and of its posterior's own numbers: its log-density, with the draw held."""
    made = bench.model.flow.descendants(site.z)
    return any(leaf.node in made and set(site.heads) & set(leaf.frontier) for term in bench.model.terms for leaf in term.leaves)


def _moved(bench: Bench, site: Site, loss: fx.Node) -> float:
    same = bench.same([site.z])
    before, after = (float(bench.after(c, [loss])[loss].double()) for c in (same, {site.z: same[site.z] + _SHIFT}))
    return abs(after - before) / max(abs(before), 1e-12)


def _broken(bench: Bench, site: Site, cut: fx.Node, moved: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(cut) or model.where(site.z),
        label="the gradient to the draw ends here",
        labels=model.labels((site.z, f"drawn here: {model.written(site.z)}")),
        why="what the draw is used for does not train its posterior: the KL alone does, and takes it back to the prior",
        help="let the gradient through (no detach or no_grad on the way); a level of a hierarchy is trained by the level below it",
    )
    text = f"other values of the draw move the loss by {moved:.2g} of its size, and its gradient there is 0"
    return Broken("draw-not-reached", found, "a draw that moves the loss has a gradient", text)
