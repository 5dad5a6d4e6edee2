"""The way of the data from input to loss, step by step, in plain values that reports render: `TargetResult.trail`."""

from __future__ import annotations

import operator
from dataclasses import asdict
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.model import Model
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import Failure, name_of, span
from vaelint.trail.cost import Cost, estimate
from vaelint.trail.nesting import call_stacks, describe_call
from vaelint.trail.stages import names_of_roles, part_of_loss, stage_of_nodes

_TEXT = 200  # characters of an expression or an error that are kept


def make_trail(model: Model) -> dict[str, Any]:
    """The trail of a recorded step; of one that failed, up to the failing operation. The form is `$defs.trail` of schema.json."""
    cost = estimate(model.record)
    steps = _Steps(model, cost)
    for node in model.record.nodes:
        steps.add(node)
    failure = model.record.failure
    return {
        "steps": steps.made,
        "calls": steps.calls_in_use(),
        "sizes": {k: v for k, v in model.record.sizes.items() if k not in model.record.joined},
        "totals": {
            "parameters": cost.parameters,
            "parameter_bytes": cost.parameter_bytes,
            "gradient_bytes": cost.gradient_bytes,
            "buffer_bytes": cost.buffer_bytes,
            "input_bytes": cost.input_bytes,
            "flops": cost.flops,
            "activation_bytes": cost.activation_bytes,
            "uncounted": list(cost.uncounted),
        },
        "failed": _failed(failure, model, steps) if failure is not None else None,
    }


class _Steps:
    """Nodes turned into steps, in the order they ran."""

    def __init__(self, model: Model, cost: Cost) -> None:
        self._model, self._cost = model, cost
        self._stage = stage_of_nodes(model)
        self._roles = names_of_roles(model)
        self._part = part_of_loss(model, self._stage)
        self._stacks = call_stacks(model.record)
        self._order: dict[fx.Node, int] = {}
        self._calls: dict[int, int] = {}
        self._makers: set[fx.Node] = set()
        self._written: dict[Span, tuple[str, str, list[Any]]] = {}
        self.made: list[dict[str, Any]] = []

    def add(self, node: fx.Node) -> None:
        """Appends the step of a node, if it is one: inputs, and calls that make a tensor."""
        maker = _maker(node)
        if not isinstance(node.meta.get("val"), torch.Tensor) or node.op == "get_attr" or node.target is effect:
            return
        if maker is not node and not node.users and any(part.users for part in maker.users):
            return  # one of several results that nobody uses: the weights of an attention, the last state of a recurrent layer
        val: torch.Tensor = node.meta["val"]
        own = self._cost.of(node)
        whole = self._cost.of(maker) if maker is not node and maker not in self._makers else None
        self._makers.add(maker)
        place = span(node)
        name, expression, statement = self._text(place) if place is not None else ("", "", None)
        self._order[node] = len(self.made)
        self.made.append(
            {
                "id": len(self.made),
                "stage": self._stage.get(node, "other"),
                "part": self._part.get(node),
                "role": self._roles.get(node),
                "name": str(node.meta.get("input", node.name)) if node.op == "placeholder" else name,
                "operation": node.op if node.op == "placeholder" else ops.op(maker),
                "expression": expression,
                "statement": statement,
                "shape": list(self._model.dims(node)),
                "size": [int(n) for n in val.shape],
                "dtype": str(val.dtype).removeprefix("torch."),
                "device": str(val.device),
                "parameters": own.parameters + (whole.parameters if whole else 0),
                "flops": whole.flops if whole else own.flops,
                "activation_bytes": own.activation_bytes + (whole.activation_bytes if whole else 0),
                "from": self._sources(node),
                "calls": [self._call(c) for c in self._stacks.get(node, ())],
                "span": asdict(place) if place else None,
            }
        )

    def _text(self, place: Span) -> tuple[str, str, list[Any]]:
        """What the user wrote there: the name it is assigned to, the expression, and file and first line of the statement."""
        if place not in self._written:
            source = self._model.source
            statement = source.file(place.file).statement(place.line)
            self._written[place] = (
                source.assigned(place) if source.is_whole_value(place) else "",
                source.expression(place)[:_TEXT],
                [place.file, statement.lineno if statement is not None else place.line],
            )
        return self._written[place]

    def _sources(self, node: fx.Node) -> list[int]:
        """The steps whose values this one reads."""

        def made_of(n: fx.Node) -> list[fx.Node]:
            passes = n not in self._order and n.op == "call_function" and not n.meta.get("scalar")
            return ops.value_inputs(n)[::-1] if passes else []

        reached = walked(ops.value_inputs(node)[::-1], made_of)
        return list(dict.fromkeys(self._order[n] for n in reached if n in self._order))

    def _call(self, index: int) -> int:
        return self._calls.setdefault(index, len(self._calls))

    def calls_in_use(self) -> list[dict[str, Any]]:
        """The calls that steps name, by their numbers."""
        record = self._model.record
        made = []
        for index in self._calls:
            described = describe_call(record.calls[index], record)
            birth, place = described["birth"], record.calls[index].span
            made.append(described | {"birth": asdict(birth) if birth else None, "span": asdict(place) if place else None})
        return made

    def number(self, node: fx.Node) -> int | None:
        """The step of a node."""
        return self._order.get(node)


def _maker(node: fx.Node) -> fx.Node:
    """The call that a result was taken out of, where it has several results; else the node itself."""
    while (
        node.op == "call_function"
        and node.target is operator.getitem
        and isinstance(node.args[0], fx.Node)
        and node.args[0].op == "call_function"
        and node.args[0].meta.get("val") is None
    ):
        node = node.args[0]
    return node


def _failed(failure: Failure, model: Model, steps: _Steps) -> dict[str, Any]:
    """The operation that raised, its operands, and where each was born."""
    lines = [x.strip() for x in message_of(failure.error).splitlines() if x.strip()]
    place = failure.spans[0] if failure.spans else None
    operands = [n for n in ops.tensors(failure.args) if isinstance(n.meta.get("val"), torch.Tensor)]
    return {
        "operation": name_of(failure.fn) if failure.fn is not None else None,
        "error": ": ".join([type(failure.error).__name__, *lines[:1]])[:_TEXT],
        "expression": model.source.expression(place)[:_TEXT] if place else "",
        "stage": _failing_stage(failure, operands, steps),
        "module": failure.module or None,
        "span": asdict(place) if place else None,
        "called_from": [asdict(s) for s in failure.spans[1:4]],
        "birth": asdict(failure.births[0]) if failure.births else None,
        "operands": [_operand(n, model, steps) for n in operands[:4]],
    }


def _failing_stage(failure: Failure, operands: list[fx.Node], steps: _Steps) -> str:
    """The stage that the failing operation would have been in, from those of the values that it takes."""
    numbers = [i for n in operands if (i := steps.number(n)) is not None]
    if not numbers:
        return str(steps.made[-1]["stage"]) if steps.made and steps.made[-1]["stage"] != "input" else "network"
    found = {steps.made[i]["stage"] for i in numbers}
    compares = failure.fn is not None and name_of(failure.fn) in ops.LOSSES
    if compares or ("input" in found and found & {"decoder", "network"}):
        return "loss"
    last = steps.made[max(numbers)]
    following = {"input": "encoder", "heads": "reparameterization"}
    return "decoder" if last["role"] == "z" else str(following.get(last["stage"], last["stage"]))


def _operand(node: fx.Node, model: Model, steps: _Steps) -> dict[str, Any]:
    val: torch.Tensor = node.meta["val"]
    kind = "input" if node.op == "placeholder" else "value" if node.op == "call_function" else "parameter"
    if kind == "parameter" and not node.meta.get("parameter"):
        kind = "buffer"
    born = _owner_birth(str(node.target), model) if node.op == "get_attr" else span(node)
    return {
        "name": model.written(node),
        "kind": kind,
        "shape": list(model.dims(node)),
        "dtype": str(val.dtype).removeprefix("torch."),
        "device": str(val.device),
        "born": asdict(born) if born else None,
        "expression": model.source.expression(born)[:_TEXT] if born else "",
        "step": steps.number(node),
    }


def _owner_birth(name: str, model: Model) -> Span | None:
    """Where the module that holds a parameter was constructed."""
    try:
        module = model.record.model.get_submodule(name.rpartition(".")[0])
    except AttributeError:  # a constant that is no attribute of the model
        return None
    return model.record.births.get(id(module))
