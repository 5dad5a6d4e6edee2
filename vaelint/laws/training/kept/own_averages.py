"""Law B5, for averages of weights: what is averaged into is not what is averaged.

Observed on the step as it runs, with its optimizers: an operation in place on a parameter, one that an optimizer moves or one that learns
no more, which mixes it with itself. `copy.copy(model)` shares the parameters of the model, and so does a second name of a network; an
average over such a copy is the live model, and to freeze it freezes the model.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.core.finding import Label, Span
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import SHARING, root_of
from vaelint.laws.training.second_names import second_names
from vaelint.record import ops
from vaelint.record.record import Record, route, span
from vaelint.rule import Found

_FILLS = ("append", "extend", "setdefault", "update")


@law("averages-are-apart", "an average of weights has weights of its own", covered=("VAE902",), cost="all")
def averages_are_apart(bench: Bench) -> Iterator[Broken]:
    """`lerp_`, and `mul_` followed by `add_`. Exempt is `add_` by itself, which is how weights are made to decay."""
    if not bench.model.record.objectives:
        return
    record = bench.trained
    owned = {number for o in record.optimizers for number in o.parameters}
    mixed = next((n for n in record.nodes if _mixes_with_itself(n, owned)), None)
    if mixed is None:
        return
    name, taken = _named(record, mixed), _kept(bench, record, mixed) or _taken(mixed) or _named_again(bench, mixed)
    moves = [(o.span, "moves this very parameter") for o in record.optimizers[:1]]
    written = [(span(mixed), "averages the parameter with itself")] if taken is not None else []
    found = Found(
        taken or span(mixed),
        label="the parameter itself, not a copy of it" if taken is not None else "mixes a parameter with itself",
        labels=tuple(Label(place, text) for place, text in (*written, *moves) if place is not None),
        why="the average and the model share their parameters (a shallow copy does, and so does detach()): nothing is averaged, and what "
        "is kept as the smoothed model is the last one",
        help="average into a copy that has parameters of its own: copy.deepcopy(model), or p.detach().clone()",
    )
    yield Broken("average-of-itself", found, "an average has weights of its own", f"{name} is averaged with itself")


def _mixes_with_itself(node: fx.Node, owned: set[int]) -> bool:
    """Whether the last operation of an average reads, as old and as new value, one parameter."""
    if node.op != "call_function" or len(node.args) < 2:
        return False
    first, second = node.args[0], node.args[1]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or ops.raw_name(node) not in ("lerp_", "add_"):
        return False
    old, new = root_of(first).meta.get("val"), root_of(second).meta.get("val")
    if not isinstance(old, torch.Tensor) or old is not new or not (id(old) in owned or isinstance(old, torch.nn.Parameter)):
        return False
    return ops.raw_name(node) == "lerp_" or ops.raw_name(first) == "mul_"


def _kept(bench: Bench, record: Record, mixed: fx.Node) -> Span | None:
    """Where an object that the function of the average reads was given tensors that share the parameter's memory, to keep them."""
    own, parameter = span(mixed), root_of(mixed).meta.get("val")
    function = bench.model.source.function(own) if own is not None else None
    if function is None or not isinstance(parameter, torch.Tensor):
        return None
    read = {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    for owner in user_objects(record.model):
        for name, value in vars(owner).items():
            if name in read and any(t.data_ptr() == parameter.data_ptr() for t in _tensors(value)):
                made = usage_of(bench.model).assignment(owner, name, last=True)
                return (_filled(bench, made, name) or made) if made is not None else None
    return None


def _filled(bench: Bench, made: Span, name: str) -> Span | None:
    """Where a collection that an attribute is set to gets its entries one by one."""
    file = bench.model.source.file(made.file)
    for node in ast.walk(bench.model.source.function(made) or file.tree):
        into = [t.value for t in node.targets if isinstance(t, ast.Subscript)] if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FILLS:
            into = [node.func.value]
        if isinstance(node, ast.Assign | ast.Call) and any(isinstance(i, ast.Attribute) and i.attr == name for i in into):
            return file.place(made.file, node)
    return None


def _tensors(value: object) -> list[torch.Tensor]:
    """What a tensor or a plain collection holds, the model's own parameters aside."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return [v for v in held if isinstance(v, torch.Tensor) and not isinstance(v, torch.nn.Parameter)]


def _taken(mixed: fx.Node) -> Span | None:
    """Where the average was made a view of the parameter, in another statement than the one that averages."""
    node, own = mixed.args[0], span(mixed)
    while isinstance(node, fx.Node) and node.args and node is not root_of(node):
        place = span(node)
        if ops.raw_name(node) in SHARING and place is not None and own is not None and (place.file, place.line) != (own.file, own.line):
            return place
        node = node.args[0]
    return None


def _named_again(bench: Bench, mixed: fx.Node) -> Span | None:
    """Where a network that the average goes through was given its second name."""
    source, files = bench.model.source, set[str]()
    read: set[str] = set()
    for turn, place in enumerate(route(mixed)):
        around = source.function(place) if turn == 0 else source.file(place.file).statement(place.line)
        read |= {n.attr for n in ast.walk(around) if isinstance(n, ast.Attribute)} if around is not None else set()
        files.add(place.file)
    found = [s for s in second_names(source, sorted(files)) if any(s.is_called(name) for name in read)]
    copied = [s for s in found if s.is_copied] or [s for s in found if "." in s.what or any(o.what == s.what for o in found if o is not s)]
    return max((s.place for s in copied), key=lambda place: place.line, default=None)


def _named(record: Record, node: fx.Node) -> str:
    val = root_of(node).meta.get("val")
    return next((name for name, p in record.model.named_parameters() if p is val), "a parameter")
