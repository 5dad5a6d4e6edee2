"""Shape annotations held against the shapes of the trace, at every call: the writer's word against what the callers pass."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from torch import fx

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import FunctionCall, shape
from vaelint.source.shapetypes import Axis, ShapeType, shape_types
from vaelint.source.written import SourceFile

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_BATCH = ("b", "bs", "batch", "batch_size", "nbatch", "n_batch")
"""Names that say batch: the one size that must not be another. Read only where another axis of the same value is the batch."""


@dataclass(frozen=True)
class Measure:
    """What a run must show, and the axes and sizes that it is about."""

    how: Literal["rank", "size", "bound", "batch"]
    axis: int = 0
    written: int = 0
    other: int = 0  # the axis of the value that bound the name
    more: bool = False  # whether more axes may come


@dataclass(frozen=True)
class Disagreement:
    """An annotation and a value that does not fit it."""

    span: Span  # the annotation
    what: str  # in words
    node: fx.Node
    name: str  # the argument, or "the result"
    function: str
    caller: Span | None
    axes: tuple[str, ...]
    against: Span | None  # the annotation that bound the name, when two differ
    bound: fx.Node | None
    measure: Measure


@dataclass(frozen=True)
class _Problem:
    what: str
    against: _Bound | None
    measure: Measure


@dataclass(frozen=True)
class _Bound:
    node: fx.Node
    axis: int
    text: str
    size: int
    place: ShapeType
    argument: str


def disagreements(model: Model) -> list[Disagreement]:
    """One for each annotation that some call of the trace does not keep to."""
    found: dict[Span, Disagreement] = {}
    for call in model.record.functions:
        file = model.source.file(call.file)
        function = definition(file, call)
        if function is not None:
            for one in _of_call(model, call, function, file):
                found.setdefault(one.span, one)
    return list(found.values())


def definition(file: SourceFile, call: FunctionCall) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The definition of a function that was called, None for a lambda and for what was made at run time."""
    name = call.name.rpartition(".")[2]
    for function in file.functions():
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        if function.name == name and first == call.line:
            return function
    return None


def _of_call(
    model: Model, call: FunctionCall, function: ast.FunctionDef | ast.AsyncFunctionDef, file: SourceFile
) -> Iterator[Disagreement]:
    """Names are bound by the arguments in their order, then held against the rest and the result, as jaxtyping does."""
    bound: dict[str, _Bound] = {}
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    told = [(a.arg, a.annotation, call.arguments.get(a.arg)) for a in parameters]
    for name, annotation, value in [*told, ("the result", function.returns, call.result)]:
        for place, kind in shape_types(annotation, file):
            node = _at(value, place)
            if isinstance(node, fx.Node) and node.meta.get("val") is not None:
                problem = _compare(model, node, kind, bound, name)
                if problem is not None:
                    against = problem.against
                    yield Disagreement(
                        file.place(call.file, kind.node),
                        problem.what,
                        node,
                        name,
                        function.name,
                        call.caller,
                        tuple(a.text for a in kind.axes),
                        file.place(call.file, against.place.node) if against is not None and against.place is not kind else None,
                        against.node if against is not None else None,
                        problem.measure,
                    )


def _at(value: Any, place: tuple[int, ...]) -> Any:
    for index in place:
        if not isinstance(value, tuple | list) or index >= len(value):
            return None
        value = value[index]
    return value


def _compare(model: Model, node: fx.Node, kind: ShapeType, bound: dict[str, _Bound], argument: str) -> _Problem | None:
    """What is wrong, with the earlier value that says otherwise; binds the names that are new."""
    texts, sizes, axes = model.dims(node), shape(node), kind.axes
    many = [i for i, a in enumerate(axes) if a.many]
    if len(many) > 1:
        return None
    if (not many and len(axes) != len(sizes)) or (many and len(sizes) < len(axes) - 1):
        written = len(axes) - len(many)
        what = f"{written} axes are written, and {model.shape_text(node)} has {len(sizes)}"
        return _Problem(what, None, Measure("rank", written=written, more=bool(many)))
    split = many[0] if many else len(axes)
    pairs = [*enumerate(axes[:split]), *((i - len(axes), a) for i, a in enumerate(axes) if i > split)]
    for at, axis in pairs:
        i = at % len(sizes)
        problem = _one(axis, _Bound(node, i, texts[i], sizes[i], kind, argument), bound, texts)
        if problem is not None:
            return problem
    return None


def _one(axis: Axis, now: _Bound, bound: dict[str, _Bound], texts: tuple[str, ...]) -> _Problem | None:
    if axis.broadcasts and now.size == 1:
        return None
    if axis.size is not None:
        what = f"{axis.size} is written, and the size is {now.text}"
        return _Problem(what, None, Measure("size", now.axis, axis.size)) if axis.size != now.size else None
    if not axis.name:
        return None
    before = bound.setdefault(axis.name, now)
    if _differ(before, now):
        what = f"{axis.name} is {now.text} in {now.argument}, and {before.text} in {before.argument}"
        return _Problem(what, before, Measure("bound", now.axis, other=before.axis))
    if axis.name.lower() in _BATCH and "B" not in now.text and any(t == "B" for t in texts):
        what = f"{axis.name} is {now.text} here, and the batch is axis {texts.index('B')}"
        return _Problem(what, None, Measure("batch", now.axis))
    return None


def _differ(a: _Bound, b: _Bound) -> bool:
    """Whether two sizes are not one: they differ now, or one moves with the batch and the other does not."""
    return a.size != b.size or ("B" in a.text) != ("B" in b.text)
