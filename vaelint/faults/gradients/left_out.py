"""Which branch of a loop over parameters leaves some of them out of every list."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vaelint.core.finding import Span
from vaelint.faults.gradients.chosen_parameters import filled, filled_in

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_ASKED = ("parameters", "named_parameters")


def leaving_out(model: Model, optimizer: Span | None, left: set[str]) -> Span | None:
    """The last condition of the one `if` without `else` that sorts parameters into lists, where it takes none of `left`.

    It stands in the function that makes the optimizer, or in one of the same file that this function calls. None where there are more of
    them, or where what they take cannot be read.
    """
    if optimizer is None:
        return None
    file = model.source.file(optimizer.file)
    making = model.source.function(optimizer)
    called = {_last_name(n.func) for n in ast.walk(making or file.tree) if isinstance(n, ast.Call)}
    ends = []
    for function in file.functions():
        if function is not making and function.name not in called:
            continue
        for loop in (n for n in ast.walk(function) if isinstance(n, ast.For) and _goes_through_parameters(n)):
            names = filled_in(loop)
            taken = [filled(name, function, model.record.model, optimizer.file) for name in names]
            if names and all(t is not None and not t & left for t in taken):
                ends += [end for s in loop.body if isinstance(s, ast.If) and (end := _end(s, names)) is not None]
    return file.place(optimizer.file, ends[0].test) if len(set(ends)) == 1 else None


def _last_name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _goes_through_parameters(loop: ast.For) -> bool:
    return any(isinstance(n, ast.Call) and _last_name(n.func) in _ASKED for n in ast.walk(loop.iter))


def _end(choice: ast.If, names: set[str]) -> ast.If | None:
    """The last `if` of a chain that fills one of the lists at each of its ways, and has no `else`."""
    while True:
        if not any(isinstance(n, ast.Name) and n.id in names for s in choice.body for n in ast.walk(s)):
            return None
        if not choice.orelse:
            return choice
        if len(choice.orelse) != 1 or not isinstance(following := choice.orelse[0], ast.If):
            return None
        choice = following
