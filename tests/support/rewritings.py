"""Other spellings of a file that mean the same. Plain text, nothing is run here.

Each gives the new text, and for lines that moved the line that they come from (1-based).
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

_FOREIGN = {
    a for c in (torch.Tensor, nn.Module, torch, torch.nn.functional, torch.distributions, torch.optim, dict, list, str) for a in dir(c)
}
_FOREIGN |= {a for c in vars(torch.distributions).values() if isinstance(c, type) for a in dir(c)}
_KEPT = {"self", "cls", "forward", "training_step", "configure_optimizers", "loss", "model", *dir(builtins)}
_METHODS = ("exp", "log", "sqrt", "square", "abs", "sigmoid", "tanh", "relu", "sum", "mean", "pow", "clamp", "chunk", "softmax", "flatten")


@dataclass
class Rewritten:
    """A new text, where its lines come from, and the new names."""

    text: str
    origin: dict[int, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def renamed(source: str, target: str) -> Rewritten:
    """Variables, parameters, attributes, functions and methods of the file have names that say nothing; the target keeps its own."""
    tree = ast.parse(source)
    plain, attributes = _own_names(tree)
    kept = _KEPT | {target} | {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    new = {name: f"q{i}" for i, name in enumerate(sorted(plain | attributes)) if name not in kept and not name.startswith("__")}
    lines = source.split("\n")
    for line, column, old in sorted(set(_places(tree, lines, plain, attributes)), reverse=True):
        text = lines[line - 1]
        if old in new and text[column : column + len(old)] == old:
            lines[line - 1] = text[:column] + new[old] + text[column + len(old) :]
    return Rewritten("\n".join(lines), names=new)


def _own_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that the file gives to values, and to attributes and methods; of these, none that torch has too."""
    plain: set[str] = set()
    attributes: set[str] = set()
    methods = {f.name for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for f in c.body if isinstance(f, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            plain.add(node.id)
        elif isinstance(node, ast.arg):
            plain.add(node.arg)
        elif isinstance(node, ast.FunctionDef) and node.name not in methods:
            plain.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    bodies = [s for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for s in c.body]
    fields = {s.target.id for s in bodies if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
    return plain - fields, (attributes | methods) - _FOREIGN - fields


def _places(tree: ast.Module, lines: list[str], plain: set[str], attributes: set[str]) -> Iterator[tuple[int, int, str]]:
    """Line, column and name of everything that may be renamed."""
    local = {f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in plain:
            yield node.lineno, node.col_offset, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.col_offset, node.arg
        elif isinstance(node, ast.FunctionDef) and node.name in plain | attributes:
            found = re.search(rf"def\s+{node.name}\b", lines[node.lineno - 1])
            if found is not None:
                yield node.lineno, found.end() - len(node.name), node.name
        elif (
            isinstance(node, ast.Attribute) and node.attr in attributes and node.end_lineno is not None and node.end_col_offset is not None
        ):
            yield node.end_lineno, node.end_col_offset - len(node.attr), node.attr
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            own = called in local - {"__init__"} or called == "__init__" or (called in attributes and isinstance(node.func, ast.Attribute))
            yield from ((k.lineno, k.col_offset, k.arg) for k in node.keywords if own and k.arg in plain)
            for a in node.args[:2]:
                if called in ("register_buffer", "register_parameter", "getattr", "setattr") and isinstance(a, ast.Constant):
                    yield a.lineno, a.col_offset + 1, str(a.value)


def functions(source: str, target: str) -> Rewritten:
    """`torch.exp(x)` for `x.exp()`."""
    modules = {a.asname or a.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}

    if "torch" not in modules:
        return Rewritten(source)

    class Functions(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            f = node.func
            if not isinstance(f, ast.Attribute) or f.attr not in _METHODS or not isinstance(f.value, ast.Name | ast.BinOp):
                return node
            if isinstance(f.value, ast.Name) and f.value.id in modules | {"self"}:
                return node
            return ast.Call(ast.Attribute(ast.Name("torch", ast.Load()), f.attr, ast.Load()), [f.value, *node.args], node.keywords)

    return _by_statement(source, Functions())


def turned(source: str, target: str) -> Rewritten:
    """`b * a` for `a * b`."""

    class Turned(ast.NodeTransformer):
        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            self.generic_visit(node)
            sides = node.left, node.right
            if isinstance(node.op, ast.Mult) and not any(isinstance(s, ast.List | ast.Tuple | ast.Starred) for s in sides):
                node.right, node.left = sides
            return node

    return _by_statement(source, Turned())


def _statements(source: str) -> Iterator[ast.Assign | ast.Return]:
    """Assignments and returns inside functions that have their lines for themselves."""
    lines = source.split("\n")
    for function in ast.walk(ast.parse(source)):
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if (
                isinstance(node, ast.Assign | ast.Return)
                and node.value is not None
                and not lines[node.lineno - 1][: node.col_offset].strip()
            ):
                yield node


def _by_statement(source: str, transformer: ast.NodeTransformer) -> Rewritten:
    """Each statement changed and written on its first line; the lines that it leaves stay empty."""
    lines = source.split("\n")
    for node in {s.lineno: s for s in _statements(source)}.values():
        before, comment = ast.unparse(node), _comment(lines, node)
        after = ast.unparse(ast.fix_missing_locations(transformer.visit(node)))
        if after != before:
            lines[node.lineno - 1 : node.end_lineno] = [" " * node.col_offset + after + comment] + [""] * _more(node)
    return Rewritten("\n".join(lines))


def _more(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno


def _comment(lines: list[str], node: ast.stmt) -> str:
    return lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].decode()


def broken(source: str, target: str) -> Rewritten:
    """Each value stands in brackets, with a line of its own for what follows a comma or an operator."""
    statements = {s.lineno: s for s in _statements(source)}
    lines, out, origin = source.split("\n"), list[str](), dict[int, int]()
    number = 1
    while number <= len(lines):
        node = statements.get(number)
        pieces = [lines[number - 1]]
        if node is not None and node.value is not None:
            head = "return " if isinstance(node, ast.Return) else " = ".join(ast.unparse(t) for t in node.targets) + " = "
            pieces = [" " * node.col_offset + p for p in _broken(f"{head}({ast.unparse(node.value)})")]
        for piece in pieces:
            out.append(piece)
            origin[len(out)] = number
        number += 1 + (_more(node) if node is not None else 0)
    return Rewritten("\n".join(out), origin)


def _broken(statement: str) -> list[str]:
    pieces, column, depth = [""], 0, 0
    for token in tokenize.generate_tokens(io.StringIO(statement).readline):
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        gap, column = " " * (token.start[1] - column), token.end[1]
        depth += (token.string in tuple("([{")) - (token.string in tuple(")]}"))
        if depth and gap and token.string in tuple("+-*/@"):
            pieces.append("    " + token.string)
        else:
            pieces[-1] += gap + token.string
            if depth and token.string == ",":
                pieces.append("   ")
    return pieces


def extracted(source: str, target: str) -> Rewritten:
    """What is assigned comes out of a function of its own."""
    lines, extra, origin = source.split("\n"), list[tuple[str, int]](), dict[int, int]()
    for function in [f for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef) and f.name != "__init__"]:
        inner = [n for n in ast.walk(function) if n is not function]
        if any(isinstance(n, ast.FunctionDef | ast.Lambda | ast.comprehension | ast.Nonlocal | ast.Global) for n in inner):
            continue
        local = {n.arg for n in inner if isinstance(n, ast.arg)} | {
            n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        for node in inner:
            if (
                not isinstance(node, ast.Assign)
                or len(node.targets) > 1
                or not isinstance(node.targets[0], ast.Name)
                or not isinstance(node.value, ast.BinOp | ast.Call)
            ):
                continue
            used = dict.fromkeys(n.id for n in ast.walk(node.value) if isinstance(n, ast.Name))
            if "super" in used or lines[node.lineno - 1][: node.col_offset].strip():
                continue
            call = f"_part{len(extra)}({', '.join(n for n in used if n in local)})"
            extra.append((f"def {call}:\n    return {ast.unparse(node.value)}", node.lineno))
            written = f"{' ' * node.col_offset}{node.targets[0].id} = {call}{_comment(lines, node)}"
            lines[node.lineno - 1 : node.end_lineno] = [written] + [""] * _more(node)
    for text, line in extra:
        lines += ["", "", *text.split("\n")]
        origin[len(lines)] = line
    return Rewritten("\n".join(lines), origin)


REWRITINGS = {f.__name__: f for f in (renamed, functions, turned, broken, extracted)}
