"""The one real run that all experiments read, and the ways of asking it more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.model import Model
from vaelint.core.messages import message_of
from vaelint.experiment.recompute import overwritten, recompute
from vaelint.experiment.runs import Prepare, Runner
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError
from vaelint.record.record import Failure, Record
from vaelint.record.twins import join_twins
from vaelint.trace.align import align
from vaelint.trace.recorded_run import Built


class Trial:
    """A real record laid beside the static one. All questions are asked in nodes of the static record."""

    def __init__(
        self,
        model: Model,
        record: Record,
        runner: Runner,
        elsewhere: Failure | None = None,
        *,
        prepare: Prepare | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.record, self.runner, self._prepare, self._seed = model, record, runner, prepare, seed
        self.shared: dict[str, Any] = {}  # runs that several experiments read
        self._twins = join_twins(record) if record is not model.record else {}
        self.elsewhere = elsewhere  # what the step raised on the device that was asked for, when this run had to be on the CPU

    @property
    def device(self) -> str:
        """Where it ran."""
        return self.runner.device

    @cached_property
    def pairs(self) -> dict[fx.Node, fx.Node]:
        """Static node -> node of this run."""
        return align(self.model.record, self.record)

    @cached_property
    def _overwritten(self) -> set[fx.Node]:
        return overwritten(self.record)

    def node(self, node: fx.Node) -> fx.Node:
        """The node of this run; raises CannotMeasureError when the run did not come past it."""
        found = self.pairs.get(node)
        if found is None:
            raise CannotMeasureError("the real run took another path than the trace, and did not come past this value")
        return found

    def value(self, node: fx.Node) -> torch.Tensor:
        """The tensor that a node had in the run.

        Raises:
            CannotMeasureError: it was changed in place afterwards.
            NoPowerError: some of it is NaN, of which every comparison is false.
        """
        val = self.like(node)
        if self.node(node) in self._overwritten:
            raise CannotMeasureError("the value was changed in place afterwards")
        if val.is_floating_point() and bool(val.detach().isnan().any()):
            raise NoPowerError(f"{self.model.written(node)} is NaN in this run")
        return val

    def like(self, node: fx.Node) -> torch.Tensor:
        """A tensor of a node's shape, type and device, whatever its values are by now."""
        val = self.node(node).meta.get("val")
        if not isinstance(val, torch.Tensor):
            raise CannotMeasureError("the value is not one tensor")
        return val

    def has(self, node: fx.Node | None) -> bool:
        """Whether `value(node)` will answer."""
        if node is None:
            return False
        try:
            self.value(node)
        except CannotMeasureError:
            return False
        return True

    @property
    def loss(self) -> torch.Tensor:
        """The loss of the run."""
        if not isinstance(self.record.loss_value, torch.Tensor):
            raise CannotMeasureError("the run gave no loss")
        return self.record.loss_value

    @property
    def loss_node(self) -> fx.Node:
        """The static record's node of the loss."""
        if self.model.record.loss is None:
            raise CannotMeasureError("no loss is known")
        return self.model.record.loss

    def gradient(self, of: torch.Tensor, to: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """d of / d to, summed over `of`; None where no gradient arrives."""
        if not of.requires_grad:
            return [None] * len(to)
        alike = [[t, *self._again.get(id(t), ())] if t.requires_grad else [] for t in to]
        asked = [t for one in alike for t in one]
        try:
            got = torch.autograd.grad(of.sum(), asked, retain_graph=True, allow_unused=True) if asked else ()
        except RuntimeError as error:
            raise CannotMeasureError(f"backward raises: {message_of(error).splitlines()[0][:120]}") from error
        found = iter(got)
        sums = [[g for _ in one if (g := next(found)) is not None] for one in alike]
        return [sum(one[1:], one[0]) if one else None for one in sums]

    @cached_property
    def _again(self) -> dict[int, list[torch.Tensor]]:
        """id(tensor) -> those of this run that are the same value, computed again."""
        found: dict[int, list[torch.Tensor]] = {}
        for node, kept in self._twins.items():
            again, first = node.meta.get("val"), kept.meta.get("val")
            if isinstance(again, torch.Tensor) and isinstance(first, torch.Tensor) and again.requires_grad:
                found.setdefault(id(first), []).append(again)
        return found

    def recompute(
        self,
        wanted: Iterable[fx.Node],
        changes: Mapping[fx.Node, Any],
        *,
        inside: Set[fx.Node] | None = None,
        redraw: bool = False,
        seed: int = 0,
    ) -> dict[fx.Node, Any]:
        """`recompute` over this run, in static nodes."""
        asked = list(wanted)
        real = {self.node(n): v for n, v in changes.items()}
        region = {self.pairs[n] for n in inside if n in self.pairs} if inside is not None else None
        got = recompute(self.record, [self.node(n) for n in asked], real, self.device, inside=region, redraw=redraw, seed=seed)
        return {n: got[self.node(n)] for n in asked}

    def batch_axis(self, node: fx.Node) -> int | None:
        """The axis of a node that is the batch."""
        dims = self.model.dims(node)
        batch = self.model.inputs.batch or "B"
        return dims.index(batch) if batch in dims else None

    @property
    def batch(self) -> int | None:
        """The batch size of this run."""
        symbol = self.model.inputs.batch
        return self.record.sizes.get(symbol) if symbol is not None else None

    # --- further runs ------------------------------------------------------------------------------------------------

    def prepared(self, prepare: Prepare) -> Trial:
        """This trial, of which all further runs are prepared in that way before any other."""
        return Trial(self.model, self.record, self.runner, self.elsewhere, prepare=prepare, seed=self._seed)

    def again(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        training: bool = True,
        seed: int | None = None,
        prepare: Prepare | None = None,
        built: Built | None = None,
        as_is: bool = False,
    ) -> Trial:
        """Another real run, with this one's seed if no other is given; raises CannotMeasureError when there is no time for one."""
        own = self._seed if seed is None else seed
        if not self.runner.has_time():
            raise CannotMeasureError("no time was left for another run (--timeout)")
        both = self._both(prepare)
        record = self.runner.run(sizes, training=training, seed=own, prepare=both, built=built, as_is=as_is)
        return Trial(self.model, record, self.runner, prepare=self._prepare, seed=own)

    def _both(self, prepare: Prepare | None) -> Prepare | None:
        """This trial's own preparation of a run, then another."""
        steps = [p for p in (self._prepare, prepare) if p is not None]
        if not steps:
            return None

        def both(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
            for each in steps:
                each(model, inputs)

        return both

    def twice(self, prepare: Prepare | None = None) -> tuple[Trial, Trial]:
        """Two calls of one model, one after the other, with different seeds."""
        built = self.runner.build()
        first = self.again(seed=1, prepare=prepare, built=built)
        return first, self.again(seed=2, prepare=prepare, built=built)


SAME = "1e-4 in float32: 800 roundings of the type, 4 in half precision"
"""What `tolerance` allows, in words."""


def tolerance(*tensors: torch.Tensor) -> float:
    """A relative tolerance that rounding in these dtypes stays below: 1e-4 for float32.

    Half precision gets no such room: what differs in nothing gives nearly the same there too, and 800 roundings would be all there is.
    """
    worst = rounding(*tensors)
    return min(800 * worst, max(4 * worst, 1e-4))


def rounding(*tensors: torch.Tensor) -> float:
    """The coarsest rounding, relative to 1, among the types of some tensors."""
    return max((float(torch.finfo(t.dtype).eps) for t in tensors if t.is_floating_point()), default=1e-7)


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the size of the values. Infinite for different shapes; NaN where a value is NaN."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not a.is_floating_point():
        return float((a != b).any())
    x, y = a.detach().double(), b.detach().double()
    if bool((x.isnan() | y.isnan()).any()):
        return float("nan")
    gap = torch.where(x == y, 0.0, (x - y).abs())
    finite = x[x.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    return float(gap.max()) / (scale or 1.0)
