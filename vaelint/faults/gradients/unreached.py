"""Layers that the loss gives no gradient, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import encoder_cuts
from vaelint.faults.gradients.other_branch import reader_in_another_branch
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.replay.per_model import per_model

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


@per_model
def left_out(model: Model) -> list[Unreached]:
    """Layers of which the loss reaches nothing, outermost first; the rest as bare parameters."""
    return _Layers(model).left_out()


@per_model
def unreached(model: Model) -> list[Unreached]:
    """VAE501: those with something to say of here: where values are cut off on their way, another rule says so.

    What another iteration of an observed training moves is learned: turns with and without labels go different ways.
    """
    return [f for f in left_out(model) if f.why and not model.record.learned.issuperset(f.parameters)]


class _Layers:
    """The layers of a model, held against what the gradient of its loss reaches."""

    def __init__(self, model: Model) -> None:
        self._model, self._record, self._flow = model, model.record, model.flow
        self._gradients, self._usage = gradients_of(model), usage_of(model)

    def _nodes_of(self, names: set[str]) -> list[fx.Node]:
        return [n for n in self._record.graph.nodes if n.op == "get_attr" and self._model.trainable.get(id(n.meta.get("val"))) in names]

    def left_out(self) -> list[Unreached]:
        """`left_out`."""
        if self._record.loss is None or not self._gradients.reached:
            return []
        trainable, called = set(self._model.trainable.values()), {id(c.module) for c in self._record.calls}
        left, found = trainable - self._gradients.reached - self._gradients.updated, list[Unreached]()
        parameters = dict(self._record.model.named_parameters(remove_duplicate=False))
        left -= {name for name in left if not parameters[name].numel()}  # of a part of the data that has no size here
        for path, module in self._record.model.named_modules():
            own = {f"{path}.{n}" for n, p in module.named_parameters() if id(p) in self._model.trainable}
            own &= trainable
            runs = id(module) in called and any(True for _ in module.children())
            if path and own and own <= left and not runs:
                left -= own
                if not self._made_with_its_owner(path, module):
                    found.append(self._judge(path, module, own))
        for name in sorted(left):
            owner_path, _, last = name.rpartition(".")
            owner = self._record.model.get_submodule(owner_path)
            made = owner is self._record.model or self._record.births.get(id(owner))
            if not made or type(owner).__module__.startswith("torch."):
                continue  # a part of a library's layer: its own affair
            found.append(self._judge(name, owner, {name}, last))
        return found

    def _made_with_its_owner(self, path: str, module: torch.nn.Module) -> bool:
        """Whether one expression of the user's made a layer and what holds it: a part of a library's layer is its own affair."""
        owner = self._record.model.get_submodule(path.rpartition(".")[0])
        made = self._record.births.get(id(module))
        return made is not None and made == self._record.births.get(id(owner))

    def _judge(self, path: str, module: torch.nn.Module, names: set[str], parameter: str = "") -> Unreached:
        made = self._usage.assignment(module, parameter) if parameter else self._record.births.get(id(module))
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
            why, certain = self._where_it_ends(nodes, used)
            return Unreached(path, tuple(sorted(names)), made, called, why, certain)
        file = made.file if made is not None else self._usage.file_of(module)
        readers = self._usage.readers(file, attribute) if file else []
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

    def _where_it_ends(self, nodes: list[fx.Node], used: set[fx.Node]) -> tuple[str, bool]:
        """Why values that the step computes are not in its loss, and whether that is no choice."""
        if any(n in used for n in _leaves(self._record.output)):
            return "its result is returned, and no term of the loss uses it", False
        if self._ends_apart(used):
            return "it leads to another number than the one that is used as the loss", False
        if other := reader_in_another_branch(self._model, used - set(nodes)):
            return f"its result is for a branch of {other} that this step does not take", False
        return "it is called, and nothing uses its result", True

    def _ends_apart(self, used: set[fx.Node]) -> bool:
        """Whether values end in a number with a gradient of its own beside the loss, where the loss is vaelint's pick of several."""
        if getattr(self._model.step, "output_part", None) is None:
            return False
        last = [n.meta.get("val") for n in used if not self._flow.users.get(n, ())]
        return any(isinstance(v, torch.Tensor) and v.dim() == 0 and v.requires_grad for v in last)

    def _ended_at(self, nodes: list[fx.Node], owner: torch.nn.Module, name: str) -> fx.Node | None:
        """The one `detach`, `.data` or `.item()` that all use of a parameter passes; None under no_grad, where a rule on the encoder says
        so, or where another function reads the parameter too: it may train it."""
        users = [u for n in nodes for u in self._flow.users.get(n, ())]
        plain = [u for u in users if ops.op(u) in ("detach", "data") or u.meta.get("read")]
        if len(users) != 1 or plain != users or users[0].meta.get("no_grad") or self._usage.functions_with(owner, name) > 1:
            return None
        told = {lost.rpartition(".")[2] for cut in encoder_cuts(self._model) for lost in cut.lost}
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


def _leaves(output: object) -> list[fx.Node]:
    if isinstance(output, fx.Node):
        return [output]
    if isinstance(output, list | tuple):
        return [n for v in output for n in _leaves(v)]
    if isinstance(output, dict):
        return [n for v in output.values() for n in _leaves(v)]
    return []
