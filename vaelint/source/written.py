"""What the user wrote: expressions, assigned names and factors, read from the syntax tree at a span. Imports no torch."""

from __future__ import annotations

import ast
import linecache
from functools import cached_property
from pathlib import Path

from vaelint.core.finding import Span
from vaelint.source.notebook import source_of_file


class SourceFile:
    """One parsed file; an unreadable or broken one has no lines and no tree."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._statements: dict[int, ast.stmt | None] = {}

    @cached_property
    def text(self) -> str:
        """The file's text without a byte order mark, "" if it cannot be read. The cells of a notebook are in no file: Python keeps them
        in `linecache`.
        """
        try:
            return source_of_file(self.path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except ValueError:
            return ""
        except OSError:
            return "".join(linecache.getlines(self.path))

    @cached_property
    def lines(self) -> list[str]:
        """Its lines, without their ends."""
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree, empty if it does not parse."""
        try:
            return ast.parse(self.text)
        except SyntaxError:
            return ast.Module([], [])

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All of the tree, breadth first."""
        return list(ast.walk(self.tree))

    @cached_property
    def _by_line(self) -> dict[int, list[ast.AST]]:
        found: dict[int, list[ast.AST]] = {}
        for node in self.nodes:
            if hasattr(node, "lineno"):
                found.setdefault(node.lineno, []).append(node)
        return found

    def column(self, line: int, offset: int) -> int:
        """A byte offset of the syntax tree as a 1-based column in characters."""
        return len(self.lines[line - 1].encode()[:offset].decode("utf-8", "replace")) + 1 if line <= len(self.lines) else offset + 1

    def at(self, span: Span) -> ast.AST | None:
        """The expression that fills the span exactly."""
        for node in self._by_line.get(span.line, ()):
            if not isinstance(node, ast.expr) or node.end_col_offset is None:
                continue
            if self.column(node.lineno, node.col_offset) == span.column and (
                node.end_lineno,
                self.column(node.end_lineno or 0, node.end_col_offset),
            ) == (span.end_line, span.end_column):
                return node
        return None

    def place(self, name: str, node: ast.expr | ast.stmt) -> Span:
        """The span of an expression or a statement of this file, which spans call `name`."""
        end = node.end_lineno or node.lineno
        return Span(name, node.lineno, self.column(node.lineno, node.col_offset), end, self.column(end, node.end_col_offset or 0))

    def statement(self, line: int) -> ast.stmt | None:
        """The innermost statement that covers a line."""
        if line not in self._statements:
            best: ast.stmt | None = None
            for node in self._all_statements:
                if not node.lineno <= line <= (node.end_lineno or node.lineno):
                    continue
                if best is None or (-node.lineno, node.end_lineno or 0) <= (-best.lineno, best.end_lineno or 0):
                    best = node
            self._statements[line] = best
        return self._statements[line]

    @cached_property
    def _all_statements(self) -> list[ast.stmt]:
        return [n for n in self.nodes if isinstance(n, ast.stmt)]

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods."""
        return self._all_functions

    @cached_property
    def _all_functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [n for n in self.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


class Source:
    """All files that spans point into."""

    def __init__(self, base: str = ".") -> None:
        self._base, self._files = Path(base), dict[str, SourceFile]()

    def file(self, name: str) -> SourceFile:
        """A file by the name that spans use."""
        if name not in self._files:
            self._files[name] = SourceFile(str(self._base / name))
        return self._files[name]

    def function(self, span: Span) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The innermost function that the span stands in."""
        around = [f for f in self.file(span.file).functions() if f.lineno <= span.line <= (f.end_lineno or f.lineno)]
        return max(around, key=lambda f: f.lineno, default=None)

    def line(self, span: Span) -> str:
        """The first source line of a span."""
        lines = self.file(span.file).lines
        return lines[span.line - 1] if span.line <= len(lines) else ""

    def expression(self, span: Span | None) -> str:
        """The text of a span, on one line."""
        if span is None or span.end_line is None or span.end_column is None:
            return ""
        lines = self.file(span.file).lines[span.line - 1 : span.end_line]
        if not lines:
            return ""
        if len(lines) == 1:
            return lines[0][span.column - 1 : span.end_column - 1]
        return " ".join([lines[0][span.column - 1 :].strip(), *(x.strip() for x in lines[1:-1]), lines[-1][: span.end_column - 1].strip()])

    def assigned(self, span: Span | None) -> str:
        """The name that the span's value is assigned to, when its statement assigns one name."""
        if span is None:
            return ""
        statement = self.file(span.file).statement(span.line)
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign | ast.AugAssign)
            else []
        )
        if len(targets) != 1 or statement is None:
            return ""
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) else None
        if isinstance(targets[0], ast.Tuple) and isinstance(value, ast.Tuple) and len(targets[0].elts) == len(value.elts):
            for name, part in zip(targets[0].elts, value.elts, strict=True):
                if part.lineno == span.line and self.file(span.file).column(part.lineno, part.col_offset) <= span.column <= self.file(
                    span.file
                ).column(part.end_lineno or 0, part.end_col_offset or 0):
                    return ast.unparse(name)
        return ast.unparse(targets[0]) if isinstance(targets[0], ast.Name | ast.Attribute) else ""

    def unpacked(self, span: Span | None, part: int) -> str:
        """The name that the span's statement unpacks a part of its value to, "" where it unpacks nothing."""
        statement = self.file(span.file).statement(span.line) if span is not None else None
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if not isinstance(target, ast.Tuple) or (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple)):
            return ""
        return ast.unparse(target.elts[part]) if -len(target.elts) <= part < len(target.elts) else ""

    def is_whole_value(self, span: Span | None) -> bool:
        """Whether the span is the whole right side of its assignment."""
        if span is None:
            return False
        statement = self.file(span.file).statement(span.line)
        value = getattr(statement, "value", None)
        return isinstance(value, ast.expr) and value is self.file(span.file).at(span)

    def factors(self, span: Span | None) -> list[tuple[str, bool]]:
        """The operands of a product or quotient at the span, each with whether it is made of literals alone."""
        node = self.file(span.file).at(span) if span else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            return [(ast.unparse(side), is_literal(side)) for side in (node.left, node.right)]
        if isinstance(node, ast.Call):
            operands = [*node.args, *(k.value for k in node.keywords)]
            return [(ast.unparse(a), is_literal(a)) for a in operands]
        if node is None and span is not None:
            statement = self.file(span.file).statement(span.line)
            if isinstance(statement, ast.AugAssign):
                return [(ast.unparse(statement.value), is_literal(statement.value))]
        return []

    def is_inside_a_call(self, span: Span | None) -> bool:
        """Whether a product at the span is made by a function that is called there and is no product itself."""
        node = self.file(span.file).at(span) if span else None
        name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else None
        return name is not None and name.strip("_") not in _PRODUCTS


_PRODUCTS = ("mul", "multiply", "div", "divide", "true_divide", "imul", "itruediv", "rmul", "rtruediv")


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is made of numbers alone: `0.01`, `-1 / 784`."""
    return all(isinstance(n, ast.Constant | ast.UnaryOp | ast.BinOp | ast.operator | ast.unaryop) for n in ast.walk(node))
