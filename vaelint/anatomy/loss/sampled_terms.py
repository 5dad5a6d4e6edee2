"""The terms of a bound as the sample sites of its probabilistic program tell them.

The weight of a term is the gradient of the loss in its log-density. Where the bound sums over the values of a latent, a density inside of
the sum is weighed by the probability of each value: its weight is that of all values together, whose probabilities add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Role
from vaelint.late import dataclass
from vaelint.record.sampled import Sampled
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError
from vaelint.replay.scale import Scaling, measure

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_ALIKE = 1e-4
_POINTS = ("Delta", "Unit")  # what says nothing of how likely a value is


@dataclass(frozen=True)
class SampledTerm:
    """The likelihood of an observed site, or what guide and model have of a latent; of a loop's turns, all together."""

    role: Role
    kernel: str  # with `{}` for the names
    names: tuple[str, ...]
    node: fx.Node  # the density of the first
    scaling: Scaling | None
    plates: tuple[str, ...]
    is_point: bool = False  # a latent whose guide is a point: the prior at it is no KL
    is_alone: bool = False  # guide or model draws it, and the other has no density of the draw

    @property
    def shown(self) -> str:
        """`'z_1' and 128 more`."""
        more = len(self.names) - 2
        return " and ".join(repr(n) for n in self.names) if more <= 0 else f"{self.names[0]!r} and {more + 1} more"

    @property
    def words(self) -> str:
        """`Monte Carlo KL of 'z_1' and 128 more (Normal)`."""
        return self.kernel.format(self.shown)

    @property
    def weight(self) -> float | None:
        """At the sizes of the run."""
        return self.scaling.value if self.scaling is not None else None


def sums_over(model: Model) -> bool:
    """Whether the bound goes through all values of a latent."""
    return any(s.summed for n in model.record.graph.nodes if (s := n.meta.get("sampled")) is not None)


def averages_over(model: Model) -> bool:
    """Whether the bound is an average over several draws that are made one after another: the terms of one alone are half of it."""
    return any(s.particle for n in model.record.graph.nodes if (s := n.meta.get("sampled")) is not None)


@per_model
def sampled_terms(model: Model) -> list[SampledTerm]:
    """One term a site, likelihoods first; empty where the loss is no bound of a probabilistic program."""
    loss = model.record.loss
    if loss is None:
        return []
    reached = model.flow.ancestors(loss) | {loss}
    densities = {s: n for n in model.record.graph.nodes if (s := n.meta.get("sampled")) is not None and n in reached}
    if not densities:  # the last node of each site is the whole density
        return []
    sites = _Sites(model, densities)
    found = [term for name in dict.fromkeys(s.name for s in densities) for term in sites.terms_of(name)]
    return sorted(_of_loops(model, found), key=lambda t: t.role != "reconstruction")


def balance_of(terms: list[SampledTerm]) -> float | None:
    """What the latents of a row weigh against the likelihood of a row; None where that is not one number.

    Latents that all rows share stand under none of the plates of the data: they count once, whatever a subsample of rows stands for.
    """
    data = [t for t in terms if t.role == "reconstruction"]
    rows = {plate for t in data for plate in t.plates}
    latent = [t for t in terms if t.role in ("kl", "prior") and (rows.intersection(t.plates) or not rows)]
    weights = [{round(t.weight, 6) if t.weight is not None else None for t in some} for some in (latent, data)]
    if any(len(w) != 1 or None in w for w in weights):
        return None
    (kl,), (likelihood,) = weights
    return float(kl / likelihood) if kl is not None and likelihood else None


def _of_loops(model: Model, found: list[SampledTerm]) -> Iterable[SampledTerm]:
    """Terms of the turns of a loop as one: written at one place, of one distribution, weighed alike."""
    gathered: dict[tuple[object, ...], SampledTerm] = {}
    for t in found:
        key = t.role, t.kernel, t.plates, model.where(t.node), t.weight and round(t.weight, 6)
        first = gathered.get(key)
        gathered[key] = t if first is None else replace(first, names=(*first.names, *t.names))
    return gathered.values()


class _Sites:
    """The sites of guide and model that reach the loss, with their densities."""

    def __init__(self, model: Model, densities: dict[Sampled, fx.Node]) -> None:
        self._model, self._densities = model, densities
        self._weights: dict[int, dict[fx.Node, float]] = {}  # by the size of the batch
        self._summed = list(dict.fromkeys(s.name for s in densities if s.summed))
        of_model = {s.name for s in densities if not s.of_guide or s.divergence}
        self._drawn_for = [s.name for s in densities if s.of_guide and s.name not in of_model and s.law not in _POINTS]

    def terms_of(self, name: str) -> Iterable[SampledTerm]:
        """What the loss has of a site."""
        own = [s for s in self._densities if s.name == name]
        model, guide = ([s for s in own if s.of_guide is of_guide and not s.divergence] for of_guide in (False, True))
        closed = [s for s in own if s.divergence]
        if closed:
            yield self._closed(closed)
        elif model and model[0].observed:
            if self._densities[model[0]] in self._model.flow.learned:
                unit = model[0].law == "Unit"
                yield self._term(
                    "other" if unit else "reconstruction", "factor {}" if unit else f"{model[0].law} likelihood of {{}}", model
                )
            if guide and not guide[0].observed and guide[0].law not in _POINTS:
                yield replace(self._term("other", f"log q of {{}} ({guide[0].law}), drawn where the model observes", guide), is_alone=True)
        elif model and guide:
            yield self._latent(model, guide[0])
        elif model:
            found = self._term("prior", f"log prior of {{}} ({model[0].law}), with no posterior", model)
            yield replace(found, is_alone=not model[0].summed and found.node in self._model.flow.learned)
        elif guide and guide[0].law == "Unit":
            yield self._term("other", "factor {} of the guide", guide)
        elif guide and guide[0].name in self._drawn_for:
            yield self._term("kl", f"log q of {{}} ({guide[0].law}), which latents are made of", guide)

    def _closed(self, sites: list[Sampled]) -> SampledTerm:
        """A KL in closed form; where the guide is a point, that is the log prior at it."""
        guide, _, prior = sites[0].law.partition(" to ")
        return self._at_point(prior, sites) if guide == "Delta" else self._term("kl", f"exact KL of {{}} ({sites[0].law})", sites)

    def _at_point(self, prior: str, sites: list[Sampled]) -> SampledTerm:
        """The log prior of a latent that is a point, or a function of another draw of the guide."""
        if self._drawn_for:
            return self._term("kl", f"log prior of {{}} ({prior}), made of {self._drawn_for[0]!r}", sites)
        return self._term("prior", f"log prior of {{}} at a point ({prior})", sites, is_point=True)

    def _latent(self, model: list[Sampled], other: Sampled) -> SampledTerm:
        law = model[0].law
        if other.law == "Delta":
            return self._at_point(law, model)
        how = "exact KL" if model[0].summed else "Monte Carlo KL"
        score = "" if other.moves or model[0].summed else ", by the score function"
        return self._term("kl", f"{how} of {{}} ({' to '.join(dict.fromkeys((other.law, law)))}){score}", model)

    def _term(self, role: Role, kernel: str, sites: list[Sampled], *, is_point: bool = False) -> SampledTerm:
        first = sites[0]
        node = self._densities[first]
        value = node.meta.get("val")
        others = [n for n in self._summed if n != first.name]
        if others and isinstance(value, torch.Tensor) and value.numel() > first.rows:
            kernel += f", summed over {' and '.join(repr(n) for n in others)}"
        return SampledTerm(role, kernel, (first.name,), node, self._scaling(sites), first.plates, is_point)

    def _scaling(self, sites: list[Sampled]) -> Scaling | None:
        """What one row weighs in the loss, all particles together; None where rows differ, or the loss does not run at its values."""

        def weight(sizes: Mapping[str, int]) -> float:
            known = self._at(sizes)
            each = [known[self._densities[s]] for s in sites]
            added = sites[0].of_guide or sites[0].divergence  # to the loss, from which log p is subtracted
            alike = max(each) - min(each) <= _ALIKE * max(map(abs, each))
            return (1 if added else -1) * sum(each) if alike else math.nan

        symbols = dict(self._model.symbols)
        try:
            found = measure(weight, symbols, symbols, {"B": 2 * symbols["B"]} if symbols.get("B", 1) > 1 else {})
        except ReplayError:
            return None
        return found if math.isfinite(found.value) else None

    def _at(self, sizes: Mapping[str, int]) -> dict[fx.Node, float]:
        """The gradient of the loss in one row of each density; not a number where rows have several. Raises `ReplayError`."""
        batch = sizes.get("B", 0)
        if batch not in self._weights:
            model, nodes = self._model, list(self._densities.values())
            loss = model.record.loss
            assert loss is not None
            here = {n: v.detach().requires_grad_() for n, v in model.replay(nodes, {}, sizes).items()}
            out = model.replay([loss], dict(here), sizes)[loss]
            if not out.requires_grad:
                raise ReplayError("the loss has no gradient in the densities")
            slopes = torch.autograd.grad(out.sum(), list(here.values()), allow_unused=True)
            found = zip(self._densities.items(), slopes, strict=True)
            self._weights[batch] = {node: _of_a_row(site, node, slope, bool(self._summed)) for (site, node), slope in found}
        return self._weights[batch]


def _of_a_row(site: Sampled, node: fx.Node, slope: torch.Tensor | None, sums: bool) -> float:
    if slope is None or not slope.numel():
        return math.nan
    values, rows = int(node.meta["val"].numel()), max(site.rows, 1)
    if sums and values > rows:  # each has its share of the row
        return float(slope.sum()) * values / (slope.numel() * rows)
    counted = slope[slope != 0] if site.masked and bool((slope != 0).any()) else slope
    same = float(counted.max() - counted.min()) <= _ALIKE * float(counted.abs().max())
    return float(counted.mean()) * site.draws if same else math.nan
