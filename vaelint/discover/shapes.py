"""Inputs that a class may take, read from its first layer, its arguments and what the repository loads. Imports no torch."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vaelint.discover.usage import Unknown, Usage, value_of
from vaelint.late import dataclass
from vaelint.loading.names import Means, meanings

BATCH = 4
_SIDES = (28, 32, 64, 128, 96, 256, 224, 16, 48)
_STEPS, _READ = 12, 8  # of a sequence, and what is read at each: without them a layer takes the batch for the steps
_LAYERS = {
    "Conv2d": "image", "Linear": "features", "Conv1d": "signal", "Conv3d": "volume", "LSTM": "steps", "GRU": "steps", "RNN": "steps",
    "Embedding": "tokens", "LSTMCell": "steps", "GRUCell": "steps", "GCNConv": "graph",
}  # fmt: skip
_FIRST = ("in_features", "in_channels", "input_size", "num_embeddings")


def first_layers(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], values: Mapping[str, Any], depth: int = 4
) -> list[tuple[str, int | None]]:
    """What the first layers of a class read and how many of it, in the order they are written: `("image", 3)`.

    `values` are the numbers that its constructor's names hold. Parts that are classes of the repository are entered.
    """
    method = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    values = {**values, **_kept(method, values)} if method is not None else values
    found: list[tuple[str, int | None]] = []
    for call in _calls_in_order(method) if method is not None else ():
        name = ast.unparse(call.func).rpartition(".")[2]
        if name in _LAYERS:
            keyword = next((k.value for k in call.keywords if k.arg in _FIRST), None)
            first = call.args[0] if call.args else keyword
            found.append((_LAYERS[name], _number(first, values)))
        elif name in classes and depth:
            inner = classes[name]
            found += first_layers(inner, classes, _handed(call, inner, values), depth - 1)
        if len(found) >= 3:
            break
    return found


def _kept(method: ast.FunctionDef, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor keeps of its arguments: `self.side = side`, by `.side`."""
    known: dict[str, Any] = {}
    for node in method.body:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(node, ast.Assign) and isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            with contextlib.suppress(Unknown):
                known[f".{target.attr}"] = value_of(node.value, {**values, **known})
    return known


def _calls_in_order(method: ast.FunctionDef) -> Iterator[ast.Call]:
    calls = [n for n in ast.walk(method) if isinstance(n, ast.Call)]
    yield from sorted(calls, key=lambda c: (c.lineno, c.col_offset))


def _number(node: ast.expr | None, values: Mapping[str, Any]) -> int | None:
    try:
        value = value_of(node, values) if node is not None else None
    except Unknown:
        return None
    return value if isinstance(value, int) and value > 0 else None


def _handed(call: ast.Call, inner: ast.ClassDef, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a part's parameters, from the call that makes it and from its defaults."""
    known = defaults_of(inner)
    for name, node in [*zip(parameters_of(inner), call.args, strict=False), *((k.arg, k.value) for k in call.keywords if k.arg)]:
        try:
            known[str(name)] = value_of(node, values)
        except Unknown:
            known.pop(str(name), None)
    return known


def parameters_of(node: ast.ClassDef) -> list[str]:
    """The parameters of a class's own constructor, without `self`."""
    method = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    return [a.arg for a in (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)][1:] if method is not None else []


def defaults_of(node: ast.ClassDef) -> dict[str, Any]:
    """The parameters of a class's own constructor that have plain defaults."""
    method = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if method is None:
        return {}
    arguments = [*method.args.posonlyargs, *method.args.args]
    pairs = [*zip(arguments[len(arguments) - len(method.args.defaults) :], method.args.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True) if d is not None]
    known: dict[str, Any] = {}
    for argument, default in pairs:
        try:
            known[argument.arg] = value_of(default, {})
        except Unknown:
            continue
    return known


Proposal = tuple[Sequence[int], str | None]
"""Sizes beside the batch, and the type and range after them; None for those of images."""


@dataclass(frozen=True)
class _Hints:
    """What a class and its repository say of an input: a size of the first layer, the arguments, the data sets."""

    number: int | None
    values: Mapping[str, Any]
    images: Sequence[tuple[int, int]]
    alone: bool = False  # whether sizes of ours are left out

    def named(self, means: Means) -> list[int]:
        """The numbers among the arguments whose names say that."""
        return _named(self.values, means)

    @property
    def sides(self) -> list[int]:
        """Sides of images that are named."""
        return self.named(Means.SIDE) + [side for _, side in self.images]

    @property
    def steps(self) -> list[int]:
        """Lengths of sequences: those that are named, then ours."""
        return list(dict.fromkeys((*self.named(Means.STEPS), *self.else_ours(_STEPS))))

    def else_ours(self, *sizes: int) -> tuple[int, ...]:
        """Sizes that nothing says: none where those are left out."""
        return () if self.alone else sizes


def _of_shapes(hints: _Hints) -> Iterator[Proposal]:
    for name, value in hints.values.items():
        if Means.SHAPE in meanings(name) and isinstance(value, tuple | list) and all(isinstance(v, int) for v in value):
            yield tuple(value), None


def _of_tokens(hints: _Hints) -> Iterator[Proposal]:
    words = hints.number or next(iter(hints.named(Means.WORDS)), 50)
    return (((steps,), f":int64[0,{words})") for steps in hints.steps)


def _of_image(hints: _Hints) -> Iterator[Proposal]:
    own = [hints.number] if hints.number else []
    channels = dict.fromkeys(
        (*own, *hints.named(Means.CHANNELS)[:1], *(c for c, _ in hints.images), *(() if own else hints.else_ours(1, 3)))
    )
    return (((c, side, side), None) for c in channels for side in dict.fromkeys((*hints.sides, *hints.else_ours(*_SIDES))))


def _of_features(hints: _Hints) -> Iterator[Proposal]:
    for n in [hints.number] if hints.number else hints.named(Means.FEATURES):
        yield from (((c, side, side), None) for c, side in hints.images if c * side * side == n)
        yield (n,), None
        for c in hints.else_ours(1, 3):
            side = math.isqrt(n // c)
            if c * side * side == n and side > 3:
                yield (c, side, side), None
        yield from (((steps, n), "") for steps in hints.steps)


def _of_steps(hints: _Hints) -> Iterator[Proposal]:
    read = dict.fromkeys((*([hints.number] if hints.number else []), *hints.named(Means.FEATURES)))  # a cell may read z beside
    return (((steps, n), "") for n in (*read, *(() if read else hints.else_ours(_READ))) for steps in hints.steps)


def _of_signal(hints: _Hints) -> Iterator[Proposal]:
    lengths = dict.fromkeys((*hints.named(Means.STEPS), *hints.else_ours(64, 128, 100, 256, 1024, 784)))
    return (((c, length), "") for c in ([hints.number] if hints.number else hints.else_ours(1, 3)) for length in lengths)


def _of_volume(hints: _Hints) -> Iterator[Proposal]:
    return (((hints.number or 1, side, side, side), None) for side in dict.fromkeys((*hints.sides, *hints.else_ours(32, 64, 16))))


def _usual(hints: _Hints) -> Iterator[Proposal]:
    for c, side in hints.images:
        yield (c, side, side), None
        yield (c * side * side,), None
    if not hints.alone:
        yield from ((sizes, None) for sizes in ((1, 28, 28), (784,), (3, 32, 32), (3, 64, 64), (1, 64, 64), (1, 32, 32)))


_OF_LAYER: dict[str, Callable[[_Hints], Iterator[Proposal]]] = {
    "tokens": _of_tokens,
    "image": _of_image,
    "features": _of_features,
    "steps": _of_steps,
    "signal": _of_signal,
    "volume": _of_volume,
}


def shapes(layers: Sequence[tuple[str, int | None]], values: Mapping[str, Any], usage: Usage, alone: bool = False) -> list[str]:
    """Texts for `--input` without the batch's partner inputs, the likeliest first. Each is only a proposal: what counts is a run.

    `alone`: those of sizes that the code says, and of none of ours.
    """
    span = ":float32[0,1]" if usage.unit else ""
    kind, number = layers[0] if layers else ("", None)
    hints = _Hints(number, values, usage.images, alone)
    if kind:
        by_layer = [_OF_LAYER[kind]] if kind in _OF_LAYER else []
    else:
        by_layer = [_of_tokens, _of_features] if hints.named(Means.WORDS) else [_of_features]
    proposed = (proposal for source in (_of_shapes, *by_layer, _usual) for proposal in source(hints))
    return list(dict.fromkeys("x".join(map(str, (BATCH, *sizes))) + (span if said is None else said) for sizes, said in proposed))


def _named(values: Mapping[str, Any], means: Means) -> list[int]:
    return [int(v) for k, v in values.items() if means in meanings(k.lstrip("."))[:1] and type(v) is int and v > 0]
