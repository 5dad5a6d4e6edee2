"""Where a parameter gets the values that it starts with."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.finding import Span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def initialised(model: Model, parameter: fx.Node) -> Span | None:
    """The last statement of the constructor that fills or makes a parameter; else where its layer is made; None where neither is found."""
    path = str(parameter.meta.get("parameter") or parameter.target)
    owner, _, name = path.rpartition(".")
    born = model.birth(owner)
    files = [born.file] if born is not None else sorted({s.file for n in model.record.nodes for s in n.meta.get("stack", ())})
    layer = owner.rpartition(".")[2]
    for file in files:
        for function in model.source.file(file).functions():
            if function.name != "__init__" or (born is not None and not function.lineno <= born.line <= (function.end_lineno or born.line)):
                continue
            statements = [s for s in ast.walk(function) if isinstance(s, ast.stmt) and s is not function and not hasattr(s, "body")]
            found = [s for s in statements if _fills(s, layer, name) or _makes(s, name)]
            if found:
                last = max(found, key=lambda s: s.lineno)
                return Span(file, last.lineno, last.col_offset + 1, last.end_lineno, (last.end_col_offset or 0) + 1)
    return born


def _fills(statement: ast.stmt, layer: str, name: str) -> bool:
    """`self.layer.weight.data.uniform_(...)`, `nn.init.constant_(self.layer.weight, ...)`."""
    calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr.endswith("_")]
    return any(
        isinstance(a, ast.Attribute)
        and a.attr == name
        and isinstance(a.value, ast.Attribute | ast.Name)
        and _last(a.value) in (layer, "self")
        for c in calls
        for a in ast.walk(c)
    )


def _makes(statement: ast.stmt, name: str) -> bool:
    """`self.codes = nn.Parameter(...)`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target] if isinstance(statement, ast.AnnAssign) else []
    return any(isinstance(t, ast.Attribute) and t.attr == name for t in targets)


def _last(value: ast.expr) -> str:
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
