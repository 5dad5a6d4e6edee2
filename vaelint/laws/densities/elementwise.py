"""A reconstruction term as minus the log-density of one element of the data, laid out over many values of the data at once.

Each row of the batch is one value of the data; what the decoder puts out, and the likelihood's own parameters, are random and the same in
all rows. So one replay of the recorded slice gives a whole curve for each element, and each element is one state of the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.loss.terms import part_of
from vaelint.anatomy.reconstruction.density import DensitySlice, density_slice
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients

_PICKS = frozenset({"gather", "take_along_dim", "getitem", "nll_loss", "cross_entropy"})
_FUSED = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "poisson_nll_loss"}) | frozenset(
    {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
)  # losses of torch that are summed up by what computes them
_LARGEST = 6_000_000  # numbers in one replayed value
_MOST_PIECES = 8  # replays that one curve may take
_STATES = 4  # of the decoder, to see which of its numbers count: a rectified one counts in every second
_WIDE = 1.5  # how far the numbers that the decoder puts out lie apart
_WHOLE = 1e-4
_CONDITION = 40.0  # a library size: what a data-made factor of the likelihood is set to, at most: its logarithm is less by itself


class TooLargeError(ReplayError):
    """The data have too many elements for so many values of each: nothing is known of these values."""


@dataclass(frozen=True)
class Elementwise:
    """One likelihood: the slice of the record that it is, and the innermost expression that holds all of it, element by element."""

    bench: Bench
    at: DensitySlice
    core: fx.Node
    is_weighed: bool = False  # of several components, of which each is a density
    bare: bool = False  # without what is added of the data alone: no gradient sees it, and the sum is over another measure

    @staticmethod
    def all_of(bench: Bench) -> Iterator[Elementwise]:
        """The reconstructions whose terms keep the data's shape until they are summed up; none of classes, which are no line of values."""
        model = bench.model
        addends = [(term, leaf) for term in model.terms_of("reconstruction") if term.detached is None for leaf in term.leaves]
        slices: dict[frozenset[fx.Node], DensitySlice] = {}
        for term, leaf in addends:
            assert model.record.loss is not None
            at = density_slice(term, leaf, model.record.loss, model.flow, model.replay)
            if at is not None and any(f in model.flow.learned for f in leaf.frontier):
                slices.setdefault(frozenset(other.node for other in at.term.leaves), at)
        for leaves, at in slices.items():
            core = _with_data(part_of(at.term, at.term.leaves, model.sites, model.flow).core, at, model.flow)
            mixed = _over_components(core, at, bench)
            core = mixed or core
            if core is not None and _alike(_shape_before_summing(core), at.target) and not any(leaves < others for others in slices):
                found = Elementwise(bench, at, core, is_weighed=mixed is not None)
                if not found.is_of_classes and not found.is_open:
                    yield found

    @property
    def is_open(self) -> bool:
        """Whether a draw of the latent is among what it is made of: not all that the decoder puts out is held."""
        return any(s.z in self.inside for s in self.bench.model.sites)

    @property
    def has_data_elsewhere(self) -> bool:
        """Whether the data enters without a layer by another way than the target: products and means of both are no likelihood."""
        flow = self.bench.model.flow
        layers = {n for n in flow.order if ops.uses_parameter(n)} | {s.z for s in self.bench.model.sites}
        given = flow.ancestors(self.at.target) & set(self.bench.model.record.inputs.values())
        return bool(given & flow.ancestors(*self.at.raw, stop=layers)) or self._is_held_against_another_input

    @property
    def _is_held_against_another_input(self) -> bool:
        """Whether values of the data alone are made of the target and of another input, element by element: of k out of n, which values k
        may have hangs on n, and n has none that add up. A mask only chooses; a label that picks a parameter meets what is learned."""
        flow, target = self.bench.model.flow, self.at.target
        others = set(self.bench.model.record.inputs.values()) - flow.ancestors(target) - {target}
        alike = {
            n  # an input, a part of one, or a sum with it: k and n - k may be what is given
            for n in self.inside - flow.learned
            if n.op != "get_attr"
            and _alike(shape(n), target)
            and n.meta["val"].dtype is not torch.bool
            and others & (flow.ancestors(n) | {n})
            and target not in flow.ancestors(n)
        }
        behind = (flow.ancestors(n) for n in self.inside - flow.learned) if alike else ()
        return any(target in every and alike & every for every in behind)

    @property
    def is_of_classes(self) -> bool:
        """Whether the data says which of the decoder's outputs are read: classes, and no counts."""
        flow = self.bench.model.flow
        same = {n for n in self.inside if flow.ancestors(n, stop={self.at.target}) <= {n, self.at.target} and not self.bench.is_real(n)}
        picks = [n for n in (*self.inside, self.core) if ops.op(n) in _PICKS and (same | {self.at.target}) & set(ops.value_inputs(n))]
        return any(set(ops.value_inputs(n)) & flow.learned for n in picks)

    @property
    def is_detached(self) -> bool:
        """Whether some of it is weighed without a gradient, on purpose: such a term is no density."""
        return any(ops.op(n) in ("detach", "data") for n in self.inside)

    @property
    def is_known(self) -> bool:
        """Whether it was recognised as a whole density already: classes or bits on logits, a Gaussian with its own log-variance."""
        if self.is_weighed:
            return False
        mine = {leaf.node for leaf in self.at.term.leaves}
        facts = [f for f in self.bench.model.recons if mine & {leaf.node for leaf in f.term.leaves}]
        gaussian = [f.density is not None and f.density.name == "gaussian" and not f.density.fault for f in facts]
        return any(gaussian) or any(
            f.takes_logits or f.takes_class_logits or (f.learned_variance and f.probe.kernel == "squared_error") for f in facts
        )

    @cached_property
    def inside(self) -> set[fx.Node]:
        """What is computed between the data, what the decoder puts out, and the core."""
        ends = {*self.at.raw, *self.at.parameters, *self.at.conditions, self.at.target}
        return self.bench.model.flow.ancestors(self.core, stop=ends) - ends

    @cached_property
    def _constants(self) -> list[fx.Node]:
        """Addends of the data alone that the target is no part of: the volume of a map that the data went through before."""
        return [n for n in self.of_data_alone if self.bare or self.at.target not in self.bench.model.flow.ancestors(n)]

    @cached_property
    def of_data_alone(self) -> list[fx.Node]:
        """Addends of the data alone: volumes of a map, logs of factorials."""
        flow, ends = self.bench.model.flow, {*self.at.raw, *self.at.parameters}
        path = {n for leaf in self.at.term.leaves for n in (leaf.node, *leaf.chain)} & (self.inside | {self.core})
        added = {o for n in path if ops.op(n) in ops.ADD for o in ops.value_inputs(n)} & (flow.data - flow.learned) - path
        real = (n for n in flow.sorted(added) if isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].is_floating_point())
        return [n for n in real if n not in ends]

    @cached_property
    def learns_its_spread(self) -> bool:
        """Whether more is learned for each element than where it lies: a scale, a dispersion, the weights of components."""
        sizes = {**self.bench.model.record.sizes, "B": 1}
        elements = math.prod(self.at.replay.shape_of(self.at.target, sizes))
        numbers = sum(math.prod(self.at.replay.shape_of(n, sizes)) for n in self.at.raw)
        return bool(self.at.parameters) or (numbers > elements and self._that_count(sizes) > elements)

    def _that_count(self, sizes: Mapping[str, int]) -> int:
        """How many numbers of one sample's output move the core, at some data: not those of a border that is cut off (a transposed
        convolution's). What opens at zeros alone, as the gate of a zero-inflated law, moves the core there."""
        generator = torch.Generator().manual_seed(23)
        moved = [torch.zeros(self.at.replay.shape_of(n, sizes), dtype=torch.bool) for n in self.at.raw]
        try:
            zeros = torch.zeros(self.at.replay.shape_of(self.at.target, sizes), dtype=torch.float64)
            for number in range(_STATES + 1):
                raw = [(_WIDE * torch.randn(m.shape, dtype=torch.float64, generator=generator)).requires_grad_() for m in moved]
                put = {
                    **dict(zip(self.at.raw, raw, strict=True)),
                    **({self.at.target: _as_recorded(zeros, self.at.target)} if number == _STATES else {}),
                }
                core = self.at.replay([self.core], put, dict(sizes))[self.core]
                for seen, slope in zip(moved, gradients(core, raw), strict=True):
                    seen |= slope != 0 if slope is not None else False
        except ReplayError:  # not at one sample: then each counts
            return sum(m.numel() for m in moved)
        return sum(int(seen.sum()) for seen in moved)

    @cached_property
    def fewest_numbers(self) -> int:
        """The fewest numbers that one sample has of what the decoder puts out, or that a parameter of the likelihood has."""
        sizes = {**self.bench.model.record.sizes, "B": 1}
        return min(math.prod(self.at.replay.shape_of(n, sizes)) for n in (*self.at.raw, *self.at.parameters))

    def over(
        self,
        points: torch.Tensor,
        seed: int = 0,
        given: Mapping[fx.Node, float] | None = None,
        more: Sequence[fx.Node] = (),
        put: Mapping[fx.Node, torch.Tensor] | None = None,
    ) -> dict[fx.Node, torch.Tensor]:
        """-log p up to its weight, (points, elements), under `core`; and the values of `more` nodes. Raises ReplayError.

        Args:
            points: values of the data, one a row.
            seed: of what the decoder puts out.
            given: values of nodes made of the data alone, such as a library size, for all samples.
            more: further nodes that are asked for.
            put: further nodes with values in place of their own.
        """
        sizes = {**self.bench.model.record.sizes, "B": points.numel()}
        pieces = -(-math.prod(self.at.replay.shape_of(self.at.target, sizes)) // _LARGEST)
        if pieces > 1 and pieces <= _MOST_PIECES and not more and not put:
            curves = [self.over(piece, seed, given)[self.core] for piece in points.tensor_split(pieces + 1)]
            return {self.core: torch.cat(curves)}
        values, sizes = self._laid_out(points, seed, given, put)
        replay = self.at.replay
        if _sums_itself(self.core):
            got = replay([*self.core.all_input_nodes, *more], values, sizes)
            curve = _one_by_one(self.core, got)
        else:
            got = replay([self.core, *more], values, sizes)
            curve = got[self.core]
        found = {n: got[n] for n in more}
        found[self.core] = self._sign * curve.reshape(points.numel(), -1)
        return found

    def as_they_are(
        self, points: torch.Tensor, seed: int, nodes: Sequence[fx.Node], put: Mapping[fx.Node, torch.Tensor] | None = None
    ) -> dict[fx.Node, torch.Tensor]:
        """Values of the slice, the core's in its own shape and sign. Raises ReplayError."""
        values, sizes = self._laid_out(points, seed, None, put)
        return self.at.replay(list(nodes), values, sizes)

    def _laid_out(
        self, points: torch.Tensor, seed: int, given: Mapping[fx.Node, float] | None, put: Mapping[fx.Node, torch.Tensor] | None
    ) -> tuple[dict[fx.Node, torch.Tensor], dict[str, int]]:
        sizes = {**self.bench.model.record.sizes, "B": points.numel()}
        replay = self.at.replay
        whole = replay.shape_of(self.at.target, sizes)
        axis = replay.texts_of(self.at.target).index("B")
        if math.prod(whole) > _LARGEST or axis:
            raise TooLargeError("too large to be laid out value by value")
        overrides = {n: _as_recorded(torch.full(replay.shape_of(n, sizes), size), n) for n, size in self._conditions.items()}
        overrides |= {n: torch.zeros(replay.shape_of(n, sizes), dtype=torch.float64) for n in self._constants}
        for n, value in (given or {}).items():
            overrides[n] = _as_recorded(torch.full(replay.shape_of(n, sizes), value), n)
        overrides |= self._of_one_sample(overrides.keys(), sizes)
        overrides = {n: v for n, v in overrides.items() if not (given and self.bench.model.flow.ancestors(n) & (given.keys() - {n}))}
        generator = torch.Generator().manual_seed(17 + seed)
        for n in (*self.at.raw, *self.at.parameters):
            size = replay.shape_of(n, sizes)
            folded = size[0] // points.numel() if n in self.at.raw and size and size[0] % points.numel() == 0 else 0
            rows = size if not folded else size[1:] if folded == 1 else (folded, *size[1:])  # rows of steps or places, sample by sample
            drawn = _WIDE * torch.randn(rows, dtype=torch.float64, generator=generator)
            overrides[n] = drawn.repeat(points.numel(), *[1] * (len(size) - 1)) if folded > 1 else drawn.expand(size).clone()
        laid_out = points.double().reshape(-1, *[1] * (len(whole) - 1)).expand(whole)
        overrides[self.at.target] = _as_recorded(laid_out, self.at.target).clone()
        return {**overrides, **(put or {})}, sizes

    @cached_property
    def _conditions(self) -> dict[fx.Node, float]:
        """What each data-made factor is set to: about what it was for the data."""
        seen = self.at.replay(list(self.at.conditions), {}, dict(self.bench.model.record.sizes)) if self.at.conditions else {}
        middle = {n: float(v.double().median()) for n, v in seen.items()}
        return {n: min(v, _CONDITION) if v > 0 else _CONDITION for n, v in middle.items()}

    def _of_one_sample(self, given: Collection[fx.Node], sizes: dict[str, int]) -> dict[fx.Node, torch.Tensor]:
        """Labels that choose a parameter of the likelihood (a batch's dispersion), the same in all rows: else each value has another."""
        flow, found = self.bench.model.flow, {}
        ends = {*self.at.raw, *self.at.parameters, *given, self.at.target}
        for node in set(self.bench.model.record.inputs.values()) & flow.ancestors(self.core, stop=ends) - ends:
            axis = self.bench.batch_axis(node)
            if axis is not None:
                value = self.at.replay([node], {}, sizes)[node]
                found[node] = value.narrow(axis, 0, 1).expand_as(value).clone()
        return found

    @cached_property
    def _sign(self) -> float:
        """1 where the loss grows with the core, -1 where the core is log p itself."""
        sizes = dict(self.bench.model.record.sizes)
        value = torch.zeros(self.at.replay.shape_of(self.core, sizes), dtype=torch.float64, requires_grad=True)
        out = self.at.replay([self.at.loss], {self.core: value}, sizes)[self.at.loss]
        slope = gradients(out, [value])[0] if out.requires_grad else None
        if slope is None or not bool((slope.sign() == slope.flatten()[0].sign()).all()) or float(slope.flatten()[0]) == 0:
            raise ReplayError("the weight of the term is not one number")
        return float(slope.flatten()[0].sign())


def _with_data(core: fx.Node | None, at: DensitySlice, flow: Flow) -> fx.Node | None:
    """The expression of the addends, with the data where they are multiplied with it: `x * log(p)`. None where they never meet it."""
    ends = {*at.raw, *at.parameters}
    if core is None or at.target in flow.ancestors(core, stop=ends):
        return core
    above = set.intersection(*(set(leaf.chain) for leaf in at.term.leaves))
    return next((n for n in flow.sorted(above) if at.target in flow.ancestors(n, stop=ends)), None)


def _over_components(core: fx.Node | None, at: DensitySlice, bench: Bench) -> fx.Node | None:
    """The sum over components, of an expression that has one more axis than the data for them: it is weighed along that axis with shares,
    which add up to one. None where there is no such axis."""
    flow, many = bench.model.flow, [n for n in shape(core) if n != 1] if core is not None else []
    if core is None or len(many) != len([n for n in shape(at.target) if n != 1]) + 1:
        return None
    within = flow.ancestors(core, stop={*at.raw, *at.parameters}) & flow.learned
    draws, given = {s.z for s in bench.model.sites}, set(bench.model.record.inputs.values())  # shares of the data are a posterior's
    alike = [
        n for n in within if shape(n) == shape(core) and n.meta["val"].is_floating_point() and not flow.ancestors(n, stop=draws) & given
    ]
    try:
        weights = list(bench.model.replay(alike, {}, dict(bench.model.record.sizes)).values()) if alike else []
    except ReplayError:
        return None
    axes = [d for d in range(1, len(shape(core))) for w in weights if bool((w >= 0).all()) and bool(((w.sum(d) - 1).abs() < _WHOLE).all())]
    above = set.intersection(*(set(leaf.chain) for leaf in at.term.leaves))
    summed = (n for n in flow.sorted(above) if ops.op(n) in ops.LINEAR_REDUCE and _alike(shape(n), at.target))
    return next(summed, None) if axes else None


def _as_recorded(value: torch.Tensor, node: fx.Node) -> torch.Tensor:
    """Whole numbers as such where the step has them: what it indexes with takes no others."""
    kind = node.meta["val"].dtype
    is_whole = not kind.is_floating_point and not kind.is_complex and kind is not torch.bool
    return value.long() if is_whole and torch.equal(value, value.round()) else value.double()


def _sums_itself(core: fx.Node) -> bool:
    """Whether one operation computes the elements and sums them up: torch's losses with `reduction="sum"` or `"mean"`."""
    return ops.op(core) in _FUSED and core.kwargs.get("reduction", "mean") != "none"


def _one_by_one(core: fx.Node, values: Mapping[fx.Node, torch.Tensor]) -> torch.Tensor:
    """The elements that such an operation sums up. Raises ReplayError where it refuses the values, or makes pairs of samples of them."""
    target: Any = core.target
    shapes = [v.shape for v in (values[n] for n in core.all_input_nodes) if isinstance(v, torch.Tensor)]
    try:
        if math.prod(torch.broadcast_shapes(*shapes)) > max(map(math.prod, shapes), default=1):  # type: ignore[no-untyped-call]
            raise ReplayError("the loss makes pairs of its operands' elements")
        args, kwargs = fx.map_arg(core.args, values.get), fx.map_arg(dict(core.kwargs), values.get)
        found: torch.Tensor = target(*args, **{**kwargs, "reduction": "none"})
    except (RuntimeError, ValueError, TypeError) as error:
        raise ReplayError(f"the loss does not run element by element: {error}") from error
    return found


def _shape_before_summing(core: fx.Node) -> tuple[int, ...]:
    operands = [i for i in ops.value_inputs(core) if shape(i)] if _sums_itself(core) else []
    return max(map(shape, operands), key=math.prod) if operands else shape(core)


def _alike(core: Sequence[int], target: fx.Node) -> bool:
    """Whether there is one number for each element of the data, in its order."""
    return [n for n in core if n != 1] == [n for n in shape(target) if n != 1]
