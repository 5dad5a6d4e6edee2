"""Which parameters a value's gradient reaches, which layers the loss leaves out, which the model does not know."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.faults.gradients.attribute_use import Usage
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.gradients.holding import holders
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.record.walk import leaves_behind
from vaelint.trace import torch_private

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Unreached:
    """A layer (or a bare parameter) that the loss gives no gradient."""

    path: str
    parameters: tuple[str, ...]
    span: Span | None  # where it is made
    called: Span | None  # where it is called, if it is
    why: str
    certain: bool  # False: another method of the class uses it, so it may be meant
    instead: Span | None = None  # the call of a twin in the place where this layer belongs
    cut: bool = False  # its values reach the loss, without a gradient


@dataclass(frozen=True)
class Unknown:
    """A layer that runs in the step and is not among `model.parameters()`."""

    module: torch.nn.Module
    made: Span | None  # None for a layer of the module's namespace
    kept: Span | None  # where it is put into a plain list or dict, or the class of the plain object that has it
    plain: str  # that class
    called: Span | None
    count: int  # of its numbers


class Gradients:
    """Gradient reachability in one record."""

    def __init__(self, model: Model) -> None:
        self._model, self._record, self._flow = model, model.record, model.flow
        self.usage = Usage(model.source, model.tracer.spans)

    @cached_property
    def trainable(self) -> dict[int, str]:
        """id -> name of the parameters that an optimizer over `model.parameters()` would move."""
        return self._model.trainable

    def carries(self, node: fx.Node) -> bool:
        """Whether a gradient passes through the node's value in the recorded run."""
        if isinstance(node.meta.get("val"), torch.Tensor) or node.meta.get("scalar"):
            return bool(node.meta.get("grad"))
        return any(bool(u.meta.get("grad")) for u in node.users) or any(
            self.carries(u) for u in node.users if u.meta.get("val") is None and ops.op(u) == "getitem"
        )

    def reach(self, *starts: fx.Node, stop: Collection[fx.Node] = ()) -> set[fx.Node]:
        """Nodes that the gradient of `starts` reaches, those behind `stop` left out."""

        def sources(node: fx.Node) -> list[fx.Node]:
            return [n for n in ops.value_inputs(node) if ops.op(node) not in ops.FLAT and n not in stop and self.carries(n)]

        return reachable([n for n in starts if n not in stop and self.carries(n)], sources)

    def names(self, nodes: set[fx.Node]) -> set[str]:
        """The trainable parameters among some nodes."""
        return {self.trainable[i] for n in nodes if n.op == "get_attr" and (i := id(n.meta.get("val"))) in self.trainable}

    @cached_property
    def of_loss(self) -> set[fx.Node]:
        """What the gradient of the loss reaches; of a step that minimises several, of any of them."""
        return self.reach(*self._losses)

    @property
    def _losses(self) -> list[fx.Node]:
        return [n for n in (self._record.loss, *(o.loss for o in self._record.objectives[1:])) if n is not None]

    @cached_property
    def reached(self) -> set[str]:
        """Parameters that the loss moves: of several losses, those that the step moves by each."""
        if not self._record.objectives:
            return self.names(self.of_loss)
        moved = [(o.loss, o.moved) for o in self._record.objectives if o.loss is not None]
        return {n for loss, ids in moved for n in self.names(self.reach(loss)) & {self.trainable[i] for i in ids if i in self.trainable}}

    @cached_property
    def touched(self) -> set[str]:
        """Parameters that some loss of the step gives a gradient, moved or not."""
        if not self._record.objectives:
            return self.reached
        return {n for o in self._record.objectives if o.loss is not None for n in self.names(self.reach(o.loss))}

    def moved_otherwise(self, lost: Collection[str], at: Collection[fx.Node]) -> bool:
        """Whether the step moves parameters that this loss cuts off at some values: by another loss of its own, or after a loop of its
        own has refined what they made (semi-amortised inference), towards what the loop found."""
        others = ((o.loss, o.moved) for o in self._record.objectives[1:] if o.loss is not None)
        by_others = {n for loss, moved in others for n in self.names(self.reach(loss)) & {self.trainable.get(i, "") for i in moved}}
        if lost and set(lost) <= by_others:
            return True
        refined = bool(at) and not self._flow.refined.isdisjoint(self._flow.ancestors(*at))
        return refined and bool(lost) and set(lost) <= self.reached

    @cached_property
    def updated(self) -> set[str]:
        """Parameters that the step changes in place: moving averages."""
        found: set[str] = set()
        for node in self._record.graph.nodes:
            if node.op == "call_function" and ops.changes_in_place(ops.raw_name(node)) and node.args and isinstance(node.args[0], fx.Node):
                found |= self.names(self._flow.ancestors(node.args[0]))
        return {n for n in found if n not in self.reached}

    def _nodes_of(self, names: set[str]) -> list[fx.Node]:
        return [n for n in self._record.graph.nodes if n.op == "get_attr" and self.trainable.get(id(n.meta.get("val"))) in names]

    def unreached(self) -> list[Unreached]:
        """VAE501: those with something to say of here: where values are cut off on their way, another rule says so."""
        return [f for f in self.left_out if f.why]

    @cached_property
    def left_out(self) -> list[Unreached]:
        """Layers of which the loss reaches nothing, outermost first; the rest as bare parameters."""
        if self._record.loss is None or not self.reached:
            return []
        trainable, called = set(self.trainable.values()), {id(c.module) for c in self._record.calls}
        left, found = trainable - self.reached - self.updated, list[Unreached]()
        for path, module in self._record.model.named_modules():
            own = {f"{path}.{n}" for n, p in module.named_parameters() if id(p) in self.trainable}
            own &= trainable
            runs = id(module) in called and any(True for _ in module.children())
            if path and own and own <= left and not runs:
                left -= own
                found.append(self._judge(path, module, own))
        for name in sorted(left):
            owner_path, _, last = name.rpartition(".")
            owner = self._record.model.get_submodule(owner_path)
            made = owner is self._record.model or self._record.births.get(id(owner))
            if not made or type(owner).__module__.startswith("torch."):
                continue  # a part of a library's layer: its own affair
            found.append(self._judge(name, owner, {name}, last))
        return found

    def _judge(self, path: str, module: torch.nn.Module, names: set[str], parameter: str = "") -> Unreached:
        made = self.usage.assignment(module, parameter) if parameter else self._record.births.get(id(module))
        inside = {id(m) for m in module.modules()}
        called = next((c.span for c in self._record.calls if id(c.module) in inside and not parameter), None)
        nodes = self._nodes_of(names)
        used = self._flow.descendants(*nodes) if nodes else set()
        loss = self._record.loss
        parts = [p for p in path.split(".") if not p.isdigit()]
        attribute = parts[-1] if parts else path
        ended = self._ended_at(nodes, owner=module, name=parameter) if nodes and parameter and loss in used else None
        if ended is not None:
            why = "only its value is used: no gradient passes here"
            return Unreached(path, tuple(sorted(names)), made, None, why, True, span(ended), cut=True)
        if nodes and loss in used:
            return Unreached(path, tuple(sorted(names)), made, called, "", False, cut=True)  # cut off on the way: another rule says where
        if nodes:
            returned = any(n in used for n in _leaves(self._record.output))
            why = "its result is returned, and no term of the loss uses it" if returned else "it is called, and nothing uses its result"
            return Unreached(path, tuple(sorted(names)), made, called, why, not returned)
        file = made.file if made is not None else self.usage.file_of(module)
        readers = self.usage.readers(file, attribute) if file else []
        if path.rpartition(".")[2].isdigit():
            twice = self._twin_called_twice(path, module)
            return Unreached(
                path,
                tuple(sorted(names)),
                made,
                called,
                f"{twice} is called twice and this one never" if twice else "nothing calls it in this step",
                bool(twice),
                self._call_in_its_place(path, twice),
            )
        if readers:
            return Unreached(
                path, tuple(sorted(names)), made, called, f"this step does not call it; {', '.join(sorted(set(readers))[:3])} does", False
            )
        twice = self._twin_called_twice(path, module)
        why = f"nothing calls it{f', and {twice} is called twice' if twice else ''}"
        return Unreached(path, tuple(sorted(names)), made, called, why, True, self._call_in_its_place(path, twice))

    def _ended_at(self, nodes: list[fx.Node], owner: torch.nn.Module, name: str) -> fx.Node | None:
        """The one `detach`, `.data` or `.item()` that all use of a parameter passes; None under no_grad, where a rule on the encoder says
        so, or where another function reads the parameter too: it may train it."""
        users = [u for n in nodes for u in self._flow.users.get(n, ())]
        plain = [u for u in users if ops.op(u) in ("detach", "data") or u.meta.get("read")]
        if len(users) != 1 or plain != users or users[0].meta.get("no_grad") or self.usage.functions_with(owner, name) > 1:
            return None
        told = {lost.rpartition(".")[2] for cut in self._model.wiring.cuts for lost in cut.lost}
        return users[0] if name not in told else None

    def _call_in_its_place(self, path: str, twin: str) -> Span | None:
        """Of two calls of a twin the one that stands for this layer: the second where this one was made after the twin. Of more, the one
        that comes where this layer stands among its siblings, in the order they were made."""
        if not twin:
            return None
        siblings = [m for _, m in self._record.model.get_submodule(path.rpartition(".")[0]).named_children()]
        order = {id(m): i for i, m in enumerate(siblings)}
        mine = order[id(self._record.model.get_submodule(path))]
        calls = [c for c in self._record.calls if id(c.module) in order]
        of_twin = [c for c in calls if c.path.rpartition(".")[2] == twin]
        if len(of_twin) == 2:
            return of_twin[1 if order[id(of_twin[0].module)] < mine else 0].span
        places = [-1, *(order[id(c.module)] for c in calls), len(siblings)]
        fits = [c.span for c, before, after in zip(calls, places, places[2:], strict=False) if c in of_twin and before < mine < after]
        return fits[0] if len(fits) == 1 else None

    def _twin_called_twice(self, path: str, module: torch.nn.Module) -> str:
        parent = self._record.model.get_submodule(path.rpartition(".")[0])
        mine = [tuple(p.shape) for p in module.parameters()]
        for name, other in parent.named_children():
            times = sum(c.module is other for c in self._record.calls)
            if other is not module and type(other) is type(module) and times > 1 and [tuple(p.shape) for p in other.parameters()] == mine:
                return name
        return ""

    def unknown(self) -> list[Unknown]:
        """VAE502: layers that run in the step, were made by the model's own code, and are not registered."""
        known = {id(p) for p in self._record.model.parameters()}
        found: list[Unknown] = []
        inside = {id(m) for guest in self._record.guests for m in guest.modules()}  # a trainer's own networks are its affair
        for call in self._record.calls:
            made = self._record.births.get(id(call.module))
            if call.path != "?" or id(call.module) in inside:
                continue
            inside |= {id(m) for m in call.module.modules()}
            strange = [p for p in call.module.parameters() if id(p) not in known and p.requires_grad]
            if strange and (made is not None or self._decodes(strange)):
                kept, plain = self._kept(call.module)
                found.append(Unknown(call.module, made, kept, plain, call.span, sum(p.numel() for p in strange)))
        return found

    def unknown_tensors(self) -> list[tuple[fx.Node, str, Span | None]]:
        """VAE502: tensors that a module of the model holds as a plain attribute, or in a list or dict, and that the loss would train:
        (the tensor, its name, where it is put there)."""
        known = {id(p) for p in self._record.model.parameters()}
        known |= {id(p) for layer in self.unknown() for p in layer.module.parameters()}
        found = []
        for node in self._record.graph.nodes:
            val = node.meta.get("val")
            wanted = node.op == "get_attr" and node in self.of_loss and isinstance(val, torch.Tensor) and val.requires_grad
            if wanted and not leaf_ids(val) & known and (held := holder_of(self._record.model, val)) is not None:
                found.append((node, held[1], self.usage.assignment(*held)))
        return found

    def holder(self, node: fx.Node) -> tuple[torch.nn.Module, str] | None:
        """The module and the attribute that hold the tensor of a `get_attr` node: a buffer, a plain attribute, or a part of one."""
        val = node.meta.get("val")
        buffers = ((m, *pair) for m in self._record.model.modules() for pair in torch_private.own_tensors(m, parameters=False))
        owners = ((m, name) for m, name, held in buffers if held is val)
        return next(owners, None) or holder_of(self._record.model, val)

    def _kept(self, module: torch.nn.Module) -> tuple[Span | None, str]:
        """The statement that puts a layer into a list, a dict or a function of the model, or that of the class which is no module, and
        that class."""
        chain = list(holders(self._record.model, module, self.usage.of_user))
        if not chain:
            return None, ""
        owner, name = chain[-1]
        if isinstance(owner, torch.nn.Module):
            return self.usage.assignment(owner, name), ""
        return self.usage.statement_of(type(owner)), type(owner).__name__

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


def _leaves(output: object) -> list[fx.Node]:
    if isinstance(output, fx.Node):
        return [output]
    if isinstance(output, list | tuple):
        return [n for v in output for n in _leaves(v)]
    if isinstance(output, dict):
        return [n for v in output.values() for n in _leaves(v)]
    return []
