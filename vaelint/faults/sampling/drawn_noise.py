"""What a site's noise is distributed like, by drawing from its slice of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.model import Model
    from vaelint.replay.traced import Traced

_AFFINE = (
    ops.ADD
    | ops.MUL
    | ops.DIV
    | ops.SHAPE
    | ops.CAST
    | ops.SELECT
    | ops.JOIN
    | {
        "neg",
        "effect",
        "detach",
        "data",
        "zeros",
        "zeros_like",
        "empty",
        "new",
        "new_empty",
        "empty_like",
        "new_zeros",
        "full",
        "ones",
        "ones_like",
    }
)


def constant_axes(model: Traced, site: Site) -> list[str]:
    """The axes of the posterior along which the noise does not vary: missing, of size 1, or stretched. By drawing, not by shape alone."""
    like = site.mu if site.mu is not None else site.scale
    if not site.noise or site.kind == "drawn" or like is None:
        return []
    eps = site.noise[0]
    full, texts = list(like.meta["val"].shape), model.dims(like)
    mine = list(eps.meta["val"].shape)
    if len(mine) < len(full) and model.mentions_batch(eps) and meets_a_matrix(model, site):
        return []  # a vector for each sample, multiplied with a matrix for each: their axes do not line up
    if len(mine) > len(full) and mine[len(mine) - len(full) :] != full:
        return (
            [] if mine[: len(full)] == full else [t for t in texts if t == "B" and not model.mentions_batch(eps)]
        )  # a column for a product with a matrix
    drawn = _drawn(model, eps)
    found = []
    for back in range(1, len(full) + 1):
        if full[-back] == 1:
            continue
        size = mine[-back] if back <= len(mine) else 1
        varies = size != 1 and (drawn is None or drawn.dim() < back or drawn.shape[-back] == 1 or bool((drawn.diff(dim=-back) != 0).any()))
        if not varies:
            found.append(texts[-back])
    return found[::-1]


def _drawn(model: Traced, eps: fx.Node) -> torch.Tensor | None:
    """The noise of a few samples; of as many as the user has where another number does not go."""
    own = dict(model.record.sizes)
    for sizes in ({**own, "B": min(8, own.get("B", 8))}, own):
        try:
            drawn = model.replay([eps], {}, sizes, seed=1)[eps]
        except ReplayError:
            continue
        if not isinstance(drawn, torch.Tensor):
            return None
        if drawn.numel():  # what cuts a part off by a number may leave nothing of a few samples
            return drawn
    return None


def meets_a_matrix(model: Traced, site: Site) -> bool:
    """Whether the noise goes through a matrix product on its way to z."""
    between = model.flow.descendants(*site.noise, stop={site.z}) & model.flow.ancestors(site.z)
    return any(ops.op(n) in ops.PRODUCT for n in between)


def stretched_axes(model: Traced, site: Site) -> list[str]:
    """The axes over which the scale is stretched where it meets the mean, or the mean where it meets the scale.

    Where noise of another source has joined the mean (a low-rank part, say), axes before the samples are those of its draws.
    """
    if site.mu is None or site.scale is None:
        return []
    draws: tuple[str, ...] = ()
    if site.mu in model.flow.noisy and (texts := model.dims(site.mu)).count("B") == 1:
        draws = tuple(texts[: texts.index("B")])
    one, other = model.missing_axes(site.scale, site.mu), model.missing_axes(site.mu, site.scale)
    return [axis for axis in one if axis not in draws] or other


def is_averaged_out(model: Traced, site: Site) -> bool:
    """Whether the scale is an average over the axes of one sample: it is one number for all of them because somebody made it so."""
    if site.scale is None:
        return False
    way = model.flow.ancestors(site.scale, stop={n for n in model.flow.order if ops.uses_parameter(n)}) | {site.scale}
    return any(ops.op(n) in ops.LINEAR_REDUCE and ops.dims_of(n) and "B" in model.dims(n) for n in way)


def is_counted_out(model: Traced, site: Site, fact: KlFact) -> bool:
    """Whether a KL is that of one scale for all axes, which it counts once for each by a number and stretches nowhere: it is meant."""
    if site not in fact.term.sites or not fact.probe.whole or fact.probe.verdict != "exact":
        return False
    up = {n for leaf in fact.term.leaves for n in (leaf.node, *leaf.chain)}
    of_scale = model.flow.descendants(*site.scale_heads) | set(site.scale_heads)
    way = of_scale & (up | model.flow.ancestors(*(leaf.node for leaf in fact.term.leaves)))
    return not any(model.missing_axes(one, n) for n in way for one in ops.value_inputs(n) if one in of_scale)


@dataclass(frozen=True)
class NoiseMoments:
    """Mean, standard deviation and excess kurtosis of the noise; `shaped` if a function other than scaling was applied to the draw."""

    mean: float
    std: float
    kurtosis: float
    shaped: bool
    draw: str

    @property
    def is_aside(self) -> bool:
        """Whether its mean is far from 0: no function that was applied on purpose, as a truncation, does that to a Gaussian draw."""
        return abs(self.mean) > _ASIDE * self.std

    @property
    def is_standard_normal(self) -> bool:
        """Within what a few thousand draws can tell."""
        return abs(self.mean) < 0.08 and abs(self.std - 1) < 0.08 and abs(self.kurtosis) < 0.6


_ASIDE = 0.25
"""A mean of noise, in standard deviations, that no cut or weight on both sides of zero leaves."""


def noise_moments(model: Traced, site: Site) -> NoiseMoments | None:
    """Draws the site's noise again and again from its own slice; None where it does not run by itself. What torch promises is not drawn."""
    if not site.noise or site.kind == "drawn" or any(r.meta.get("random") for r in site.roots):
        return None  # what numpy drew cannot be drawn again here
    eps = site.noise[0]
    if eps.target in (torch.randn, torch.randn_like):
        return NoiseMoments(0.0, 1.0, 0.0, False, ops.raw_name(eps))
    values, drawn = list[torch.Tensor](), 0
    sizes = {**model.symbols, "B": min(512, max(8, model.symbols.get("B", 8)))}
    try:
        for seed in range(400):
            values.append(model.replay([eps], {}, sizes, seed=seed)[eps].flatten().double())
            drawn += values[-1].numel()
            if drawn >= 20_000:
                break
    except ReplayError:
        return None
    x = torch.cat(values)
    std = float(x.std())
    kurtosis = float((((x - x.mean()) / std) ** 4).mean()) - 3 if std > 0 else 0.0
    between = model.flow.ancestors(eps)
    shaped = any(
        n.op == "call_function" and not ops.is_random(n) and not n.meta.get("scalar") and ops.op(n) not in _AFFINE for n in between
    )
    return NoiseMoments(float(x.mean()), std, kurtosis, shaped, ", ".join(ops.raw_name(r) for r in site.roots))


def spread_is_the_priors(model: Model, site: Site) -> bool:
    """Whether the KL of a site reads its scale and leaves its mean out: it is taken relative to a prior as wide as the noise.

    KL(N(m, s0^2 v) || N(0, s0^2)) = (v - 1 - log v) / 2 + |m|^2 / (2 s0^2), and a mean of constant length costs a constant (Ma et al. 2019,
    section 3.2).
    """
    read = {f for term in model.terms if term.role == "kl" and term.detached is None for leaf in term.leaves for f in leaf.frontier}
    return bool(read & set(site.scale_heads)) and not read & set(site.mu_heads)


def is_no_latent(model: Model, site: Site) -> bool:
    """Whether a draw is neither decoded nor charged: a place between two draws, at which a critic's slope is measured."""
    raw = [n for fact in model.recons for n in (fact.pair.recon, *fact.pair.raw)]
    charged = {s.z for k in model.kls for s in (k.site, *k.term.sites) if s is not None}
    return bool(raw) and site.z not in model.flow.ancestors(*raw) and site.z not in charged
