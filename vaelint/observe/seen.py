"""What was seen of a training run: the recorded iterations, and what moved what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from types import FrameType
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import Record

SUM_OF_PASSES = "sum of passes"
"""Marks what is minimised in several calls of `backward`, taken as one."""


@dataclass(frozen=True)
class Backward:
    """One call of `backward`: what was minimised, and where."""

    of: torch.Tensor
    span: Span | None
    keeps: bool  # retain_graph or create_graph
    by: str = ""  # the library that calls it for the script
    given: torch.Tensor | None = None  # the gradient that it was given for what is no single number
    call: int = 0  # which of the iteration's calls it is: one may be on several tensors
    returns: bool = False  # `autograd.grad`, whose results the script hands to its optimizers

    @property
    def does(self) -> str:
        """What is done to the loss, in words."""
        return "differentiates" if self.returns else "calls backward() on"


@dataclass(frozen=True)
class Asked:
    """What `backward` was called with, beside what it was called on."""

    keeps: bool = False  # retain_graph or create_graph
    given: Any = None  # gradients of what is no single number
    inputs: Any = None  # the tensors that are to get a gradient; None for all
    returns: bool = False  # whether the gradients are given back, and put nowhere

    @classmethod
    def by(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Asked:
        """As `torch.autograd.backward` was given it."""
        named = dict(zip(("grad_tensors", "retain_graph", "create_graph"), args, strict=False)) | dict(kwargs)
        inputs = named.get("inputs")
        chosen = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
        return cls(bool(named.get("retain_graph") or named.get("create_graph")), named.get("grad_tensors"), chosen)


@dataclass(frozen=True)
class Stepped:
    """One call of an optimizer's `step`."""

    optimizer: torch.optim.Optimizer
    after: int  # how many calls of `backward` the iteration had seen by then
    moved: int  # numbers that changed
    held: int  # numbers that it holds
    tensors: int  # that it holds
    without: int  # of them those that had no gradient
    finite: bool
    span: Span | None
    cleared: Span | None = None  # where gradients were cleared last


def held_by(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The tensors that an optimizer moves."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def stepped(optimizer: torch.optim.Optimizer, was: list[torch.Tensor], after: int, place: Span | None, cleared: Span | None) -> Stepped:
    """What a step did to the tensors that were `was` before it."""
    held = held_by(optimizer)
    with torch.no_grad():
        moved = sum(int((p != old).sum()) for p, old in zip(held, was, strict=False) if p.shape == old.shape)
        finite = all(bool(p.isfinite().all()) for p in held)
    without = sum(p.grad is None for p in held)
    return Stepped(optimizer, after, moved, sum(p.numel() for p in held), len(held), without, finite, place, cleared)


@dataclass(frozen=True)
class Applied:
    """What an optimizer that is none of torch's changed in an iteration."""

    name: str
    moved: int  # numbers that changed
    held: int  # numbers that it was given
    finite: bool


@dataclass(frozen=True)
class Held:
    """What the variables of one running function held when `backward` was called. Tensors and containers are left out.

    `outer` are the variables of its module.
    """

    file: str
    line: int
    names: dict[str, Any]
    outer: dict[str, Any]

    @classmethod
    def of(cls, frame: FrameType) -> Held:
        """Of a frame."""
        names = {k: v for k, v in frame.f_locals.items() if not isinstance(v, torch.Tensor | list | tuple | dict | set)}
        return cls(frame.f_code.co_filename, frame.f_lineno, names, frame.f_globals)


@dataclass
class Goal:
    """What one or more optimizers minimise in an iteration: the sum of what `backward` was called on before they stepped."""

    backwards: list[int] = field(default_factory=list)  # places in `Iteration.backwards`
    steps: list[Stepped] = field(default_factory=list)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Those that step, each once."""
        return list({id(s.optimizer): s.optimizer for s in self.steps}.values())


@dataclass(frozen=True)
class Minimised:
    """A loss of an iteration, the names of the parameters that its optimizers hold, and which `backward` calls are its passes."""

    loss: fx.Node
    held: frozenset[str]
    calls: tuple[int, ...]


@dataclass
class Iteration:
    """One recorded iteration. `frozen` is a copy of the networks as they were when it began."""

    number: int
    record: Record
    frozen: torch.nn.Module
    names: dict[int, str]  # id of a tensor of the script -> its name in `frozen`
    inputs: dict[str, torch.Tensor]  # as they were when the iteration began
    batch: int | None
    backwards: list[Backward]
    goals: list[Goal]
    losses: list[Any] = field(default_factory=list)  # the node that each goal minimises; None where it was not recorded
    random: torch.Tensor | None = None  # torch's random state when it began
    altered: frozenset[str] = frozenset()  # constants that were changed in place while it ran
    even: bool = False  # whether all of the loader's batches have one size
    outer: int = 0  # frames of the script that it runs inside of
    applied: list[Applied] = field(default_factory=list)
    cut: bool = False  # whether the batch was made smaller than the loader's
    gradients: dict[str, float] = field(default_factory=dict)  # the norm of each parameter's, where curves are wanted
    batches: int | None = None  # that its loader gives in a turn of the outer loop, where curves are wanted
    held: list[Held] = field(default_factory=list)  # at the last `backward`, innermost first, where curves are wanted

    @property
    def breaks(self) -> bool:
        """Whether a step of it leaves parameters that are not finite: what comes after says nothing any more."""
        return any(not s.finite for g in self.goals for s in g.steps)

    def bytes(self) -> int:
        """What the values of its record take."""
        tensors = {v.data_ptr(): v for n in self.record.graph.nodes if isinstance(v := n.meta.get("val"), torch.Tensor)}
        return sum(t.numel() * t.element_size() for t in tensors.values())


@dataclass
class Training:
    """One training of a run: its recorded iterations, and the one in which the script raised."""

    iterations: list[Iteration]
    failed: Iteration | None = None


def goals_of(backwards: int, steps: list[Stepped]) -> list[Goal]:
    """Which `backward` calls lead to which steps. Steps without a `backward` between them belong to one goal."""
    goals: list[Goal] = []
    taken = 0
    for step in steps:
        if step.after > taken or not goals:
            goals.append(Goal(list(range(taken, step.after))))
            taken = step.after
        goals[-1].steps.append(step)
    if taken < backwards:  # gradients are still being accumulated
        goals.append(Goal(list(range(taken, backwards))))
    return [g for g in goals if g.backwards]
