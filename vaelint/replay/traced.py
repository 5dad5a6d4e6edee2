"""A recorded step and what can be asked of it: values, shapes and places of its nodes, and further runs. Nothing of what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Label, ShapeRow, Span
from vaelint.core.inputs import InputSet
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.frames import frame_beside
from vaelint.record.record import Record, shape, span
from vaelint.replay.replay import Replay
from vaelint.source.written import Source
from vaelint.trace.along import Runs, find_along
from vaelint.trace.ladder import Tracer

SMALL = 30_000_000
"""Parameters up to which a real model is built for their values."""
LARGE = 100_000_000
"""The same for the values of its buffers and scalars."""


@dataclass
class Traced:
    """One recorded step of a target, with its source and the means to run it again."""

    record: Record
    tracer: Tracer
    inputs: InputSet
    step: Any
    source: Source
    flow: Flow
    symbols: dict[str, int] = field(default_factory=dict, kw_only=True)
    facts: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # what `@per_model` keeps
    exempted: dict[Any, None] = field(default_factory=dict, init=False, repr=False, compare=False)  # the notes of `exempt`, in order

    # --- further runs, on request ----------------------------------------------------------------------------------

    @cached_property
    def evaluation(self) -> Record:
        """The step in evaluation mode."""
        return self.tracer.run(self.step, training=False)

    @cached_property
    def single(self) -> Record:
        """The step on a batch of one, in training mode."""
        return self.tracer.run(self.step, {"B": 1})

    @cached_property
    def with_calls(self) -> Record:
        """The step once more, with the calls of the user's functions."""
        return self.tracer.with_calls(self.step)

    @cached_property
    def real_model(self) -> torch.nn.Module:
        """A real model with its real initial values."""
        return self.tracer.construct_real().model

    @cached_property
    def replay(self) -> Replay:
        """Runs slices of the record."""
        runs: Runs = {}
        return Replay(
            self.record,
            self.leaf_value,
            lambda sizes: self.tracer.inputs(self.input_sizes(sizes)),
            self.symbols,
            lambda symbol: find_along(self.record, self.tracer, symbol, self.inputs.symbols, runs),
        )

    def input_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The part of an assignment that inputs are made with; symbols that are the batch follow it."""
        known = {k: v for k, v in sizes.items() if k in self.inputs.symbols}
        return known | {s: known["B"] for s in self.record.joined if "B" in known}

    def leaf_value(self, node: fx.Node) -> torch.Tensor | None:
        """The real value of a parameter, buffer or constant of the record."""
        val = node.meta.get("val")
        if isinstance(val, torch.Tensor) and self.record.rung == "real":
            return val
        name = node.meta.get("held", str(node.target))
        if name.startswith("_constant_"):
            return val if isinstance(val, torch.Tensor) and type(val) in (torch.Tensor, torch.nn.Parameter) else None
        if self.parameter_count > SMALL and isinstance(val, torch.Tensor) and val.numel() > 1:
            if node.meta.get("parameter"):
                return torch.randn(tuple(val.shape)) if val.is_floating_point() else None
            if self.parameter_count > LARGE:
                return None  # what a prior or a likelihood is made of has no value but its own
        found: Any = self.real_model
        for part in name.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, torch.Tensor) else None

    @cached_property
    def parameter_count(self) -> int:
        """Parameters of the model."""
        return sum(p.numel() for p in self.record.model.parameters())

    @cached_property
    def trainable(self) -> dict[int, str]:
        """id -> name of the parameters that an optimizer over `model.parameters()` would move."""
        return {id(p): n for n, p in self.record.model.named_parameters() if p.requires_grad}

    # --- what a node is ----------------------------------------------------------------------------------------------

    def where(self, node: fx.Node | None) -> Span | None:
        """The user's expression that made a node."""
        return span(node) if node is not None else None

    def written(self, node: fx.Node | None) -> str:
        """How the user calls a value: the name it is assigned to, else its expression, else the layer's path."""
        if node is None:
            return ""
        if node.op == "placeholder":
            return str(node.meta.get("input", node.name))
        if node.op == "get_attr":
            return str(node.target)
        place = span(node)
        if place is None:
            return node.name
        if self.source.is_whole_value(place) and (name := self.source.assigned(place)):
            return name
        text = self.source.expression(place)
        return text if len(text) <= 48 else text[:45] + "..."

    def dims(self, node: fx.Node) -> tuple[str, ...]:
        """Symbolic shape of a tensor node."""
        return self.record.shapes.get(node) or tuple(str(n) for n in shape(node))

    def shape_text(self, node: fx.Node) -> str:
        """`(B, L)`."""
        return "(" + ", ".join(self.dims(node)) + ")"

    def label(self, node: fx.Node, text: str = "") -> Label | None:
        """A label at a node: its name and shape, or `text`."""
        place = span(node)
        return Label(place, text or f"{self.written(node)}: {self.shape_text(node)}") if place is not None else None

    def labels(self, *pairs: tuple[fx.Node | None, str]) -> tuple[Label, ...]:
        """Labels for several nodes; those without a place are left out."""
        made = [self.label(n, t) for n, t in pairs if n is not None]
        return tuple(m for m in made if m is not None)

    def row(self, node: fx.Node, remark: str = "", name: str = "", wanted: fx.Node | tuple[str, ...] | None = None) -> ShapeRow:
        """A line of the shape table; `wanted` is the shape that it should have, or a value that has it."""
        shape = self.dims(wanted) if isinstance(wanted, fx.Node) else wanted
        return ShapeRow(name or self.written(node), self.dims(node), remark, shape if shape != self.dims(node) else None)

    def birth(self, path: str) -> Span | None:
        """Where the module of that path was constructed."""
        for call in self.record.calls:
            if call.path == path:
                return self.record.births.get(id(call.module))
        return None

    def birth_of(self, node: fx.Node) -> Span | None:
        """Where the layer that a node ran in was constructed."""
        return self.birth(str(node.meta.get("module") or ""))

    def chosen_at(self, path: str) -> Span | None:
        """Where the module of that path was chosen: of a helper that makes several, its call."""
        made = next((c.module for c in self.record.calls if c.path == path), None)
        return self.record.births.chosen(made) if made is not None else None

    def birth_labels(self, node: fx.Node | None, text: str) -> tuple[Label, ...]:
        """A label where the module that ran a node was constructed."""
        place = self.chosen_at(str(node.meta.get("module"))) if node is not None and node.meta.get("module") else None
        return (Label(place, text),) if place is not None else ()

    def activation(self, node: fx.Node) -> fx.Node | None:
        """The activation that a value comes out of, through changes of shape."""
        while ops.op(node) in ops.SHAPE | ops.CAST | {"effect"} and ops.value_inputs(node):
            node = ops.value_inputs(node)[0]
        return node if ops.op(node) in ops.FUNCTIONS | {"softmax", "log_softmax"} else None

    def beside(self, node: fx.Node, other: fx.Node) -> Span | None:
        """The expression that made `node`, in the innermost function that `other` was made in as well."""
        return frame_beside(node, other)

    def op(self, node: fx.Node) -> str:
        """A node's operation by name."""
        return ops.op(node)

    def mentions_batch(self, node: fx.Node) -> bool:
        """Whether a dimension of the node moves with the batch."""
        return any("B" in text for text in self.dims(node))

    def missing_axes(self, node: fx.Node, like: fx.Node) -> list[str]:
        """The axes of `like`, the batch aside, along which `node` has size 1 or none, lined up from the right as broadcasting does."""
        mine, full, texts = shape(node), shape(like), self.dims(like)
        missing = []
        for back in range(1, len(full) + 1):
            own = mine[-back] if back <= len(mine) else 1
            if full[-back] != 1 and own == 1 and "B" not in texts[-back]:
                missing.append(texts[-back])
        return missing[::-1]

    def elements(self, node: fx.Node) -> int:
        """How many elements a value has."""
        return math.prod(shape(node))

    @property
    def has_loss(self) -> bool:
        """Whether a loss is known."""
        return self.record.loss is not None

    @cached_property
    def reaching_loss(self) -> set[fx.Node]:
        """Nodes whose values the loss depends on; of a step that minimises several, any of them."""
        losses = [self.record.loss, *(o.loss for o in self.record.objectives[1:])]
        return self.flow.ancestors(*(n for n in losses if n is not None))
