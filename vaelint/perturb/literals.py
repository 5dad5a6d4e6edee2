"""The numbers written in user code, and functions made over with some of them replaced."""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.source.later_modules import later_modules

_NOT_SIZES = frozenset({"dim", "dims", "axis", "start_dim", "end_dim", "stride", "padding", "output_padding", "dilation", "groups"})
SIZED = frozenset(
    {
        "view", "reshape", "unflatten", "Unflatten", "expand", "repeat", "Linear", "LazyLinear", "zeros", "ones", "randn", "rand", "empty",
        "LayerNorm", "BatchNorm1d", "resize", "Parameter", "split", "chunk", "interpolate", "Upsample", "rearrange",
    }
)  # fmt: skip
"""Calls whose numbers may be a size divided or multiplied by what the layers in between do."""


@dataclass(frozen=True)
class Literal:
    """A whole number in the code of a function: where, and in which call it is an argument."""

    span: Span
    file: str
    value: int
    call: str
    function: FunctionType = field(hash=False, compare=False)
    default: str | None = None  # the parameter whose default it is

    def within(self, span: Span) -> bool:
        """Whether it lies in an expression."""
        if span.file != self.span.file:
            return False
        start, end = (span.line, span.column or 0), (span.end_line or span.line, span.end_column or 10**6)
        mine = (self.span.line, self.span.column or 0)
        return start <= mine < end


Change = Mapping[Literal, int]


class Literals:
    """All numbers in the functions and methods of the user's modules, and what it takes to run with others in their place."""

    def __init__(self, is_user: Callable[[str], bool], relative: Callable[[str], str], own: Callable[..., Any] | None) -> None:
        self._relative, self._own = relative, own
        self._trees: dict[str, ast.Module] = {}
        self.all: list[Literal] = []
        functions: dict[str, list[FunctionType]] = {}
        for function in _functions(is_user):
            functions.setdefault(function.__code__.co_filename, []).append(function)
        for file, found in functions.items():
            self._read(file, found)

    def _read(self, file: str, functions: Sequence[FunctionType]) -> None:
        try:
            source = Path(file).read_bytes()
            tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError):
            return
        self._trees[file] = tree
        lines = source.splitlines()
        by_line = {(f.__code__.co_name, f.__code__.co_firstlineno): f for f in functions}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if (function := by_line.get((node.name, first))) is not None:
                    self.all += _of_function(node, function, file, self._relative(file), lines, self._own)

    def within(self, span: Span) -> list[Literal]:
        """The numbers in an expression, in the order of the source."""
        return sorted((x for x in self.all if x.within(span)), key=lambda x: (x.span.line, x.span.column or 0))

    @contextlib.contextmanager
    def replaced(self, change: Change) -> Iterator[None]:
        """While the block runs, the functions have other numbers in place of some literals."""
        by_function: dict[int, list[Literal]] = {}
        for literal in change:
            by_function.setdefault(id(literal.function), []).append(literal)
        kept: list[tuple[FunctionType, CodeType, Any, Any]] = []
        try:
            for literals in by_function.values():
                function = literals[0].function
                kept.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
                inside = {(x.span.line, x.span.column): change[x] for x in literals if x.default is None}
                if inside and (code := self._recompiled(literals[0], inside)) is not None:
                    function.__code__ = code
                for x in literals:
                    if x.default is not None:
                        _set_default(function, x.default, change[x])
            yield
        finally:
            for function, code, defaults, kwdefaults in kept:
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, kwdefaults

    def _recompiled(self, one: Literal, numbers: Mapping[tuple[int, int], int]) -> CodeType | None:
        """The code of the literal's function with numbers replaced at (line, column)."""
        touched: list[tuple[ast.Constant, Any]] = []
        lookup = {(x.span.line, x.span.column): x for x in self.all if x.file == one.file}
        for node in ast.walk(self._trees[one.file]):
            if isinstance(node, ast.Constant) and type(node.value) is int:
                place = (node.lineno, getattr(node, "_column", 0))
                if place in numbers and place in lookup:
                    touched.append((node, node.value))
                    node.value = numbers[place]
        try:
            module = compile(self._trees[one.file], one.file, "exec")
        finally:
            for node, value in touched:
                node.value = value
        old = one.function.__code__
        for code in _codes(module):
            if (code.co_name, code.co_firstlineno) == (old.co_name, old.co_firstlineno) and code.co_freevars == old.co_freevars:
                return code
        return None


def _functions(is_user: Callable[[str], bool]) -> Iterator[FunctionType]:
    """The functions and methods of the user's modules, each once."""
    seen: set[int] = set()
    for module in later_modules().values():
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not is_user(file):
            continue
        for value in list(vars(module).values()):
            owners = [value] if not inspect.isclass(value) else list(vars(value).values())
            for member in owners:
                function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
                function = function.fget if isinstance(function, property) else function
                if isinstance(function, FunctionType) and id(function) not in seen and is_user(function.__code__.co_filename):
                    seen.add(id(function))
                    yield function


def _of_function(
    node: ast.FunctionDef, function: FunctionType, file: str, shown: str, lines: Sequence[bytes], own: Callable[..., Any] | None
) -> list[Literal]:
    """The literals of a function's body, and of its defaults unless they are the target's own arguments."""
    found: list[Literal] = []

    def add(constant: ast.Constant, call: str, default: str | None = None) -> None:
        start, end = (len(lines[n - 1][:c].decode("utf-8", "replace")) + 1 for n, c in _ends(constant))
        constant._column = start  # type: ignore[attr-defined]
        span = Span(shown, constant.lineno, start, constant.end_lineno, end)
        found.append(Literal(span, file, int(constant.value), call, function, default))  # type: ignore[arg-type]

    def go(part: ast.AST, call: str) -> None:
        if isinstance(part, ast.Constant):
            if type(part.value) is int and part.value > 0:
                add(part, call)
            return
        if isinstance(part, ast.Subscript):
            go(part.value, call)
            return
        if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub) and isinstance(part.operand, ast.Constant):
            return
        if isinstance(part, ast.Call):
            name = ast.unparse(part.func).rpartition(".")[2]
            go(part.func, call)
            for argument in part.args:
                go(argument, name)
            for k in part.keywords:
                if k.arg not in _NOT_SIZES:
                    go(k.value, name)
            return
        for child in ast.iter_child_nodes(part):
            go(child, call)

    for statement in node.body:
        go(statement, "")
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    defaults += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    if function is not own:
        for argument, value in defaults:
            if isinstance(value, ast.Constant) and type(value.value) is int and value.value > 0:
                add(value, "", argument.arg)
    return found


def _ends(node: ast.Constant) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _set_default(function: FunctionType, name: str, value: int) -> None:
    if function.__kwdefaults__ and name in function.__kwdefaults__:
        function.__kwdefaults__ = {**function.__kwdefaults__, name: value}
        return
    defaults = list(function.__defaults__ or ())
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) :]
    if name in names:
        defaults[names.index(name)] = value
        function.__defaults__ = tuple(defaults)
