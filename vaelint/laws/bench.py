"""What a law may ask of the real run: its inputs by kind, and every value again after an intervention, with the same noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.model import Model
from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.experiment.recompute import overwritten
from vaelint.experiment.runs import Prepare, calm
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, route, shape
from vaelint.replay.ranges import declared_range

_STILL_COUNTS = ops.SHAPE | ops.CAST | {"getitem", "add", "sub", "clamp", "minimum"}
_COMPARED = frozenset({"lt", "le", "gt", "ge", "less", "greater", "less_equal", "greater_equal"})

Kind = Literal["data", "tokens", "lengths", "mask", "label", "other"]
"""data: real numbers; tokens: whole numbers along an axis; lengths: how much of another input's axis is meant, for each sample;
mask: 0 or 1 for each place (or group of places) of another input; label: one whole number a sample."""


@dataclass(frozen=True)
class Seat:
    """An input of the step: its node, its batch axis, and what it is by its values and sizes, never by its name."""

    node: fx.Node
    name: str
    axis: int
    kind: Kind
    along: int | None = None  # lengths: the size of the axis that they count along


class Bench:
    """A real run that is calm (batch normalisation in evaluation mode, no dropout), and what becomes of it after a change."""

    def __init__(self, model: Model, trial: Trial | None) -> None:
        self.model, self._trial = model, trial  # all nodes that laws speak of are the static record's

    @property
    def has_run(self) -> bool:
        """Whether there is a real run, and not only the record to replay."""
        return self._trial is not None

    @property
    def is_observed(self) -> bool:
        """Whether the step is an iteration of the user's own training: what its optimizers did was seen, and is not run again."""
        return hasattr(self.model.step, "stepped")

    @property
    def device(self) -> str:
        """Where it is measured."""
        return self._trial.device if self._trial is not None else "cpu"

    @cached_property
    def base(self) -> Trial:
        """The calm run. Raises CannotMeasureError where there is no time for it or where it fails."""
        if self._trial is None:
            raise CannotMeasureError("there was no real run")
        base = self._trial.again(prepare=calm)
        if base.record.failure is not None:
            raise CannotMeasureError("the step does not run")
        return base

    @cached_property
    def trained_run(self) -> Trial:
        """A run in which the step's optimizers move what they move. Raises CannotMeasureError where there is no time or it fails."""
        run = self.base.again(as_is=True)
        if run.record.failure is not None:
            raise CannotMeasureError("the step does not run with its optimizers")
        return run

    @property
    def trained(self) -> Record:
        """The record of that run."""
        return self.trained_run.record

    def reweighed(self, seed: int) -> Bench:
        """The bench over a run whose parameters are all elsewhere: what starts at 0 is at 0 no more.

        Raises CannotMeasureError where there is no time for it or where it fails.
        """

        other = Bench(self.model, self.base.prepared(self.moved(seed)))
        if other.base.record.failure is not None:
            raise CannotMeasureError("the step does not run with other weights")
        return other

    @staticmethod
    def moved(seed: int) -> Prepare:
        """Moves all parameters of a calm model elsewhere, for one seed always to the same place."""

        def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
            calm(model)
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.is_floating_point():
                        size = 0.5 * (float(parameter.detach().double().std()) if parameter.numel() > 1 else 0.0) + 0.05
                        parameter.add_((size * torch.randn(parameter.shape, generator=generator)).to(parameter))

        return put

    @cached_property
    def _gone(self) -> set[fx.Node]:
        return overwritten(self.base.record)

    def knows(self, node: fx.Node) -> bool:
        """Whether the run has one tensor for the node that nothing overwrote."""
        own = self.base.pairs.get(node)
        return own is not None and own not in self._gone and isinstance(own.meta.get("val"), torch.Tensor)

    def value(self, node: fx.Node) -> torch.Tensor:
        """What the node was in the calm run."""
        return self.value_with_graph(node).detach()

    def value_with_nan(self, node: fx.Node) -> torch.Tensor:
        """The same, also where it holds NaN: missing data."""
        val: torch.Tensor = self.base.pairs[node].meta["val"]
        return val.detach()

    def value_with_graph(self, node: fx.Node) -> torch.Tensor:
        """The same, with what autograd needs to go back from it."""
        return self.base.value(node)

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """The inputs that have a batch axis."""
        found = [(n, a) for n in self.model.record.inputs.values() if (a := self.base.batch_axis(n)) is not None and self.knows(n)]
        return tuple(self._seat(n, a, {o: b for o, b in found if o is not n}) for n, a in found)

    def _seat(self, node: fx.Node, axis: int, axes: Mapping[fx.Node, int]) -> Seat:
        val, name, others = self.value(node), str(node.meta["input"]), list(axes)
        sizes = {n for other, batch in axes.items() for d, n in enumerate(shape(other)) if d != batch}
        whole = not val.is_floating_point()
        declared = declared_range(self.model, node)
        is_switch = bool(((val == 0) | (val == 1)).all()) and declared == (0.0, 1.0)
        if val.dtype is torch.bool or (is_switch and (val.dim() == 1 or self._covers(node, others))):
            return Seat(node, name, axis, "mask" if val.dim() > 1 else "label")
        if whole and val.dim() == 1 and declared is not None and int(declared[1]) in sizes and declared[0] >= 1:
            return Seat(node, name, axis, "lengths", int(declared[1]))
        if whole and val.dim() == 1 and (counted := self._counted_along(node)) in sizes:
            return Seat(node, name, axis, "lengths", counted)
        if whole:
            return Seat(node, name, axis, "tokens" if val.dim() > 1 else "label")
        return Seat(node, name, axis, "data")

    def _counted_along(self, node: fx.Node) -> int | None:
        """How many places the whole numbers of an input are held against: `arange(T) < n`, with what is added to either side."""
        flow = self.model.flow
        same = reachable([node], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in _STILL_COUNTS])
        for compared in (u for n in same for u in flow.users.get(n, ()) if ops.op(u) in _COMPARED):
            for other in (o for o in compared.all_input_nodes if o not in same and o not in flow.data and self.knows(o)):
                if (places := _counts_along(self.value(other))) is not None:
                    return places
        return None

    @staticmethod
    def _covers(node: fx.Node, others: list[fx.Node]) -> bool:
        """Whether a mask's sizes stand in front of another input's, or count the other inputs one by one."""
        mine = shape(node)
        fits = any(shape(o)[: len(mine)] == mine and len(shape(o)) >= len(mine) and o is not node for o in others)
        return len(mine) > 1 and (fits or mine[1:] == (len(others),))

    def of_kind(self, *kinds: Kind) -> list[Seat]:
        """The inputs of some kinds."""
        return [s for s in self.seats if s.kind in kinds]

    def after(self, changes: Mapping[fx.Node, torch.Tensor], wanted: Iterable[fx.Node]) -> dict[fx.Node, torch.Tensor]:
        """The values of `wanted` with some nodes changed, everything else of the run as it was: noise, weights, path.

        Nodes among `changes` that keep their value are held: nothing reaches past them.
        Raises CannotMeasureError where a part of the record cannot be run again, and where the run has none of `wanted`: an inner loop that
        ends by chance ran another number of turns.
        """
        wanted = list(wanted)
        asked = [n for n in wanted if self.knows(n)]
        if wanted and not asked:
            raise CannotMeasureError("the run went another way than the one that was traced")
        got = self.base.recompute(asked, changes)
        return {n: v.detach() for n, v in got.items() if isinstance(v, torch.Tensor)}

    def after_inputs(self, changes: Mapping[fx.Node, torch.Tensor], wanted: Iterable[fx.Node]) -> dict[fx.Node, torch.Tensor]:
        """The same where only inputs change: the whole step runs once more where its record cannot be run again in part."""
        asked = [n for n in wanted if self.knows(n)]
        try:
            return self.after(changes, asked)
        except CannotMeasureError:
            return self.whole(changes, asked)

    def whole(self, changes: Mapping[fx.Node, torch.Tensor], wanted: list[fx.Node]) -> dict[fx.Node, torch.Tensor]:
        """The same by running the step again: where the record does not tell what a value hangs on, as within `torch.vmap`."""

        def put(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
            calm(model)
            for node, new in changes.items():
                inputs[str(node.meta["input"])] = new.clone()

        again = self.base.again(prepare=put)
        if again.record.failure is not None:
            raise CannotMeasureError("the step does not take the changed inputs")
        return {n: again.value(n).detach() for n in wanted if again.has(n)}

    def exchanged(self, seats: Iterable[Seat], sample: int) -> dict[fx.Node, torch.Tensor]:
        """Inputs in which one sample has the values of another sample of the batch."""
        changes: dict[fx.Node, torch.Tensor] = {}
        for seat in seats:
            rows = self.value(seat.node).movedim(seat.axis, 0)
            other = next((j for j in range(rows.shape[0]) if j != sample and not torch.equal(rows[j], rows[sample])), None)
            if other is None:
                continue
            new = rows.clone()
            new[sample] = rows[other]
            changes[seat.node] = new.movedim(0, seat.axis)
        if not changes:
            raise CannotMeasureError("all samples are alike")
        return changes

    def same(self, nodes: Iterable[fx.Node]) -> dict[fx.Node, torch.Tensor]:
        """The nodes' own values, as changes: what hangs on them is run again, and they are held."""
        return {n: self.value(n).clone() for n in nodes}

    def batch_axis(self, node: fx.Node) -> int | None:
        """The one axis of a node that grows with the batch (`B`, `4*B`); None where there is none, or more than one."""
        having = [d for d, text in enumerate(self.model.dims(node)) if "B" in text]
        return having[0] if len(having) == 1 and self.model.dims(node)[having[0]].count("B") == 1 else None

    def is_of_pairs(self, node: fx.Node) -> bool:
        """Whether a value holds every sample against every other."""
        return sum(text.count("B") for text in self.model.dims(node)) > 1

    def is_real(self, node: fx.Node) -> bool:
        """Whether a node is a tensor of real numbers."""
        val = node.meta.get("val")
        return isinstance(val, torch.Tensor) and val.is_floating_point()

    def called(self, node: fx.Node | None, term: Term) -> Span | None:
        """Where a density that other addends take as well is asked for at a draw: the density is right, what it was given is not."""
        flow = self.model.flow
        leaf = next((leaf for leaf in term.leaves if node is not None and node in flow.ancestors(leaf.node) | {leaf.node}), None)
        if node is None or leaf is None or not any(f in flow.noisy for f in leaf.frontier):
            return None
        others = [
            o.node for t in self.model.terms for o in t.leaves if o is not leaf and o.frontier and leaf.node not in (o.node, *o.chain)
        ]
        shared = {(place.file, place.line) for n in others for place in route(n)}
        return next((place for place in route(node) if (place.file, place.line) not in shared), None)

    def draws_order(self, node: fx.Node) -> bool:
        """Whether a random permutation, or random places, stand behind a value: samples are exchanged on purpose."""
        flow = self.model.flow
        behind = flow.ancestors(node)
        sorted_noise = any(ops.op(n) in ("sort", "argsort") and n in flow.pure_noise for n in behind)
        return (
            sorted_noise
            or any(n in flow.random and not self.is_real(n) for n in behind)
            or any(ops.op(n) == "randperm" for n in self.model.record.nodes if n in flow.random and ops.op(n) == "randperm")
        )


def _counts_along(value: torch.Tensor) -> int | None:
    """How many places a value counts along one of its axes, the same along all others; None where it counts none."""
    for axis in range(value.dim()):
        lines = value.movedim(axis, -1).reshape(-1, value.shape[axis])
        steps = lines[0] if len(lines) else lines.flatten()
        counted = torch.arange(len(steps), device=steps.device).to(steps.dtype)
        if len(steps) > 1 and torch.equal(steps - steps[0], counted) and bool((lines == steps).all()):
            return len(steps)
    return None
