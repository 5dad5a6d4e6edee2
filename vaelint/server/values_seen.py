"""What is known of the expressions of a file: their shapes, roles and weights, as the recorded step showed them. Imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vaelint.late import dataclass

Place = tuple[int, int, int, int]  # line, column, end line, end column: from 1 on, in characters, the end exclusive
Step = Mapping[str, Any]
Function = ast.FunctionDef | ast.AsyncFunctionDef
_DEEP = 4  # calls of the user's own functions that are followed for what they return


@dataclass(frozen=True)
class Value:
    """What an expression was when the step was recorded."""

    text: str
    place: Place
    shapes: tuple[str, ...]  # `(B, L)`, each that it had, in order
    sizes: str
    dtype: str
    role: str = ""
    stage: str = ""
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hint:
    """A shape to be shown behind a name."""

    line: int
    column: int
    text: str


class Expressions:
    """The expressions of one file's text."""

    def __init__(self, text: str, steps: Sequence[Step], inputs: Sequence[Step], loss: Mapping[str, Any]) -> None:
        """`steps` are those of the trail in this file, `inputs` the placeholders; `loss` is that of the result."""
        self._lines = text.split("\n")
        self._loss = loss
        self._by_place: dict[Place, list[Step]] = {}
        for step in steps:
            s = step["span"]
            if s["end_line"] is not None and s["end_column"] is not None:
                self._by_place.setdefault((s["line"], s["column"], s["end_line"], s["end_column"]), []).append(step)
        self._inputs = {s["name"]: s for s in inputs}
        try:
            self._tree: ast.AST = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            self._tree = ast.Module([], [])
        self._functions = [n for n in ast.walk(self._tree) if isinstance(n, Function)]

    def at(self, line: int, column: int) -> Value | None:
        """The value at a place: of the name there, else of the smallest expression around it."""
        names = [n for n in ast.walk(self._tree) if isinstance(n, ast.Name | ast.arg) and _within((line, column), self._place(n))]
        if names:
            name = names[0]
            written = name.id if isinstance(name, ast.Name) else name.arg
            if (found := self._named(written, line, self._around(line))) is not None:
                return _renamed(found, written)
        around = [p for p in self._by_place if _within((line, column), p)]
        if not around:
            return None
        return self._value(min(around, key=lambda p: (p[2] - p[0], p[3] - p[1])))

    def hints(self) -> Iterator[Hint]:
        """A shape for each name that is assigned a tensor of one shape."""
        for assigned in self._assignments(self._tree):
            for name, value in _pairs(assigned):
                shapes = self._shapes(value, assigned.lineno, 0)
                if shapes is not None and len(shapes) == 1:
                    _, _, line, column = self._place(name)
                    yield Hint(line, column, f": {shapes[0]}")

    def _assignments(self, tree: ast.AST) -> Iterator[ast.Assign]:
        return (n for n in ast.walk(tree) if isinstance(n, ast.Assign) and len(n.targets) == 1)

    def _value(self, place: Place) -> Value:
        steps = self._by_place[place]
        last = steps[-1]
        calls = {s["calls"][0]: s for s in steps if s["calls"]}  # the last of each call is what it gave
        evaluations = list(calls.values()) or [s for s in steps if s["operation"] == last["operation"]]
        shapes = tuple(dict.fromkeys(shape_text(s["shape"]) for s in evaluations))
        role = next((s["role"] for s in reversed(steps) if s["role"]), "") or ""
        sizes = f"({', '.join(map(str, last['size']))})" if last["size"] else ""
        weights = tuple(self._weights(place, role))
        return Value(self._text(place), place, shapes, sizes, last["dtype"], role, last["stage"], weights)

    def _weights(self, place: Place, role: str) -> Iterator[str]:
        """The terms of the loss in an expression, or around it; all of them for the loss itself."""
        for term in self._loss.get("terms", ()):
            s = term.get("span")
            own = None if not s or s.get("end_line") is None else (s["line"], s["column"], s["end_line"], s["end_column"])
            steps = own is not None and own in self._by_place
            if role == "loss" or (steps and own is not None and (_inside(own, place) or _inside(place, own))):
                symbol = f" ({term['symbol']})" if term.get("symbol") else ""
                sign = "-" if term.get("sign") == "-" else ""
                yield f"{term['role']}: weight {sign}{term['weight']}{symbol}, {term['reduction']}"

    def _named(self, name: str, line: int, function: Function | None, deep: int = 0) -> Value | None:
        """The value that a name has at a line of a function: of the last assignment before it, else of the input of that name."""
        scope: ast.AST = function if function is not None else self._tree
        found: Value | None = None
        for assigned in sorted(self._assignments(scope), key=lambda n: n.lineno):
            if assigned.lineno > line:
                break
            for target, value in _pairs(assigned):
                if target.id == name:
                    found = self._of(value, assigned.lineno, deep) or found
        if found is None and function is not None and function.name == "forward" and name in self._inputs:
            step = self._inputs[name]
            sizes = f"({', '.join(map(str, step['size']))})"
            return Value(name, self._place(function), (shape_text(step["shape"]),), sizes, step["dtype"], "input", "input")
        return found

    def _of(self, value: ast.expr | tuple[ast.expr, int], line: int, deep: int) -> Value | None:
        """The value of an expression; of one of the results of a call, where `value` is the call and a number."""
        if isinstance(value, tuple):
            return self._returned(value[0], value[1], deep)
        if (place := self._place(value)) in self._by_place:
            return self._value(place)
        if isinstance(value, ast.Name):
            return self._named(value.id, line - 1, self._around(line), deep)
        return self._returned(value, None, deep)

    def _returned(self, call: ast.expr, number: int | None, deep: int) -> Value | None:
        """What a function of this file returned where it was called; None where its returns disagree."""
        if not isinstance(call, ast.Call) or deep > _DEEP:
            return None
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
        own = isinstance(call.func, ast.Name) or (isinstance(call.func.value, ast.Name) if isinstance(call.func, ast.Attribute) else False)
        found: list[Value] = []
        for function in self._functions if own else ():
            if function.name != name:
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    parts = node.value.elts if isinstance(node.value, ast.Tuple) else None
                    part = node.value if number is None else parts[number] if parts and number < len(parts) else None
                    if part is not None and (value := self._of(part, node.lineno + 1, deep + 1)) is not None:
                        found.append(value)
        return found[0] if found and len({v.shapes for v in found}) == 1 else None

    def _shapes(self, value: ast.expr | tuple[ast.expr, int], line: int, deep: int) -> tuple[str, ...] | None:
        found = self._of(value, line, deep)
        return found.shapes if found is not None else None

    def _around(self, line: int) -> Function | None:
        """The innermost function at a line."""
        around = [f for f in self._functions if f.lineno <= line <= (f.end_lineno or f.lineno)]
        return max(around, key=lambda f: f.lineno, default=None)

    def _place(self, node: ast.expr | ast.arg | Function) -> Place:
        """Python counts columns in bytes."""
        end, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return node.lineno, self._column(node.lineno, node.col_offset), end, self._column(end, end_column)

    def _column(self, line: int, offset: int) -> int:
        text = self._lines[line - 1] if line <= len(self._lines) else ""
        return (offset if text.isascii() else len(text.encode()[:offset].decode(errors="ignore"))) + 1

    def _text(self, place: Place) -> str:
        line, column, end, end_column = place
        rows = self._lines[line - 1 : end]
        if not rows:
            return ""
        rows[-1] = rows[-1][: end_column - 1]
        rows[0] = rows[0][column - 1 :]
        return " ".join(" ".join(rows).split())


def shape_text(shape: Iterable[str]) -> str:
    """`(B, L)`; `scalar` for no axes."""
    names = list(shape)
    return f"({', '.join(names)})" if names else "scalar"


def _pairs(assigned: ast.Assign) -> Iterator[tuple[ast.Name, ast.expr | tuple[ast.expr, int]]]:
    """Names and what each is assigned: an expression, or one of the results of a call."""
    target, value = assigned.targets[0], assigned.value
    if isinstance(target, ast.Name):
        yield target, value
    elif isinstance(target, ast.Tuple):
        for number, part in enumerate(target.elts):
            if not isinstance(part, ast.Name):
                continue
            if not isinstance(value, ast.Tuple):
                yield part, (value, number)
            elif len(value.elts) == len(target.elts):
                yield part, value.elts[number]


def _renamed(value: Value, name: str) -> Value:
    return Value(name, value.place, value.shapes, value.sizes, value.dtype, value.role, value.stage, value.weights)


def _within(at: tuple[int, int], place: Place) -> bool:
    return (place[0], place[1]) <= at <= (place[2], place[3])


def _inside(inner: Place, outer: Place) -> bool:
    return (outer[0], outer[1]) <= (inner[0], inner[1]) and (inner[2], inner[3]) <= (outer[2], outer[3])
