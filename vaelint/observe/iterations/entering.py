"""What a recorded iteration is given: the tensors of its batch, and those that enter a network from outside."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.observe.batches import is_label, is_one_hot, rows_of, tensors_of
from vaelint.observe.fewer import Entered, Origin, Shrunk, beside, input_instead, is_selected, made_by
from vaelint.record.record import Record, ancestors, name_of
from vaelint.trace.modules import ModuleTracker
from vaelint.trace.recorder import Recorder
from vaelint.trace.spans import SpanFinder

OWN_NOISE = "noise of NumPy"


class Entering:
    """The part of a watch that follows it."""

    recorder: Recorder
    modules: ModuleTracker
    record: Record
    spans: SpanFinder
    batch: int | None
    names: dict[int, str]

    def __init__(self, fewer: tuple[Origin, int] | None, *, loose: bool) -> None:
        """`loose`: no loader gives the batch. `fewer`: where it then comes from, and how many rows it is to have."""
        self._loose, self._fewer, self._shrunk = loose, fewer, Shrunk()
        self._drawn: list[tuple[torch.Tensor, fx.Node]] = []  # what the first network got, if it was drawn
        self._entering: list[Entered] = []  # what entered networks from outside
        self._replaced: set[fx.Node] = set()  # what made the inputs that are not as they came
        self.inputs: dict[str, torch.Tensor] = {}
        self._kept: dict[str, torch.Tensor] = {}  # the inputs' values when they came

    def hush(self, stack: contextlib.ExitStack) -> None:
        """Until the stack is closed, what runs is not recorded."""
        was = self.recorder.paused
        self.recorder.paused = True
        stack.callback(setattr, self.recorder, "paused", was)

    def _entered(self, module: torch.nn.Module, args: Any) -> None:
        """An outermost network is called: tensors that nothing of the record made are the batch."""
        if not self.recorder.paused and not self.modules.running:
            self._take_from_outside(args)

    def given(self, arguments: Any) -> None:
        """What a whole iteration is called with, where no loader gives the batch."""
        if self._loose and not self.recorder.paused and not self.inputs:
            self.batch = rows_of(arguments)
            self._take_from_outside(arguments)

    def _take_from_outside(self, args: Any) -> None:
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            for _, tensor in tensors_of(args):
                node = self.recorder.node_for(tensor)
                if tensor.ndim and not tensor.requires_grad and (node is None or not self._of_networks(node)):
                    if self._fewer is not None and node is None:
                        self._shrink(tensor)
                    self.batch = self.batch or tensor.shape[0]
                    self._entering.append(Entered.by(tensor, node))
                    self.take("x", tensor, made_by(node, self.batch))
                elif tensor.ndim and node is not None and not self.modules.calls and _is_drawn(node):
                    self._drawn.append((tensor, node))
        if self.batch:
            self.record.sizes["B"] = self.batch

    def settle(self) -> None:
        """Where draws and labels alone entered a network, the draws that the first one got were the data: `x = torch.randn(32, 784)`."""
        if not self._drawn:
            return
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            labels = all(map(is_label, self._kept.values()))
        for tensor, node in self._drawn if labels else ():
            self.batch = self.batch or tensor.shape[0]
            self._entering.append(Entered.by(tensor, node))
            self.take("x", tensor, made_by(node, self.batch))
            self.record.sizes["B"] = self.batch

    def _shrink(self, tensor: torch.Tensor) -> None:
        """A tensor that was there before the iteration began gets fewer rows, with those that the script holds beside it."""
        assert self._fewer is not None
        origin, fewer = self._fewer
        for held in (tensor, *(t for t in beside(self.spans.user_frames(sys._getframe(1), limit=16)) if t is not tensor)):
            if self.recorder.node_for(held) is None and id(held) not in self.names:
                self._shrunk.shrink(held, origin.rows, fewer)

    @property
    def origin(self) -> Origin | None:
        """Where the batch comes from, if no loader gives it; None where it cannot be cut."""
        if not self._loose:
            return None
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            return Origin.of(self.recorder.graph, self._entering, self.batch)

    def _of_networks(self, node: fx.Node) -> bool:
        """Whether a value depends on the batch or on a parameter, or was drawn: a latent is no input."""
        behind = ancestors(node)
        return any(n.op == "placeholder" or n.meta.get("parameter") for n in behind) or _is_drawn(node)

    def take(self, name: str, tensor: torch.Tensor, made: fx.Node | None = None) -> None:
        """Registers a tensor of the batch; if the script `made` it of another one in the iteration, that one."""
        while name in self.inputs:
            name += "_"
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            self.inputs[name] = tensor if made is None else made.meta["val"]
            self._kept[name] = self.inputs[name].detach().clone()
            self.record.inputs[name] = self.recorder.input(name, tensor) if made is None else input_instead(self.recorder, name, made)
            self._replaced |= {made} if made is not None else set()

    def _take_selected(self) -> None:
        """What the script took out of its data for this iteration, and no network was called on: targets, labels."""
        for node in list(self.recorder.graph.nodes) if self._loose and self.batch else ():
            if self._is_read(node) and is_selected(node, self.batch) and not self._is_own(node):
                self.take("x", node.meta["val"], node)

    def _is_own(self, node: fx.Node) -> bool:
        """Whether a network makes a value while it runs, such as noise that NumPy draws."""
        around, kinds = node.meta.get("stack", ())[1:], {type(m).__name__ for m in self.record.model.modules()}
        methods = {call.caller for call in self.record.functions if call.arguments.get("self") in kinds}
        return any(place in around for place in methods | {call.span for call in self.modules.calls if not call.depth})

    def note_own_noise(self) -> None:
        """Marks what networks make of numbers that NumPy drew: another run of the iteration has to draw others."""
        for node in self.recorder.graph.nodes:
            if node.op == "call_function" and node.meta.get("random") and not node.all_input_nodes and self._is_own(node):
                node.meta[OWN_NOISE] = True

    def _is_read(self, node: fx.Node) -> bool:
        """Whether anything but an input that was made of it reads a value."""
        below = reachable([node], lambda n: [user for user in n.users if user not in self._replaced])
        return any(n is not node and not n.users for n in below)

    def name_inputs(self, frames: Sequence[FrameType], unused: set[str], *, whole: bool = True) -> None:
        """Gives each tensor of the batch the name of the variable that holds it, where one does.

        What a whole iteration makes nothing of is left out, and its name added to `unused`; of a broken one, what is in `unused`.
        """
        for name, tensor in list(self.inputs.items()):
            node = self.record.inputs[name]
            if not node.users and (whole or name in unused) and not self._is_asked_for(node, tensor):
                unused.add(name)
                self.recorder.graph.erase_node(node)
                del self.inputs[name], self._kept[name], self.record.inputs[name]
                continue
            told = next((k for f in frames for k, v in f.f_locals.items() if v is tensor and k.isidentifier() and k != "self"), name)
            if told != name and told not in self.inputs:
                node.meta["input"] = told
                self.record.inputs[told] = self.record.inputs.pop(name)
                for held in (self.inputs, self._kept):
                    held[told] = held.pop(name)

    def _is_asked_for(self, node: fx.Node, tensor: torch.Tensor) -> bool:
        """Whether a function of the script was given a tensor by itself that tells samples apart, and is more than their class."""
        with contextlib.ExitStack() as quiet:
            self.hush(quiet)
            tells = not is_one_hot(tensor) and bool((tensor != tensor[:1]).any())
        return tells and any(node is given for call in self.record.functions for given in call.arguments.values())


def _is_drawn(node: fx.Node) -> bool:
    """Whether a value was drawn from a Gaussian: a latent, or made-up data."""
    return name_of(node.target).startswith(("randn", "normal"))
