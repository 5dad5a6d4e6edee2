"""KL weights that an object beside the model keeps, as a loss of its own class does, and that nothing reads."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING

from vaelint.core.finding import Label, Span
from vaelint.faults.schedule.schedule import WEIGHT, UnusedWeight, applied_weight
from vaelint.record.record import route

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def idle_attributes(model: Model) -> list[UnusedWeight]:
    """Attributes named as KL weights, of classes that put the loss together and are none of the model's, that their file never reads."""
    if not any(f.scaling is not None and f.scaling.constant for f in model.kls) or model.record.failure is not None:
        return []
    own = {cls.__name__ for m in model.record.model.modules() for cls in type(m).__mro__}
    spans = {p for leaf in model.leaves for n in leaf.chain for p in route(n)}
    found: dict[str, UnusedWeight] = {}
    for file in sorted({p.file for p in spans}):
        tree = model.source.file(file).tree
        running = {id(model.source.function(p)) for p in spans if p.file == file}
        read = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
        read |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}  # getattr(self, "beta")
        for cls in ast.walk(tree):
            if isinstance(cls, ast.ClassDef) and cls.name not in own and any(id(f) in running for f in cls.body):
                for name, statement in _weights_of(cls):
                    if name not in read:
                        end = (statement.end_col_offset or 0) + 1
                        at = Span(file, statement.lineno, statement.col_offset + 1, statement.end_lineno, end)
                        label = Label(at, f"{name} is stored here")
                        found[name] = UnusedWeight(name, math.nan, label, applied_weight(model), stored=False)
    return list(found.values())


def _weights_of(cls: ast.ClassDef) -> list[tuple[str, ast.Assign]]:
    """The attributes that a constructor sets and that are named as weights of the KL."""
    constructors = [f for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    statements = [s for f in constructors for s in f.body if isinstance(s, ast.Assign)]
    return [(t.attr, s) for s in statements for t in s.targets if isinstance(t, ast.Attribute) and WEIGHT.match(t.attr)]
