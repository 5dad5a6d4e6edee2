"""Where the module that ran an operation is written, when the call itself stands in no file: in a step given on the command line."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.finding import Span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def made_at(model: Model, node: fx.Node) -> Span | None:
    """The statement that names the module, `loss_fn = nn.KLDivLoss()`, in the file of the model; None where there is none."""
    at = model.record.nodes.index(node)
    calls = [c for c in model.record.calls if c.first <= at and not list(c.module.children())]
    module = max(calls, key=lambda c: c.first).module if calls else None
    home = sys.modules.get(type(model.record.model).__module__)
    file = getattr(home, "__file__", None)
    names = {n for n, v in vars(home).items() if v is module} if home is not None and isinstance(module, torch.nn.Module) else set()
    place = next((s for n in model.record.nodes for s in n.meta.get("stack", ()) if file and file.endswith(s.file)), None)
    if place is None or not names:
        return None
    for statement in model.source.file(place.file).tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id in names for t in targets):
            return Span(place.file, statement.lineno, statement.col_offset + 1, statement.end_lineno, (statement.end_col_offset or 0) + 1)
    return None
