"""Whether a script trains something else after a training that has shown enough, and when that begins.

What is left of the first training is passed over: its loaders give one batch a pass, and nothing is recorded.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from vaelint.core.finding import Span
from vaelint.observe.seen import Training, held_by
from vaelint.source.notebook import source_of_file
from vaelint.trace.optimizers import Optimizer
from vaelint.trace.spans import SpanFinder

_MOST = 4  # trainings of one run that are looked at
_SHORT, _LONG = 5.0, 20.0  # seconds that are spent to get to a further training, at least and at most
_OPTIMIZER = re.compile(r"Adam\w*|SGD|RMSprop|Adagrad|Adadelta|LBFGS|RAdam|NAdam|Rprop|ASGD|Lion|Ranger|AdaBelief")
_FITTING = frozenset({"backward", "fit", "fit_generator", "train_on_batch"})
_LOOPS = (ast.For, ast.While)
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Further:
    """The trainings of a run that are over, and the way to the next."""

    def __init__(self, spans: SpanFinder, *, wanted: bool) -> None:
        self.earlier: list[Training] = []
        self._spans, self._wanted = spans, wanted
        self._end: float | None = None  # when the way to the next is given up

    @property
    def passing(self) -> bool:
        """Whether what runs is on the way from one training to the next."""
        return self._end is not None

    @property
    def late(self) -> bool:
        """Whether that takes too long."""
        return bool(self._end is not None and time.perf_counter() > self._end)

    def pass_over(
        self, last: Training, births: Mapping[int, Span], optimizers: Sequence[Optimizer], frames: Sequence[FrameType], so_far: float
    ) -> bool:
        """Ends a training that has shown enough, and whether to go on to another.

        Args:
            last: the training.
            births: where modules were made.
            optimizers: those that the script made.
            frames: the functions that run, innermost first.
            so_far: the seconds that the run took.
        """
        if not self._wanted or len(self.earlier) + 1 >= _MOST or not last.iterations:
            return False
        steps = {id(o) for i in last.iterations for g in i.goals for o in g.optimizers}
        made = [o.span for o in optimizers if o.span is not None and id(o.made) in steps]
        made += [births[id(c.module)] for i in last.iterations for c in i.record.calls if id(c.module) in births]
        if not _is_expected(frames, made, self._spans):
            return False
        self.earlier.append(last)
        self._end = time.perf_counter() + min(max(_SHORT, so_far), _LONG)
        return True

    def begins(
        self, held: Sequence[Any], modules: Sequence[Any], births: Mapping[int, Span], optimizers: Sequence[Optimizer]
    ) -> bool | None:
        """Whether an optimizer over the tensors `held` begins another training: it moves what none moved before.

        None where networks of the same classes, made at the same places, were trained before: another seed, or another size.
        """
        mine = {id(p) for p in held}
        before = [_trained(t) for t in self.earlier]
        kinds = _kinds(mine, modules, births)
        if not kinds or any(mine & tensors for tensors in before):
            return False  # what no network holds is a value that the script refines
        if kinds in [_kinds(tensors, modules, births) for tensors in before]:
            return None
        self._end = None
        return True


def _trained(training: Training) -> set[int]:
    """The ids of the tensors that its optimizers moved, and of those of the networks that it called."""
    moved = {id(p) for i in training.iterations for g in i.goals for o in g.optimizers for p in held_by(o)}
    return moved | {id(p) for i in training.iterations for c in i.record.calls for p in c.module.parameters()}


def _kinds(held: Collection[int], modules: Sequence[Any], births: Mapping[int, Span]) -> frozenset[Any]:
    """The classes of the modules that hold these tensors, with the places where they were made."""
    return frozenset((type(m), births.get(id(m))) for m in modules if any(id(p) in held for p in m.parameters()))


def _is_expected(frames: Sequence[FrameType], made: Sequence[Span], spans: SpanFinder) -> bool:
    """Whether the code that is left of the functions which run starts a training again.

    Args:
        frames: those of the script, innermost first.
        made: where the networks and optimizers of the training were made: in a loop that is still running, more will be.
    """
    running, inside = set[str](), False
    for frame in frames:
        tree = _tree(frame.f_code.co_filename)
        own = _function(tree, frame) if tree is not None else None
        if tree is None or own is None:
            continue
        file = spans.relative(frame.f_code.co_filename)
        here = [s.line for s in made if s.file == file]
        trains = running | _training(tree)
        for statements, loop in _around(own.body, frame.f_lineno):
            if any(_starts(s, trains) for s in statements):
                return True
            if loop is not None and (inside or any(_has(loop, line) for line in here)):
                return True
        inside = inside or (not isinstance(own, ast.Module) and any(_has(own, line) for line in here))
        running.add(frame.f_code.co_name)
    return False


def _tree(file: str) -> ast.Module | None:
    """What a file says; None where it cannot be read, as that of a cell in a running kernel."""
    try:
        return ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return None


def _function(tree: ast.Module, frame: FrameType) -> ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | None:
    """What a frame runs, as it is written."""
    code = frame.f_code
    if code.co_name == "<module>":
        return tree
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return next((n for n in ast.walk(tree) if isinstance(n, kinds) and n.name == code.co_name and _has(n, code.co_firstlineno)), None)


def _has(node: ast.stmt, line: int) -> bool:
    first: int = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    return first <= line <= (node.end_lineno or node.lineno)


def _around(body: list[ast.stmt], line: int) -> Iterator[tuple[list[ast.stmt], ast.stmt | None]]:
    """The statements that come after a line at each level, from the outermost, and the loop that holds it there."""
    for place, statement in enumerate(body):
        if not _has(statement, line):
            continue
        within = [s for s in _bodies(statement) if any(_has(part, line) for part in s)]
        yield body[place + 1 :], statement if within and isinstance(statement, _LOOPS) else None
        for inner in within:
            yield from _around(inner, line)


def _bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for handler in getattr(statement, "handlers", ()):
        yield handler.body


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that running a piece of code makes itself: not those of functions that it defines."""
    if isinstance(node, _DEFINES):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)


def _starts(node: ast.AST, trains: set[str]) -> bool:
    """Whether running it makes an optimizer, takes gradients, or calls one of the functions that do."""
    for call in _calls(node):
        if isinstance(call.func, ast.Name) and (call.func.id in trains or _OPTIMIZER.fullmatch(call.func.id)):
            return True
        if isinstance(call.func, ast.Attribute):
            name = call.func.attr
            if name in _FITTING or _OPTIMIZER.fullmatch(name) or (name in trains and (call.args or name != "train")):
                return True
    return False


def _training(tree: ast.Module) -> set[str]:
    """The functions of a file that start a training, by name."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = set[str]()
    while more := {f.name for f in functions if f.name not in found and any(_starts(s, found) for s in f.body)}:
        found |= more
    return found
