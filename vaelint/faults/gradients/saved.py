"""What autograd keeps for the backward pass, and what became of it: changed in place since, or freed by an earlier backward()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import IdleStep, ancestors
from vaelint.record.walk import functions_behind
from vaelint.trace import torch_private

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def keeps_values(function: Any) -> bool:
    """Whether a backward function reads tensors of the forward pass."""
    for _, value in torch_private.saved_by(function):
        held = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(v, torch.Tensor | RuntimeError) for v in held):
            return True
    return False


def changed_in_place(model: Model) -> list[tuple[fx.Node, fx.Node]]:
    """VAE506: changes in place of what a backward function still needs: (the change, the operation whose gradient needs it).

    Autograd itself is asked: it counts the changes of each tensor, with and without values. What it kept is fake, and giving it
    back would import torch._dynamo, which takes as long as all the rest of a check.
    """
    try:
        with torch_private.lean_dynamo():
            return _changed_in_place(model)
    except torch_private.DynamoMissing:
        return _changed_in_place(model)


def _changed_in_place(model: Model) -> list[tuple[fx.Node, fx.Node]]:
    loss = model.record.loss_value
    if not isinstance(loss, torch.Tensor):
        return []
    nodes = model.record.nodes
    if not any(map(_in_place, nodes)):
        return []
    owner: dict[Any, fx.Node] = {}
    for node in nodes:
        function = node.meta.get("backward")
        if function is not None and node.op == "call_function" and node.target is not effect:
            owner.setdefault(function, node)
    found: list[tuple[fx.Node, fx.Node]] = []
    ends = _last_pass_through(model)
    for function in functions_behind(loss):
        if torch_private.is_broken(function) and (kept := _owner(function, owner)) is not None:
            change = _change_of(kept, nodes[: ends.get(function, model.record.differentiated_at)])
            if change is not None:
                found.append((change, kept))
    order = model.flow.order
    return sorted(found, key=lambda pair: (order[pair[0]], order[pair[1]]))


def _last_pass_through(model: Model) -> dict[Any, int]:
    """How many operations had been recorded when a backward function ran last in the step itself: what changes later is not asked for."""
    return {function: call.at for call in model.record.backwards for function in functions_behind(call.of)}


@dataclass(frozen=True)
class Twice:
    """A part of the graph that two backward passes run through, the first of which frees it."""

    span: Span | None
    attribute: str = ""  # the attribute that carries it into the next step; "" for two calls in one step


def freed_graphs(model: Model) -> list[Twice]:
    """VAE507: `backward()` twice over what it frees, in one step, or in the next by way of an attribute of the model."""
    found: list[Twice] = []
    calls = model.record.backwards
    for i, later in enumerate(calls):
        mine = functions_behind(later.of)
        shared = (f for earlier in calls[:i] if not earlier.keeps for f in functions_behind(earlier.of) & mine)
        if any(keeps_values(f) for f in shared):
            found.append(Twice(later.span))
    return found + _carried(model)


def _carried(model: Model) -> list[Twice]:
    """Attributes that hold a value with its graph after the step, and that the next step reads before it writes them."""
    held = {
        f"{path}.{name}".lstrip("."): (module, name)
        for path, module in model.record.model.named_modules()
        for name, val in vars(module).items()
        if isinstance(val, torch.Tensor) and val.grad_fn is not None and any(map(keeps_values, functions_behind(val)))
    }
    if not held:
        return []
    second = model.tracer.second(model.step, {"B": 2} if "B" in model.inputs.symbols else None)
    if second.loss is None:
        return []
    used = {
        str(n.target) for n in ancestors(second.loss) if n.op == "get_attr" and (v := n.meta.get("val")) is not None and v.requires_grad
    }
    usage = usage_of(model)
    return [
        Twice(usage.assignment(module, name, running=True) or usage.assignment(module, name), path)
        for path, (module, name) in held.items()
        if path in used
    ]


def _owner(function: Any, owner: dict[Any, fx.Node]) -> fx.Node | None:
    """The recorded operation that a backward function belongs to: its own, or the one made of it."""
    if function in owner:
        return owner[function]
    return next((node for other, node in owner.items() if any(f is function for f, _ in other.next_functions)), None)


def _change_of(kept: fx.Node, nodes: list[fx.Node]) -> fx.Node | None:
    """The first change in place, after an operation, of its result or of one of its operands."""
    mine = {s for n in (kept, *ops.tensors(kept.args), *ops.tensors(dict(kept.kwargs))) if (s := _storage(n)) is not None}
    after = nodes[nodes.index(kept) + 1 :]
    return next((n for n in after if _in_place(n) and isinstance(n.args[0], fx.Node) and _storage(n.args[0]) in mine), None)


def _in_place(node: fx.Node) -> bool:
    if node.op != "call_function" or not node.args:
        return False
    name = ops.raw_name(node)
    changes = name in ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")
    return changes or bool(node.kwargs.get("inplace")) or (name.endswith("_") and not name.endswith("__") and not name.startswith("_"))


def _storage(node: fx.Node) -> int | None:
    val = node.meta.get("val")
    return torch_private.storage_of(val) if isinstance(val, torch.Tensor) else None


def idle_steps(model: Model) -> list[IdleStep]:
    """VAE511: steps of optimizers over gradients that had been cleared, as the record has them."""
    return model.record.idle_steps
