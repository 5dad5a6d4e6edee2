"""Where an attribute of a module is made, and what else in the source reads it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import torch

from vaelint.core.finding import Span
from vaelint.core.paths import class_file
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.replay.traced import Traced
    from vaelint.source.written import Source
    from vaelint.trace.spans import SpanFinder

_HOUSEKEEPING = frozenset(
    [
        "weight",
        "bias",
        "data",
        "parameters",
        "named_parameters",
        "apply",
        "state_dict",
        "load_state_dict",
        "to",
        "train",
        "eval",
        "requires_grad_",
        "modules",
        "children",
        "register_forward_hook",
    ]
)


class Usage:
    """Reads the classes of a model's modules."""

    def __init__(self, source: Source, spans: SpanFinder) -> None:
        self._source, self._spans = source, spans

    def file_of(self, module: torch.nn.Module) -> str:
        """The file of the module's class, by the name that spans use; "" when it has none or is not the user's."""
        path = class_file(type(module))
        return self._spans.relative(path) if path and self._spans.is_user(path) else ""

    def assignment(self, module: object, name: str, *, running: bool = False, last: bool = False) -> Span | None:
        """The statement `self.name = ...` or `self.register_buffer("name", ...)` of the class of a module, or another object, or its bases.

        With `running`, the constructor's do not count. With `last`, the last of several in place of the first.
        """
        for cls in type(module).__mro__:
            node, file = self._class(cls)
            if node is None:
                continue
            starts = [f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f.name == "__init__"] if running else []
            skipped = {id(part) for start in starts for part in ast.walk(start)}
            found: list[ast.stmt | ast.expr] = []
            for part in ast.walk(node):
                if id(part) in skipped:
                    continue
                if isinstance(part, ast.Assign | ast.AnnAssign | ast.AugAssign):
                    targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                    if any(_is_attribute(t, name) for target in targets for t in ast.walk(target)):
                        found.append(part)
                if isinstance(part, ast.Call) and _registers(part, name):
                    found.append(part)
            if found:
                return self._span(file, max(found, key=lambda n: n.lineno) if last else found[0])
        return None

    def readers(self, file: str, name: str) -> list[str]:
        """Names of the functions of a file, other than constructors, that use an attribute or key of that name to compute with."""
        found: list[str] = []
        for function in self._source.file(file).functions():
            if function.name in ("__init__", "__post_init__", "setup"):
                continue
            parents = {id(child): parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
            for part in ast.walk(function):
                reads = isinstance(part, ast.Attribute) and part.attr == name and isinstance(part.ctx, ast.Load)
                above = parents.get(id(part))
                if (reads and not (isinstance(above, ast.Attribute) and above.attr in _HOUSEKEEPING)) or (
                    isinstance(part, ast.Constant) and part.value == name
                ):
                    found.append(function.name)
                    break
        return found

    def functions_with(self, module: torch.nn.Module, name: str) -> int:
        """How many functions of a module's file, constructors aside, name an attribute of it at all."""
        file = self.file_of(module)
        functions = [f for f in self._source.file(file).functions() if f.name != "__init__"] if file else []
        return sum(any(isinstance(n, ast.Attribute) and n.attr == name for n in ast.walk(f)) for f in functions)

    def reads(self, module: torch.nn.Module, name: str) -> list[Span]:
        """Where the methods of a module's class, its constructor aside, read an attribute of itself."""
        node, file = self._class(type(module))
        found = []
        for function in [f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f.name != "__init__"] if node is not None else []:
            reads = (n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.attr == name and isinstance(n.ctx, ast.Load))
            found += [self._span(file, n) for n in reads if isinstance(n.value, ast.Name) and n.value.id == "self"]
        return found

    def of_user(self, cls: type) -> bool:
        """Whether a class is written in the user's files."""
        return self._class(cls)[0] is not None

    def statement_of(self, cls: type) -> Span | None:
        """The line `class Name(...):` of a class of the user's."""
        node, file = self._class(cls)
        if node is None:
            return None
        return Span(file, node.lineno, self._source.file(file).column(node.lineno, node.col_offset))

    def _class(self, cls: type) -> tuple[ast.ClassDef | None, str]:
        path = class_file(cls)
        if not path or not self._spans.is_user(path):
            return None, ""
        file = self._spans.relative(path)
        found = [n for n in ast.walk(self._source.file(file).tree) if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
        return (found[-1] if found else None), file

    def _span(self, file: str, node: ast.stmt | ast.expr) -> Span:
        column = self._source.file(file).column
        end = node.end_lineno or node.lineno
        return Span(file, node.lineno, column(node.lineno, node.col_offset), end, column(end, node.end_col_offset or 0))


@per_model
def usage_of(model: Traced) -> Usage:
    """The classes of a model's modules, read once."""
    return Usage(model.source, model.tracer.spans)


def _is_attribute(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)


def _registers(call: ast.Call, name: str) -> bool:
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    return method.startswith("register_") and bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == name


def kept_as_given(model: Traced, place: Span) -> bool:
    """Whether an attribute is kept as the caller gave it, without a default: what it is is the caller's to say.

    `self.beta = beta`, `self.register_buffer("links", links.float())`.
    """
    file = model.source.file(place.file)
    value = _kept(file.statement(place.line))
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and not value.args:
        value = value.func.value  # `.float()`, `.clone()`
    if not isinstance(value, ast.Name):
        return False
    around = [n for n in ast.walk(file.tree) if isinstance(n, ast.FunctionDef) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    function = max(around, key=lambda n: n.lineno, default=None)
    if function is None:
        return False
    a = function.args
    required = [*a.posonlyargs, *a.args][: len(a.posonlyargs) + len(a.args) - len(a.defaults)]
    required += [k for k, default in zip(a.kwonlyargs, a.kw_defaults, strict=True) if default is None]
    return value.id in {arg.arg for arg in required}


def _kept(statement: ast.stmt | None) -> ast.expr | None:
    """What a statement keeps with the model: the value of an assignment, the tensor of `register_buffer`."""
    if isinstance(statement, ast.Assign):
        return statement.value
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "register_buffer":
        return None
    return call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "tensor"), None)
