"""Law C1, for a prior made by a map: what is added for its volumes is the logarithm of the map's own Jacobian.

For log p(z) = log p_0(f(z)) + log|det df/dz|, the addends of -log p that see z by way of the map's layers and not its end are a
multiple of -log|det df/dz|, whatever the base density and the map are. Intervention: the draw and the map's weights are moved, and the
Jacobian is taken from the recorded map itself. Where the addends move with its logarithm and are no multiple of it, or one whose sign is
not that of the base density, p is no density.

Exempt: addends that do not follow the volumes closely (a critic, an energy) and are no sum of them with other weights, a map of which
some inner value fulfils it, and what is near the volumes by intention: a trace added up over small steps of time, where neither the map
has an exponential nor the addends a logarithm, and an estimate with noise of its own. A matrix that acts at every place of a map of
features counts once for each place.

Source: Dinh et al. 2017, Density estimation using Real NVP, eq. 3; Kingma & Dhariwal 2018, Glow, table 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.moments.map_volumes import MapVolumes
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.exchanges import mending
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_WIDEST = 64
_RANKS = (2, 4, 5)  # codes and maps of features: of a sequence each step is judged given the one before
_OFF = 0.02
_MENDED = 1e-6
_UNRELATED = 0.75  # a correlation of 0.66: of 24 states, what is unrelated comes that near once in 2000 times
_TURNS = frozenset({"sub", "rsub", "isub", "subtract", "neg"})
_EXACT = frozenset({"exp", "log", "log1p", "logsigmoid", "log_sigmoid", "logdet", "slogdet"})


@law(
    "prior-volumes-are-the-maps",
    "what a prior adds for the volumes of its map is the logarithm of the map's Jacobian",
    covered=("VAE408", "VAE423", "VAE424", "VAE427", "VAE428"),
    cost="replay",
)
def prior_volumes_are_the_maps(bench: Bench) -> Iterator[Broken]:
    """Terms with a draw that layers map, and that is judged at the end of the map."""
    for term in bench.model.terms:
        if term.role not in ("kl", "prior", "other") or term.detached is not None:
            continue
        for site in term.sites or bench.model.sites:  # a prior that is added up apart from log q has no draw of its own
            if len(shape(site.z)) not in _RANKS or math.prod(shape(site.z)[1:]) > _WIDEST:
                continue
            try:
                found = [_Judged(MapVolumes(bench, site, end), volumes, base) for end, volumes, base in _ends(bench, term, site)]
                best = min((one for one in found if one.off is not None), key=lambda one: one.off or 0.0, default=None)
                if best is not None and best.is_off:
                    yield _broken(best)
                    return
            except ReplayError as error:
                raise CannotMeasureError(f"the prior's map does not run by itself: {message_of(error)}") from error


@dataclass(frozen=True)
class _Judged:
    """The addends beside one end of a map, against the map's volumes."""

    map: MapVolumes
    volumes: list[Leaf]
    base: list[Leaf]

    @cached_property
    def off(self) -> float | None:
        """By what share of their own moves they part from the best multiple of the log-volumes."""
        return self.map.off(self.volumes)

    @cached_property
    def miscounted(self) -> tuple[Leaf, float] | None:
        """The one addend that is right but for how often it counts."""
        return self.map.miscounted(self.volumes)

    @property
    def is_off(self) -> bool:
        """Whether they are meant to be the volumes, and are not."""
        if self.off is None or self.off <= _OFF:
            return self.is_turned
        return self.off < _UNRELATED or self.miscounted is not None

    @property
    def is_turned(self) -> bool:
        """Whether they are the volumes, with the other sign."""
        return self.off is not None and self.off <= _OFF and self.map.is_turned(self.volumes, self.base)

    @property
    def is_mended(self) -> bool:
        """Whether they are the volumes, exactly."""
        return (self.map.off(self.volumes) or 1.0) < _MENDED


def _ends(bench: Bench, term: Term, site: Site) -> list[tuple[fx.Node, list[Leaf], list[Leaf]]]:
    """Values of the draw's shape that layers made of it and that a density without layers judges, each with the addends beside it and its
    own."""
    flow = bench.model.flow
    leaves = [leaf for leaf in term.leaves if leaf.detached is None and site.z in flow.ancestors(leaf.node)]
    inside = flow.ancestors(*(leaf.node for leaf in leaves), stop={site.z}) & flow.descendants(site.z)
    mapped = [leaf for leaf in leaves if _by_layers(bench, leaf.node, site)]
    if _is_decoded(bench, term, site, inside) or _is_of_another(bench, site, mapped):
        return []
    ends = flow.sorted({n for n in inside if shape(n) == shape(site.z) and bench.is_real(n) and _by_layers(bench, n, site)})
    found = []
    for end in (n for n in ends if not any(map(_is_layer, flow.descendants(n) & inside))):
        judged = [leaf for leaf in leaves if end in flow.ancestors(leaf.node)]
        volumes = [leaf for leaf in mapped if leaf not in judged]
        volumes += [leaf for leaf in term.leaves if leaf.detached is None and _is_of_weights(bench, leaf, end, site)]
        passed = judged and not any(site.z in flow.ancestors(leaf.node, stop={end}) for leaf in judged)
        if passed and volumes and _are_exact(bench, site, end, volumes):
            found.append((end, volumes, judged))
    return found


def _is_of_weights(bench: Bench, leaf: Leaf, end: fx.Node, site: Site) -> bool:
    """Whether an addend is made of the map's own parameters alone: the log-determinant of a matrix that all places share."""
    flow = bench.model.flow
    behind = flow.ancestors(leaf.node) | {leaf.node}
    if behind & (flow.data | flow.random) or site.z in behind:
        return False
    own = {n for n in flow.ancestors(end, stop={site.z}) if n.op == "get_attr" and n.meta.get("parameter")}
    return bool(own & behind)


def _is_decoded(bench: Bench, term: Term, site: Site, inside: set[fx.Node]) -> bool:
    """Whether the map is the posterior's: what it puts out is decoded."""
    decoded = [leaf.node for other in bench.model.terms if other is not term for leaf in other.leaves]
    return any(shape(n) == shape(site.z) for n in (inside - {site.z}) & bench.model.flow.ancestors(*decoded))


def _is_of_another(bench: Bench, site: Site, mapped: list[Leaf]) -> bool:
    """Whether it is the density of another draw, given this one."""
    others = {n for s in bench.model.sites if s is not site for n in (s.z, *s.heads)}
    return any(others & bench.model.flow.ancestors(leaf.node, stop={site.z}) for leaf in mapped)


def _are_exact(bench: Bench, site: Site, end: fx.Node, volumes: list[Leaf]) -> bool:
    """Whether volumes are meant to the last digit: no trace for a determinant, no noise of their own."""
    flow = bench.model.flow
    made = flow.ancestors(end, *(leaf.node for leaf in volumes), stop={site.z})
    way = made & flow.descendants(site.z) | {leaf.node for leaf in volumes}
    scaled = [n for n in flow.descendants(site.z) & flow.ancestors(end) if ops.op(n) in ops.MUL and _is_a_gate(bench, n, site)]
    return (bool(scaled) or any(ops.op(n) in _EXACT for n in way)) and not made & flow.random - {site.z}


def _is_a_gate(bench: Bench, node: fx.Node, site: Site) -> bool:
    """Whether a part of the draw that no layer has read yet is multiplied with what a layer made of another part: a coupling."""
    both = [n for n in ops.value_inputs(node) if site.z in bench.model.flow.ancestors(n) | {n}]
    return len(both) == 2 and sum(_by_layers(bench, n, site) for n in both) == 1


def _is_layer(node: fx.Node) -> bool:
    return ops.uses_parameter(node) and ops.op(node) in ops.LAYERS


def _by_layers(bench: Bench, node: fx.Node, site: Site) -> bool:
    """Whether a layer reads the draw on the way to a node."""
    flow = bench.model.flow
    return any(_is_layer(n) for n in flow.ancestors(node, stop={site.z}) & flow.descendants(site.z))


def _formula(judged: _Judged) -> list[fx.Node]:
    """What the addends are made of beside the map, with what sums them up."""
    flow, map_ = judged.map.bench.model.flow, judged.map
    own = {n for leaf in judged.volumes for n in (leaf.node, *leaf.chain)}
    beside = flow.ancestors(*(leaf.node for leaf in judged.volumes), stop={map_.site.z}) & flow.descendants(map_.site.z)
    return flow.sorted((beside - flow.ancestors(map_.end)) | own)


def _sign_of(judged: _Judged) -> fx.Node:
    """The innermost operation that turns the volumes' sign before they meet the base density; else where they meet it."""
    leaf, met = judged.volumes[0], {n for other in judged.base for n in other.chain}
    own = [n for n in reversed(leaf.chain) if n not in met]
    turned = next((n for n in own if ops.op(n) in _TURNS), None)
    return turned or next((n for n in reversed(leaf.chain) if n in met), leaf.node)


def _broken(judged: _Judged) -> Broken:
    bench, end, site = judged.map.bench, judged.map.end, judged.map.site
    model, off = bench.model, judged.off or 0.0
    formula = _formula(judged)
    label = "not the logarithm of the factor by which the prior's map changes volumes"
    if judged.is_turned:
        label = "taken from log p_0 where it is added, or added where it is taken"
    if judged.miscounted is not None:
        leaf, times = judged.miscounted
        place, label = leaf.node, f"counts once for what it does {times:.3g} times, as at each place of a map"
    elif not judged.is_turned and (mended := mending(model.replay, formula, lambda: judged.is_mended)) is not None:
        place, label = mended.node, f"with {mended.words.format(model.written(mended.operand))} here it is the map's volume"
    elif judged.is_turned:
        place = _sign_of(judged)
    else:
        place = next((n for n in formula if model.where(n)), judged.volumes[0].node)
    found = Found(
        model.where(place),
        label=label,
        labels=model.labels((end, "the end of the map, where the base density is read"), (site.z, "drawn here")),
        why="log p(z) is not a log-density: the prior learns to shrink or spread instead of learning where the codes are",
        help="log p(z) = log p_0(f(z)) + log|det df/dz|: a coupling scales one half by what it makes of the other half alone, "
        "and its log-determinant is the sum of the logarithms of those scales",
    )
    text = f"it differs from the best multiple of it by {100 * off:.2g} % of its own moves"
    if judged.is_turned:
        text = "it moves as the log-determinant does, with the other sign than the base density has"
    return Broken("latent-density-formula", found, "what is added moves as the log-determinant of the map does", text)
