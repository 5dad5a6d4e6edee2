"""A recorded iteration, run again: node by node, with other values, seeds or batch sizes. The script's Python does not run again.

What only the script's Python can answer (evaluation mode, other attributes, a second epoch) raises `NotReplayedError`: it is then
"not measured", never taken for an answer.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import fx, nn

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.observe.afterwards import AFTER
from vaelint.observe.copies import Parts
from vaelint.observe.held_optimizers import on_copy
from vaelint.observe.iterations.entering import OWN_NOISE
from vaelint.observe.not_replayed import NotReplayedError
from vaelint.observe.noted_gradients import Copied, note_gradients
from vaelint.observe.seen import SUM_OF_PASSES, Iteration, Minimised
from vaelint.record import generators
from vaelint.record.marks import custom_gradient
from vaelint.record.record import Births, FunctionCall, MadeDistribution, ModuleCall, Record, name_of
from vaelint.record.walk import functions_behind
from vaelint.step.step import Outcome
from vaelint.trace import keras_models, torch_private
from vaelint.trace.lift import SymbolPower
from vaelint.trace.recorded_run import Built

Late = Literal["none", "shown", "run"]


class ObservedStep:
    """The recorded iteration in the place of a `Step`: what it minimises was seen, and nothing was guessed."""

    has_loss, doubted, call = True, False, ""
    unknown_weights: tuple[str, ...] = ()
    tokens: frozenset[str] = frozenset()

    def __init__(
        self,
        code: str,
        source: Record,
        iteration: Iteration,
        goal: Minimised,
        optimizers: Sequence[tuple[Any, Span | None]],
        left_out: Set[fx.Node],
        own: Sequence[str],
        other: Record | None,
        beside: Sequence[Minimised],
    ) -> None:
        """
        Args:
            beside: further losses that move parameters of the same networks.
            left_out: nodes that only other goals of the iteration need.
            own: the networks among several that the goal's optimizers move; empty for all.
            other: the iteration at another batch size.
        """
        self.code, self.place, self.notes = code, "", list[str]()
        self.made_up: dict[str, str] = {}
        self.input_shapes = {name: tuple(t.shape) for name, t in iteration.inputs.items()}
        self._source, self._iteration, self._goal, self._optimizers = source, iteration, goal, list(optimizers)
        self._left_out, self._own, self._other, self._beside = left_out, own, other, list(beside)
        self.held = goal.held  # parameters that the goal's own optimizers move
        self.outer = iteration.outer
        self.sized = source.lifted  # whether it may run at another batch size
        self.stepped: dict[str, Any] = {"reason": "it did not step in this iteration"}
        self.faithful = False  # whether it gives the loss that was seen when it is run again

    def __call__(self, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Outcome:
        """Raises NotReplayedError: the script's own code runs once."""
        raise NotReplayedError("an observed script is not run again")

    def unread(self, names: Sequence[str]) -> list[str]:
        """All inputs were seen in use."""
        return []

    def continues(self, other: object) -> bool:
        """It stands for itself."""
        return False

    def values(self, built: Built, inputs: Mapping[str, torch.Tensor], nodes: Sequence[fx.Node]) -> dict[fx.Node, torch.Tensor]:
        """What nodes of the iteration come to when all of it runs again, with the draws that it had. Raises NotReplayedError."""
        run = _Run(self._source, self._iteration, built, inputs, self._source.sizes, frozenset(), as_drawn=True)
        run.record(self._goal.loss, (), ())
        return {n: run.values[n] for n in nodes}

    def replay(
        self, built: Built, inputs: Mapping[str, torch.Tensor], sizes: Mapping[str, int], *, as_is: bool = False, shown: bool = False
    ) -> Record:
        """The iteration with these inputs, on the model of `built`; draws are made anew. Raises NotReplayedError.

        With `as_is`, its passes give gradients, and what was written by hand after them is written; with `shown`, that is in the record
        as it was seen.
        """
        batch, other = sizes.get("B"), self._other
        if batch != self._source.sizes.get("B") and not self.sized:
            if other is not None and other.failure is not None and other.sizes.get("B") == batch:
                return other  # it was tried, and raised
            raise NotReplayedError("the iteration is known at one batch size only")
        late: Late = "run" if as_is else "shown" if shown else "none"
        run = _Run(self._source, self._iteration, built, inputs, {"B": batch} if batch is not None else {}, self._left_out, late)
        made = run.record(self._goal.loss, self._optimizers, self._own)
        ids = Copied(self._iteration, self._source, built.model, run.values)
        note_gradients(made, self._source, run.twin, run.values, ids, [self._goal, *self._beside])
        return made


_OFF: dict[str, dict[str, Any]] = {
    "batch_norm": {"training": False},
    **{name: {"p": 0.0} for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")},
}
"""What layers in evaluation mode, or dropout at rate 0, give torch's functions."""


class _Run:
    """One replay: a new graph beside the recorded one."""

    def __init__(
        self,
        source: Record,
        iteration: Iteration,
        built: Built,
        inputs: Mapping[str, torch.Tensor],
        sizes: Mapping[str, int],
        left_out: Set[fx.Node],
        late: Late = "none",
        as_drawn: bool = False,
    ) -> None:
        """`late`: what becomes of the operations after the passes."""
        self._as_drawn = as_drawn
        self._source, self._iteration, self._built, self._inputs, self._sizes = source, iteration, built, inputs, sizes
        self._late = late
        self._left_out = {*left_out, *(n for n in source.graph.nodes if late == "none" and n.meta.get(AFTER))}
        self._passes = {call.node for call in source.backwards if late == "run"}
        self._calm = _calmed(iteration.frozen, built.model)
        self.values: dict[fx.Node, Any] = {}  # by the recorded nodes
        self.twin: dict[fx.Node, fx.Node] = {}
        self._seen: dict[int, fx.Node] = {}

    def record(self, loss: fx.Node, optimizers: Iterable[tuple[Any, Span | None]], own: Sequence[str]) -> Record:
        """Runs all nodes that the goal needs. Raises NotReplayedError where one does not run."""
        source, model = self._source, self._built.model
        if own:
            model = Parts({name: part for name, part in model.named_children() if name in own})
        graph = fx.Graph()
        for node in source.graph.nodes:
            if node in self._left_out or any(n in self._left_out for n in node.all_input_nodes):
                self._left_out.add(node)
                continue
            try:
                value = node.meta.get("val") if self._late == "shown" and node.meta.get(AFTER) else self._value(node)
            except NotReplayedError:
                if not node.meta.get(AFTER):
                    raise
                self._left_out.add(node)
                continue
            if node in self._passes and isinstance(value, torch.Tensor) and value.requires_grad and value.numel() == 1:
                torch.autograd.backward(value, retain_graph=True)
            self.twin[node], self.values[node] = self._copied(graph, node, value), value
        calls, births = self._calls(model)
        made = Record(
            graph, model, "real", {**source.sizes, **self._sizes}, births=births, calls=calls, step=source.step,
            inputs={name: self.twin[n] for name, n in source.inputs.items() if n in self.twin},
            shapes={self.twin[n]: dims for n, dims in source.shapes.items() if n in self.twin} if self._same_sizes else {},
            symbols=dict(source.symbols), used_up=list(source.used_up), schedules=list(source.schedules), held=source.held,
            asked_for_cuda=list(source.asked_for_cuda), lifted=source.lifted, learned=source.learned,
            reads=self._twins_of(source.reads),
            read_later=self._twins_of(source.read_later),
            notes=list(source.notes),
            logged={name: self.twin[n] for name, n in source.logged.items() if n in self.twin},
        )  # fmt: skip
        made.loss, made.loss_value = self.twin[loss], self.values[loss]
        made.output = fx.map_arg(source.output, self.twin.get)
        made.raw_output = fx.map_arg(source.output, self.values.get)
        made.distributions = [
            MadeDistribution(d.family, {k: self.twin[n] for k, n in d.parameters.items()}, d.stack)
            for d in source.distributions
            if all(n in self.twin for n in d.parameters.values())
        ]
        ids = Copied(self._iteration, source, self._built.model, self.values)
        made.optimizers = [on_copy(o, place, ids.one) for o, place in optimizers]
        made.node_for = lambda t: self._seen.get(id(t))
        made.functions = self._functions()
        return made

    def _twins_of(self, nodes: Iterable[fx.Node]) -> list[fx.Node]:
        """Those of some recorded nodes that ran again."""
        return [self.twin[n] for n in nodes if n in self.twin]

    def _functions(self) -> list[FunctionCall]:
        """The calls of the script's functions, with this run's nodes."""
        noted = self._source.functions
        return [replace(c, arguments=self._twins_in(c.arguments), result=self._twins_in(c.result)) for c in noted]

    def _twins_in(self, value: Any) -> Any:
        """What a function of the script was given, or gave, with this run's nodes; what is left out is no value any more."""
        if isinstance(value, fx.Node):
            return self.twin.get(value, "Tensor")
        if isinstance(value, dict):
            return {k: self._twins_in(v) for k, v in value.items()}
        return type(value)(map(self._twins_in, value)) if isinstance(value, tuple | list) else value

    def _copied(self, graph: fx.Graph, node: fx.Node, value: Any) -> fx.Node:
        """The node in the new graph, with what it came to be."""
        twin = graph.node_copy(node, self.twin.__getitem__)
        if str(node.meta.get("module", "")) in self._calm:
            twin.args, twin.kwargs = fx.map_arg(self._arguments(node), self.twin.__getitem__)
        twin.args, twin.kwargs = _of_this_run((twin.args, twin.kwargs), self._sizes)
        twin.meta = dict(node.meta)
        if scopes := node.meta.get("scopes"):
            twin.meta["scopes"] = tuple({k: self.twin[n] for k, n in names.items() if n in self.twin} for names in scopes)
        if isinstance(node.meta.get("val"), torch.Tensor) and isinstance(value, torch.Tensor):
            twin.meta.update(val=value, grad=value.requires_grad, backward=value.grad_fn)
            self._seen[id(value)] = twin
        elif node.meta.get("scalar"):
            twin.meta["val"] = value
        return twin

    @property
    def _same_sizes(self) -> bool:
        return all(self._source.sizes.get(k) == v for k, v in self._sizes.items())

    def _calls(self, model: nn.Module) -> tuple[list[ModuleCall], Births]:
        known = dict(model.named_modules())
        originals = dict(self._source.model.named_modules())
        seen, births = self._source.births, Births()
        for path, m in originals.items():
            if path in known and id(m) in seen:
                births.note(known[path], seen.around.get(id(m), (seen[id(m)],)))
        mine = {id(m) for m in originals.values()}
        for call in self._source.calls:
            own = call.path == "?" and id(call.module) in seen and not any(id(m) in mine for m in call.module.modules())
            if own:  # a layer that no network of the script has registered, and no wrapper of one
                births.note(call.module, seen.around.get(id(call.module), (seen[id(call.module)],)))
        places = [0]
        for node in self._source.graph.nodes:
            places.append(places[-1] + (node not in self._left_out))
        calls = [
            ModuleCall(
                c.path,
                known.get(c.path, c.module) if c.path != "?" else c.module,
                places[min(c.first, len(places) - 1)],
                c.span,
                c.training,
                c.depth,
            )
            for c in self._source.calls
        ]
        return calls, births

    def _arguments(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a node, as its layer would give them now."""
        args, kwargs = node.args, dict(node.kwargs)
        if str(node.meta.get("module", "")) not in self._calm or not callable(node.target):
            return args, kwargs
        named = inspect.signature(node.target).bind(*args, **kwargs).arguments if name_of(node.target) in _OFF else {}
        off = _OFF.get(name_of(node.target), {})
        return ((), {**named, **off}) if off and set(off) <= set(inspect.signature(node.target).parameters) else (args, kwargs)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._inputs[str(node.meta["input"])]
        if node.op == "get_attr":
            return self._leaf(node)
        if node.target is custom_gradient:
            raise NotReplayedError("the iteration uses an autograd.Function of its own")
        own_args, own_kwargs = self._arguments(node)
        args, kwargs = _filled(own_args, self.values, self._sizes), _filled(own_kwargs, self.values, self._sizes)
        target: Any = node.target
        args = _with_size(node, _still_asked(args) if node.meta.get(SUM_OF_PASSES) else args)
        if self._as_drawn:
            generators.restore(node)
        with _as_recorded(node):
            try:
                result = target(*args, **kwargs)
            except Exception as error:
                text = message_of(error).strip().splitlines()
                raise NotReplayedError(f"{node.name} does not run again: {text[0] if text else type(error).__name__}") from error
        if node.meta.get(OWN_NOISE) and isinstance(result, torch.Tensor) and not self._as_drawn:
            return result.flatten()[torch.randperm(result.numel())].view_as(result)
        if not isinstance(result, torch.Tensor) and isinstance(node.meta.get("val"), torch.Tensor):
            return kwargs["out"] if kwargs.get("out") is not None else args[0]  # changed in place
        return result

    def _leaf(self, node: fx.Node) -> Any:
        name, val = str(node.target), node.meta.get("val")
        if name in self._iteration.altered:
            raise NotReplayedError(f"{name.strip('_')} is changed in place while the iteration runs")
        if name.startswith("_constant_"):
            return self._constant(node, val) if isinstance(val, torch.Tensor) else val
        found: Any = self._built.model
        *path, last = name.split(".")
        for part in path:
            found = getattr(found, part)
        own = dict(torch_private.own_tensors(found)) if isinstance(found, nn.Module) else {}
        return own.get(last, getattr(found, last))  # Keras has an object of its own under the name of a parameter

    def _constant(self, node: fx.Node, val: torch.Tensor) -> torch.Tensor:
        """A tensor that the script had before, as it was then."""
        was = node.meta.get("was")
        made = (val.detach() if was is None else was).clone()
        return made.requires_grad_() if isinstance(val, nn.Parameter) and val.requires_grad else made


def _calmed(before: nn.Module, now: nn.Module) -> frozenset[str]:
    """The layers that an experiment has put into evaluation mode: normalisation over the batch, and dropout.

    Raises NotReplayedError where it changed something that only the script's own code would act on.
    """
    was, found = dict(before.named_modules()), set()
    for path, module in now.named_modules():
        layer, old = isinstance(module, torch_private.BatchNorm | torch_private.Dropout) or keras_models.has_mode(module), was.get(path)
        if old is None:
            continue
        off = not module.training or getattr(module, "p", None) == 0
        if layer and off and (old.training and getattr(old, "p", None) != 0):
            found.add(path)
            continue
        for name, value in vars(module).items():
            if isinstance(value, int | float | str) and vars(old).get(name) != value and not (name == "training" and value):
                raise NotReplayedError(f"{path or type(module).__name__}.{name} is read by the script's own code, which runs once")
    return frozenset(found)


@contextlib.contextmanager
def _as_recorded(node: fx.Node) -> Any:
    """Gradients and precision as they were when the node ran."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad() if node.meta.get("no_grad") else torch.enable_grad())
        if (asked := node.meta.get("autocast")) is not None:
            stack.enter_context(torch.autocast(asked.device, asked.dtype))
        yield


def _with_size(node: fx.Node, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of `x.new(y.size())` with a size where the record has a tuple, which would be taken for values."""
    made = node.meta.get("val")
    if node.target is torch.Tensor.new and len(args) == 2 and isinstance(args[1], tuple) and isinstance(made, torch.Tensor):
        return (args[0], torch.Size(args[1])) if made.ndim == len(args[1]) else args
    return args


def _still_asked(passes: tuple[Any, ...]) -> tuple[Any, ...]:
    """What two passes were called on. One that cannot be asked again counts without its gradient, if the other can: between them the
    script may change in place what only the first one needed."""
    over = [any(map(torch_private.is_broken, functions_behind(of))) for of in passes]
    return passes if all(over) else tuple(of.detach() if gone else of for of, gone in zip(passes, over, strict=True))


def _of_this_run(value: Any, sizes: Mapping[str, int]) -> Any:
    """Arguments in which the numbers that move with the batch are those of this run, and still move."""
    if isinstance(value, SymbolPower):
        return value.in_a_run(sizes)
    if isinstance(value, slice):
        return slice(*(_of_this_run(v, sizes) for v in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_of_this_run(v, sizes) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(_of_this_run(v, sizes) for v in value)
    return {k: _of_this_run(v, sizes) for k, v in value.items()} if isinstance(value, dict) else value


def _filled(value: Any, values: Mapping[fx.Node, Any], sizes: Mapping[str, int]) -> Any:
    """Arguments with the values of this run: of nodes, and of numbers that move with the batch."""
    if isinstance(value, fx.Node):
        return values[value]
    if isinstance(value, SymbolPower):
        return value.at(sizes[value.symbol])
    if isinstance(value, slice):
        return slice(*(_filled(v, values, sizes) for v in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_filled(v, values, sizes) for v in value))
    if isinstance(value, tuple | list):
        made = [_filled(v, values, sizes) for v in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, dict):
        return {k: _filled(v, values, sizes) for k, v in value.items()}
    return value
