"""Law C3, for products of experts: the joint posterior is the product of Gaussians that the experts describe.

For experts N(m_i, v_i) the product has 1/v = sum_i 1/v_i and m = sum_i (v / v_i) m_i. So v_i = v / w_i, with w_i the slope of the
joint mean in m_i, shows each expert's variance as the joint posterior takes it. Prediction: it is a function of that expert's own spread
alone, and not the square root of a variance; where mean and spread of an expert read the same values, it is that expert's. Fusions
whose weights do not move with the spreads (averages, mixtures, gates) are exempt.

Source: Hinton 2002, Training products of experts by minimizing contrastive divergence; Wu & Goodman 2018, Multimodal generative
models for scalable weakly-supervised learning, section 2.2; Sonderby et al. 2016, Ladder variational autoencoders, eq. 15 to 17.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_BATCH = 2
_NOTHING = 1e-5
_MOVES = 1e-2
_HALF = (0.48, 0.52)
_MOST_NUMBERS = 4000


@law(
    "experts-multiply",
    "the joint posterior takes each expert's variance from that expert alone, and as a variance",
    covered=("VAE205", "VAE206", "VAE212", "VAE221"),
    cost="replay",
)
def experts_multiply(bench: Bench) -> Iterator[Broken]:
    """Posteriors whose mean is a weighted sum of several means, with weights made of the spreads."""
    reasons: list[str] = []
    for site in bench.model.sites:
        if site.kind != "gaussian" or len(site.noise) != 1:
            continue
        try:
            product = Product(bench, site)
            if not product.is_one:
                continue
            found = product.fault()
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if found is not None:
            yield _broken(bench, site, *found)
    if reasons:
        raise CannotMeasureError(f"the draw does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Product:
    """One draw, as a function of what the layers behind its mean and scale put out."""

    bench: Bench
    site: Site
    held: Mapping[fx.Node, torch.Tensor] = field(default_factory=dict)  # inputs with values in place of their own

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The recorded sizes, with a small batch."""
        return {**self.bench.model.record.sizes, "B": _BATCH}

    @cached_property
    def raw(self) -> list[fx.Node]:
        """The outputs of the last layers behind the draw."""
        flow = self.bench.model.flow
        layers = {n for n in flow.ancestors(self.site.z) if ops.uses_parameter(n) and n in flow.data and self.bench.is_real(n)}
        return flow.sorted({n for n in flow.ancestors(self.site.z, stop=layers) if n in layers})

    def moments(self, raw: Mapping[fx.Node, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and scale of the first latent of the first sample; of its real part, where it is a complex number."""
        replay, noise = self.bench.model.replay, self.site.noise[0]
        at = []
        for level in (0.0, 1.0):
            given = {noise: torch.full(replay.shape_of(noise, self.sizes), level, dtype=torch.float64)}
            z = replay([self.site.z], {**self.held, **raw, **given}, self.sizes, attached=True)[self.site.z]
            at.append(z.reshape(-1)[0].real)
        return at[0], at[1] - at[0]

    def values(self, seed: int, put: Mapping[int, float] | None = None) -> dict[fx.Node, torch.Tensor]:
        """Random outputs of the layers, with some of their numbers put where one wants them."""
        generator = torch.Generator().manual_seed(seed)
        replay = self.bench.model.replay
        made = {n: torch.randn(replay.shape_of(n, self.sizes), dtype=torch.float64, generator=generator) for n in self.raw}
        for number, there in (put or {}).items():
            at = number
            for value in made.values():
                if 0 <= at < value.numel():
                    value.view(-1)[at] = there
                at -= value.numel()
        return made

    def slopes(
        self, seed: int, put: Mapping[int, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """All raw numbers, the slopes of the mean and of the log-scale in them, and how the slopes of the mean move with each of them."""
        raw = self.values(seed, put)
        if not raw or sum(v.numel() for v in raw.values()) > _MOST_NUMBERS:
            return None
        leaves = [v.requires_grad_() for v in raw.values()]
        mean, scale = self.moments({n: v * 1 for n, v in raw.items()})
        if not (mean.requires_grad and scale.requires_grad):
            return None
        by_mean = torch.autograd.grad(mean, leaves, create_graph=True, allow_unused=True)
        slope = torch.cat([(torch.zeros_like(v) if g is None else g).reshape(-1) for v, g in zip(leaves, by_mean, strict=True)])
        by_scale = _flat(gradients(scale.abs().log(), leaves, retain=True), leaves)
        means = self._means(slope, by_scale)
        seconds = [_flat(gradients(slope[i].abs().log(), leaves, retain=True), leaves) for i in means] if slope.requires_grad else []
        return torch.cat([v.detach().reshape(-1) for v in leaves]), slope.detach(), by_scale, torch.stack(seconds) if seconds else slope[:0]

    @staticmethod
    def _means(slope: torch.Tensor, by_scale: torch.Tensor) -> list[int]:
        """The numbers that move the mean and not the scale."""
        found: list[int] = torch.nonzero((slope.detach().abs() > _NOTHING) & (by_scale.abs() < _NOTHING)).flatten().tolist()
        return found if len(found) <= 8 else []

    @cached_property
    def _here(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None:
        return self.slopes(0)

    @property
    def is_one(self) -> bool:
        """Whether there are as many means as spreads, one of each an expert, weighed by what the spreads are."""
        if self._here is None:
            return False
        _, slope, by_scale, seconds = self._here
        means = self._means(slope, by_scale)
        spreads = torch.nonzero(by_scale.abs() > _NOTHING).flatten().tolist()
        weights = slope[means]
        if len(means) < 1 or len(means) != len(spreads) or seconds.dim() != 2 or not bool(((weights > 0) & (weights < 0.9999)).all()):
            return False
        alone = seconds[:, means].abs().max() < _NOTHING
        is_sum = float(weights.sum()) < 1 + 1e-6 or _of_one_each(2 * by_scale[spreads] - seconds[:, spreads])
        return bool(alone) and is_sum and bool((seconds[:, spreads].abs().max(1).values > _MOVES).all())

    @property
    def spread_numbers(self) -> list[int]:
        """The raw numbers that move the scale."""
        assert self._here is not None
        found: list[int] = torch.nonzero(self._here[2].abs() > _NOTHING).flatten().tolist()
        return found

    def borrowed(self, moves: float) -> tuple[fx.Node, fx.Node] | None:
        """The layers of a mean that is weighed by another expert's spread alone, and of that spread, where one expert has no spread."""
        if self._here is None:
            return None
        _, slope, by_scale, seconds = self._here
        means, spreads = self._means(slope, by_scale), torch.nonzero(by_scale.abs() > _NOTHING).flatten().tolist()
        owners = {self._experts[j] for j in spreads}
        if len(means) < 2 or not 0 < len(spreads) < len(means) or seconds.dim() != 2:
            return None
        for row, i in enumerate(means):
            moving = [j for j in spreads if float(seconds[row, j].abs()) > moves]
            if moving and self._experts[i] not in owners:
                return self.layer_of(i), self.layer_of(moving[0])
        return None

    def layer_of(self, number: int) -> fx.Node:
        """The layer that puts out one of the raw numbers."""
        for n in self.raw:
            number -= math.prod(self.bench.model.replay.shape_of(n, self.sizes))
            if number < 0:
                return n
        raise IndexError("no layer puts out this number")

    def counted(self) -> tuple[int, int] | None:
        """How many means and how many spreads move the joint posterior; None where it has too many numbers."""
        if self._here is None:
            return None
        _, slope, by_scale, _ = self._here
        return len(self._means(slope, by_scale)), int((by_scale.abs() > _NOTHING).sum())

    def fault(self) -> tuple[str, str, list[int]] | None:
        """What is wrong, and the numbers of the spreads."""
        assert self._here is not None
        exponents = []
        for seed in range(3):
            got = self.slopes(seed)
            if got is None:
                return None
            _, slope, by_scale, seconds = got
            means = self._means(slope, by_scale)
            spreads = torch.nonzero(by_scale.abs() > _NOTHING).flatten().tolist()
            own = 2 * by_scale[spreads] - seconds[:, spreads]  # d log v_i / d h_j, one row an expert
            if len(means) != len(spreads):
                return None
            if (crossed := self._of_another(means, spreads, own)) is not None:
                return "crossed", crossed, spreads
            for row in own:
                order = row.abs().sort(descending=True).values
                if len(order) > 1 and float(order[1]) > _MOVES * float(order[0]):
                    return (
                        "another",
                        f"moves by {float(order[1]):.2g} with the logarithm of another's, by {float(order[0]):.2g} with its own",
                        spreads,
                    )
            exponents += [float(row.abs().max()) for row in own]
        if len(exponents) >= 3 and all(_HALF[0] < e < _HALF[1] for e in exponents):
            return "root", "the variance of each expert is taken to be exp(h / 2), for what the layer puts out as h", spreads
        return None

    @property
    def weighed_by_variances(self) -> bool:
        """Whether each mean weighs more the wider its own expert is, where what the layers read shows whose each number is.

        The joint precision must be a sum over the experts: else the spread is at fault, and may stand for a precision.
        """
        assert self._here is not None
        _, slope, by_scale, seconds = self._here
        means, spreads = self._means(slope, by_scale), torch.nonzero(by_scale.abs() > _NOTHING).flatten().tolist()
        whose = [self._experts[j] for j in spreads]
        if len(set(whose)) < len(spreads) or {self._experts[i] for i in means} != set(whose):
            return False
        own = [spreads[whose.index(self._experts[i])] for i in means]
        return all(float(row[j] * by_scale[j]) > 0 for row, j in zip(seconds, own, strict=True)) and self._precisions_add_up(spreads)

    def _precisions_add_up(self, spreads: list[int]) -> bool:
        """Whether no expert's part of the joint precision moves with another expert's spread."""
        raw = self.values(0)
        leaves = [v.requires_grad_() for v in raw.values()]
        _, scale = self.moments({n: v * 1 for n, v in raw.items()})
        by_raw = torch.autograd.grad(scale.square().reciprocal(), leaves, create_graph=True, allow_unused=True)
        parts = torch.cat([(torch.zeros_like(v) if g is None else g).reshape(-1) for v, g in zip(leaves, by_raw, strict=True)])[spreads]
        for i in range(len(spreads)):
            again = _flat(gradients(parts[i], leaves, retain=True), leaves)[spreads]
            others = again.index_fill(0, torch.tensor([i]), 0.0)
            if float(others.abs().max()) > _MOVES * float(again.abs().max()):
                return False
        return True

    def _of_another(self, means: list[int], spreads: list[int], own: torch.Tensor) -> str | None:
        """Words for a variance that is another expert's, where the layers show by what they read whose each number is."""
        experts = [self._experts[i] for i in means], [self._experts[i] for i in spreads]
        if len(set(experts[0])) < len(means) or len(set(experts[1])) < len(spreads):
            return None
        for expert, row in zip(experts[0], own, strict=True):
            if expert in experts[1]:
                moved_by = experts[1][int(row.abs().argmax())]
                if moved_by != expert and float(row[experts[1].index(expert)].abs()) < _MOVES * float(row.abs().max()):
                    return "the variance that the weight of a mean stands for moves with another expert's spread, and not with its own"
        return None

    @cached_property
    def _experts(self) -> list[tuple[fx.Node, ...]]:
        """For each raw number what the layer that put it out reads: mean and spread of one expert read the same."""
        replay, found = self.bench.model.replay, []
        for n in self.raw:
            read = tuple(i for i in ops.value_inputs(n) if not ops.is_parameter(i))
            found += [read] * math.prod(replay.shape_of(n, self.sizes))
        return found

    def falling(self) -> fx.Node | None:
        """The first value between the layers and the draw that falls where the spread of an expert grows: its precision."""
        for n, moved in self._moved():
            if bool((moved < 0).all()) and ops.op(n) not in ("neg", "negative", "mul"):
                return n
        return None

    def weighing(self) -> fx.Node | None:
        """The first value that makes the mean and not the scale, and moves with the spreads: a mean and its weight."""
        flow = self.bench.model.flow
        if self.site.mu is None or self.site.scale is None:
            return None
        of_mean, of_scale = flow.ancestors(self.site.mu), flow.ancestors(self.site.scale)
        return next((n for n, _ in self._moved() if n in of_mean and n not in of_scale), None)

    def _moved(self) -> Iterator[tuple[fx.Node, torch.Tensor]]:
        """The values between the layers and the draw that a larger spread of the experts moves, and by what."""
        assert self._here is not None
        flow, replay = self.bench.model.flow, self.bench.model.replay
        inside = [n for n in flow.sorted(flow.ancestors(self.site.z, stop=set(self.raw))) if n not in self.raw and self.bench.is_real(n)]
        spreads = torch.nonzero(self._here[2].abs() > _NOTHING).flatten()
        before, after = {**self.held, **self.values(0)}, self.values(0)
        place = 0
        for k, v in enumerate(after.values()):  # each by another amount: shares move too
            own = [int(i) - place for i in spreads if place <= int(i) < place + v.numel()]
            v.view(-1)[own] += 0.5 / (k + 1)
            place += v.numel()
        wanted = [n for n in inside if self.site.noise[0] not in flow.ancestors(n)]
        old, new = replay(wanted, before, self.sizes), replay(wanted, {**self.held, **after}, self.sizes)
        for n in wanted:
            if isinstance(old[n], torch.Tensor) and old[n].is_floating_point():
                moved = (new[n] - old[n]).flatten()
                moved = moved[moved.abs() > 1e-9]
                if moved.numel():
                    yield n, moved


def _of_one_each(own: torch.Tensor) -> bool:
    """Whether each weight is the joint variance over that of one expert, whichever: then their sum may be more than one."""
    largest = own.abs().sort(1, descending=True).values
    return own.shape[1] > 1 and bool(((largest[:, 1] < _NOTHING) & (largest[:, 0] > _MOVES)).all())


def _flat(found: list[torch.Tensor | None], leaves: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(v) if g is None else g).detach().reshape(-1) for v, g in zip(leaves, found, strict=True)])


def _broken(bench: Bench, site: Site, kind: str, text: str, spreads: list[int]) -> Broken:
    model, product = bench.model, Product(bench, site)
    node = product.weighing() if kind == "crossed" else product.falling()
    if kind == "another":  # where no precision is added up for the scale, variances are the weights
        node = (None if product.weighed_by_variances else _only_of_scale(bench, site, node)) or product.weighing()
    found = Found(
        model.where(node if node is not None else site.z),
        label="a standard deviation where the product needs the variance"
        if kind == "root"
        else "not the variance that belongs to the weights",
        labels=model.labels((site.z, "drawn here from the product of the experts")),
        why="the joint posterior is not the product of what the experts say: one that is sure has too little weight, "
        "or the joint spread is wrong",
        help="with precisions t_i = 1 / variance_i (exp(-logvar_i)): variance = 1 / sum(t_i), mean = variance * sum(t_i * mean_i)",
    )
    return Broken("experts-not-multiplied", found, "v_i = v / w_i is a function of expert i's own spread, and a variance", text)


def _only_of_scale(bench: Bench, site: Site, precision: fx.Node | None) -> fx.Node | None:
    """The first value after the precisions that makes the scale and not the mean."""
    flow = bench.model.flow
    if precision is None or site.scale is None or site.mu is None:
        return None
    of_mean = flow.ancestors(site.mu)
    way = [n for n in flow.sorted(flow.ancestors(site.scale)) if n in flow.descendants(precision) and n not in of_mean]
    return way[0] if way else None
