"""Layers and tensors that run in the step and that the model does not know: an optimizer over `model.parameters()` misses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.gradients.holding import holders
from vaelint.late import dataclass
from vaelint.record.walk import leaves_behind
from vaelint.replay.per_model import per_model
from vaelint.trace import torch_private

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Unknown:
    """A layer that runs in the step and is not among `model.parameters()`."""

    module: torch.nn.Module
    made: Span | None  # None for a layer of the module's namespace
    kept: Span | None  # where it is put into a plain list or dict, or the class of the plain object that has it
    plain: str  # that class
    called: Span | None
    count: int  # of its numbers


@per_model
def unknown_layers(model: Model) -> list[Unknown]:
    """VAE502: layers that run in the step, were made by the model's own code, and are not registered."""
    return _Layers(model).unknown()


@per_model
def unknown_tensors(model: Model) -> list[tuple[fx.Node, str, Span | None]]:
    """VAE502: tensors that a module of the model holds as a plain attribute, or in a list or dict, and that the loss would train:
    (the tensor, its name, where it is put there)."""
    known = {id(p) for p in model.record.model.parameters()}
    known |= {id(p) for layer in unknown_layers(model) for p in layer.module.parameters()}
    found = []
    for node in model.record.graph.nodes:
        val = node.meta.get("val")
        wanted = node.op == "get_attr" and node in gradients_of(model).of_loss and isinstance(val, torch.Tensor) and val.requires_grad
        if wanted and not leaf_ids(val) & known and (held := holder_of(model.record.model, val)) is not None:
            found.append((node, held[1], usage_of(model).assignment(*held)))
    return found


def holder(model: Model, node: fx.Node) -> tuple[torch.nn.Module, str] | None:
    """The module and the attribute that hold the tensor of a `get_attr` node: a buffer, a plain attribute, or a part of one."""
    val = node.meta.get("val")
    buffers = ((m, *pair) for m in model.record.model.modules() for pair in torch_private.own_tensors(m, parameters=False))
    owners = ((m, name) for m, name, held in buffers if held is val)
    return next(owners, None) or holder_of(model.record.model, val)


class _Layers:
    """The layers that ran, held against those that the model has registered."""

    def __init__(self, model: Model) -> None:
        self._model, self._record, self._flow, self._usage = model, model.record, model.flow, usage_of(model)

    def unknown(self) -> list[Unknown]:
        """`unknown_layers`."""
        known = {id(p) for p in self._record.model.parameters()}
        found: list[Unknown] = []
        inside = {id(m) for guest in self._record.guests for m in guest.modules()}  # a trainer's own networks are its affair
        optimized = self._optimized()
        for call in self._record.calls:
            made = self._record.births.get(id(call.module))
            if call.path != "?" or id(call.module) in inside:
                continue
            inside |= {id(m) for m in call.module.modules()}
            strange = [p for p in call.module.parameters() if id(p) not in known | optimized and p.requires_grad]
            if strange and (made is not None or self._decodes(strange)):
                kept, plain = self._kept(call.module)
                found.append(Unknown(call.module, made, kept, plain, call.span, sum(p.numel() for p in strange)))
        return found

    def _optimized(self) -> set[int]:
        """The ids of what an optimizer of the step or of the constructor has been given, a trainer's multiplier for one."""
        held = (optimizer.parameters for optimizer in self._record.optimizers)
        return set().union(*held, *(call.moved for call in self._record.backwards))

    def _kept(self, module: torch.nn.Module) -> tuple[Span | None, str]:
        """The statement that puts a layer into a list, a dict or a function of the model, or that of the class which is no module, and
        that class."""
        chain = list(holders(self._record.model, module, self._usage.of_user))
        if not chain:
            return None, ""
        owner, name = chain[-1]
        if isinstance(owner, torch.nn.Module):
            return self._usage.assignment(owner, name), ""
        return self._usage.statement_of(type(owner)), type(owner).__name__

    def _decodes(self, parameters: list[torch.nn.Parameter]) -> bool:
        """Whether the reconstruction is made with some parameters: a layer of another owner that only the loss uses is none of the
        model's."""
        ids = {id(p) for p in parameters}
        return any(n.op == "get_attr" and id(n.meta.get("val")) in ids for n in self._flow.ancestors(*reconstruction_ends(self._model)))


def holder_of(model: torch.nn.Module, tensor: object) -> tuple[torch.nn.Module, str] | None:
    """The module and the attribute that hold a tensor outside of parameters and buffers: the attribute itself, an element of its list or
    dict, or a part of the distribution in it."""
    for owner in model.modules():
        for name, held in vars(owner).items():
            if not name.startswith("_") and any(part is tensor for part in parts_of(held)):
                return owner, name
    return None


def parts_of(held: object) -> list[object]:
    """The value of an attribute, its elements, and the tensors of the distributions among them."""
    items = list(held.values()) if isinstance(held, dict) else list(held) if isinstance(held, list | tuple) else [held]
    return items + [part for item in items if isinstance(item, torch.distributions.Distribution) for part in vars(item).values()]


def leaf_ids(value: torch.Tensor) -> set[int]:
    """The tensors that a backward pass through a value would give a gradient: itself, or what it was computed from."""
    return {id(value)} if value.grad_fn is None else {id(leaf) for leaf in leaves_behind(value)}
