"""Placeholders for what an installed package offers only together with another one that is missing. Imports no torch."""

from __future__ import annotations

import ast
from types import ModuleType

from vaelint.core.assumption import Assumption, Chosen
from vaelint.core.finding import Span
from vaelint.core.paths import relative, user_file
from vaelint.loading.placeholder import Placeholder, for_want_of


def stand_in(node: ast.stmt, error: BaseException, module: ModuleType, notes: list[str], path: str) -> bool:
    """Puts placeholders in the place of an import that failed within an installed package for want of a third; False for anything else.

    `torch.utils.tensorboard`, say, is there without tensorboard, and says so only once it is imported.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name or not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or user_file(traceback.tb_frame.f_code.co_filename) or "importlib" in traceback.tb_frame.f_code.co_filename:
        return False
    if isinstance(node, ast.ImportFrom):
        if node.level or node.names[0].name == "*":
            return False
        names = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    else:
        names = {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
    missing = error.name.partition(".")[0]
    for name, dotted in names.items():
        for_want_of(dotted, missing)
        if name not in module.__dict__:
            module.__dict__[name] = Placeholder(dotted)
    said = f"{missing} is not installed, which {', '.join(names.values())} needs; the model is analysed without it"
    place = Span(relative(path), node.lineno)
    notes += [Chosen(said, Assumption("stand-in", name, "a placeholder", f"{missing} is not installed", place)) for name in list(names)[:1]]
    return True
