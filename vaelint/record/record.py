"""The record of one traced step: a `torch.fx` graph whose nodes carry spans, shapes and the values they had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import CodeType
from typing import Any, Literal

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.late import dataclass

Rung = Literal["symbolic", "concrete", "real"]


class Births(dict[int, Span]):
    """id(module) -> where it was constructed; `around` has that place and those that called it, innermost first."""

    def __init__(self, places: Mapping[int, Span] | None = None) -> None:
        super().__init__(places or {})
        self.around: dict[int, tuple[Span, ...]] = {}

    def note(self, module: object, stack: tuple[Span, ...]) -> None:
        """A module is being constructed at a place, its first."""
        self[id(module)] = stack[0]
        self.around[id(module)] = stack

    def chosen(self, module: object) -> Span | None:
        """Where this module was chosen: of an expression that made several, at the innermost place around it that had it make no other."""
        stack = self.around.get(id(module), ())
        alike = [other for other in self.around.values() if other[:1] == stack[:1]]
        for depth, place in enumerate(stack):
            if sum(len(other) > depth and other[depth] == place for other in alike) == 1:
                return place
        return self.get(id(module))


@dataclass
class Failure:
    """User code raised: what, where, and the call that was under way."""

    error: BaseException
    spans: tuple[Span, ...]  # the user's frames, innermost first
    fn: Callable[..., Any] | None = None  # the torch function that was being called, if any
    args: tuple[Any, ...] = ()  # its arguments, tensors as nodes
    module: str | None = None
    births: tuple[Span, ...] = ()  # where the innermost called modules were constructed


@dataclass
class Record:
    """One run of the user's step. Nodes hold tensors (fake or real) in `meta["val"]` and their place in `meta["stack"]`."""

    graph: fx.Graph
    model: torch.nn.Module
    rung: Rung
    sizes: dict[str, int]  # the value each input symbol had
    inputs: dict[str, fx.Node] = field(default_factory=dict)
    raw_output: Any = None  # what the model returned, as it was
    output: Any = None  # what the model returned, tensors as nodes
    loss: fx.Node | None = None
    loss_value: Any = None  # what the step left as loss, as it was
    step: Any = None
    failure: Failure | None = None
    calls: list[ModuleCall] = field(default_factory=list)
    functions: list[FunctionCall] = field(default_factory=list)  # calls of the user's functions, where they were asked for
    distributions: list[MadeDistribution] = field(default_factory=list)
    births: Births = field(default_factory=lambda: Births())  # where modules were constructed
    guests: list[torch.nn.Module] = field(default_factory=list)  # modules that the step made outside of the model: a trainer's critic
    asked_for_cuda: list[tuple[Span, str]] = field(default_factory=list)  # where user code asks for a GPU by name
    optimizers: list[Any] = field(default_factory=list)  # those that the constructor or the step built
    shapes: dict[fx.Node, tuple[str, ...]] = field(default_factory=dict)  # symbolic shapes, filled by lifting
    symbols: dict[str, int] = field(default_factory=dict)
    reads_mode: bool = False  # whether the model's code may do something else in evaluation mode, apart from what torch's layers do
    left_training: list[ModeSet] = field(default_factory=list)  # in the step, in order
    told_to_train: list[ModeSet] = field(default_factory=list)  # modules that the step put in training mode, or left there, in order
    lifted: bool = False
    joined: tuple[str, ...] = ()  # symbols that turned out to be the batch as well: both sides of an adjacency matrix
    moving: dict[tuple[fx.Node, int], Any] = field(default_factory=dict)  # literals that move with the batch: (node, position) -> Expr-like
    notes: list[str] = field(default_factory=list)
    backwards: list[BackwardCall] = field(default_factory=list)  # the step's own backward passes, in order
    objectives: list[Objective] = field(default_factory=list)  # what these minimised; the first is `loss`. Empty: the step has none
    inner: frozenset[int] = frozenset()  # ids of tensors, no parameters of the model, that the step follows a gradient in
    handed: bool = False  # whether `backward` was given a gradient that the script had from elsewhere
    idle_steps: list[IdleStep] = field(default_factory=list)  # steps of optimizers over gradients that had been cleared
    uses: list[GradientUse] = field(default_factory=list)  # what the step did with gradients after its backward passes, in order
    held: dict[CodeType, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)  # variables of an observed training
    schedules: list[tuple[Any, Span | None]] = field(default_factory=list)  # LambdaLRs of constructor or observed training, and where
    used_up: list[UsedUp] = field(default_factory=list)  # parameters that were asked for where there were none left
    learned: frozenset[str] = (
        frozenset()
    )  # parameters that a step of an observed training had a gradient for, this iteration's or another's
    even: bool = False  # whether all batches of an observed training have one size
    reads: list[fx.Node] = field(default_factory=list)  # values that left torch for numpy or plain Python, in order
    read_later: list[fx.Node] = field(default_factory=list)  # values that an observed training reads after its passes
    logged: dict[str, fx.Node] = field(default_factory=dict)  # what an observed training logs -> the values
    node_for: Callable[[torch.Tensor], fx.Node | None] = lambda t: None
    sites: Any = None  # the `trace.pyro_sites.Sites` of a step that was called here
    recording: Any = None  # the `trace.run.Recording` that made it and can go on with it

    @property
    def last_pass(self) -> int | None:
        """The place in `backwards` of the last pass that differentiates `loss`; None where the step leaves that to others."""
        return self.objectives[0].passes[-1] if self.objectives else None

    @property
    def differentiated_at(self) -> int | None:
        """How many operations had been recorded when the step had differentiated `loss`; None where it leaves that to others."""
        return self.backwards[self.last_pass].at if self.last_pass is not None else None

    @property
    def nodes(self) -> list[fx.Node]:
        """All nodes, in the order they ran."""
        return list(self.graph.nodes)


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module's forward."""

    path: str  # "decoder.3"; "?" where the model does not know the module
    module: torch.nn.Module
    first: int  # index of the first node recorded inside
    span: Span | None  # where user code called it
    training: bool
    depth: int


@dataclass(frozen=True)
class ModeSet:
    """A module whose mode, training or evaluation, the step set."""

    module: torch.nn.Module
    at: int  # how many operations had been recorded
    span: Span


@dataclass(frozen=True)
class FunctionCall:
    """One call of a function that the user wrote. Values are nodes in the tuples, lists and dicts they came in, else names of types."""

    file: str
    name: str  # qualified: "VAE.encode"
    line: int  # the first of its definition, decorators included
    arguments: dict[str, Any]
    result: Any
    caller: Span | None
    left_at: int = 0  # the line of the `return` that was taken


@dataclass
class BackwardCall:
    """One backward pass of the step: a `backward()`, or a `torch.autograd.grad` in parameters."""

    of: torch.Tensor
    keeps: bool  # retain_graph or create_graph
    stack: tuple[Span, ...]
    node: fx.Node
    at: int  # how many operations had been recorded
    leaves: frozenset[int]  # ids of what it gives a gradient
    kind: Literal["backward", "grad"]
    moved: set[int] = field(default_factory=set)  # ids of what an optimizer's step of the same step moved by it
    goes_on: bool = False  # whether it was given what another pass left in the step's own values: both are one, by the chain rule

    @property
    def span(self) -> Span | None:
        """The user's call."""
        return self.stack[0] if self.stack else None


@dataclass(frozen=True)
class Objective:
    """What the step minimised in one backward pass, or in several whose gradients add up, and the ids of the parameters it moved."""

    passes: tuple[int, ...]  # places in `Record.backwards`
    moved: frozenset[int]
    loss: fx.Node | None = None
    weights: tuple[float | None, ...] = ()  # how often each pass counts: below 0 where it is climbed; None where no number says it


@dataclass(frozen=True)
class IdleStep:
    """An optimizer's step over gradients that had been cleared since the backward pass; or, of a loop's turns, a backward pass whose
    gradients were cleared before the one step that follows them all."""

    span: Span | None
    cleared: Span | None
    turns: bool = False
    of: frozenset[int] = frozenset()  # ids of the parameters that the step is over


@dataclass(frozen=True)
class GradientUse:
    """What a step did with the gradients of some parameters.

    stepped: an optimizer used them; cleared: they were set to zero or taken away; piled: those that an optimizer used still held what
    an earlier step had used, to which the pass at `place` was added; bent: they were changed with a GradScaler's scale still in them;
    empty: an optimizer stepped, and none of its parameters had been given a gradient; limited: torch's `clip_grad_norm_` or a relative
    of it read them and no step had used them yet; limitless: it read these parameters while they held no such gradient; shrunk: a step
    used them, and their norm was `by` times smaller than `limit`, to which it had been limited at `place`; stale: an optimizer used them,
    and they held those of the pass at `place`, which was for another optimizer, and of the same loss once more.
    """

    kind: Literal["stepped", "cleared", "piled", "bent", "empty", "limited", "limitless", "shrunk", "stale"]
    of: frozenset[int]  # ids of the parameters
    place: Span | None
    passes: int = 0  # empty, limited, stepped, shrunk, stale: how many backward passes there had been
    by: float = 1.0
    limit: float = 0.0


@dataclass(frozen=True)
class UsedUp:
    """What `parameters()` gave was gone through once, and was asked for parameters again: it has none left."""

    made: Span
    ended: Span | None
    asked: Span | None


@dataclass(frozen=True)
class MadeDistribution:
    """A torch distribution that user code constructed."""

    family: str
    parameters: dict[str, fx.Node]
    stack: tuple[Span, ...]


def value(node: fx.Node) -> Any:
    """The value the node had in the recorded run."""
    return node.meta.get("val")


def is_tensor(node: fx.Node) -> bool:
    """Whether the node's value is one tensor."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def shape(node: fx.Node) -> tuple[int, ...]:
    """Concrete sizes of a tensor node; `()` for anything else."""
    val = node.meta.get("val")
    return tuple(val.shape) if isinstance(val, torch.Tensor) else ()


def span(node: fx.Node) -> Span | None:
    """The user's expression that made the node."""
    stack = node.meta.get("stack") or ()
    return stack[0] if stack else None


def route(node: fx.Node) -> tuple[Span, ...]:
    """The user's expressions that led to the node, innermost first: the same for all turns of a loop, not for two callers of a helper."""
    return tuple(node.meta.get("stack") or ())


def requires_grad(node: fx.Node) -> bool:
    """Whether gradients flow through the node's value in the recorded run."""
    return bool(node.meta.get("grad"))


def ancestors(*starts: fx.Node) -> set[fx.Node]:
    """The nodes that `starts` are computed from, themselves included."""
    return reachable(starts, lambda node: node.all_input_nodes)


def name_of(fn: Any) -> str:
    """A short name of a recorded function: `randn_like`, `mul`, `linear`."""
    return str(getattr(fn, "__name__", fn)).strip("_")


def dtype(node: fx.Node) -> torch.dtype | None:
    """The type of a tensor node's numbers."""
    val = node.meta.get("val")
    return val.dtype if isinstance(val, torch.Tensor) else None
