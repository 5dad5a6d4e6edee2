"""Law B4, for the start: a counter that keeps a KL's weight at 0 is moved on by something.

Intervention: the expression that a KL's weight is reckoned by is evaluated at other values of a counter that is 0. Where it is 0 now and
not later, the counter must move: within the loop that reckons the weight, or, for an attribute, anywhere in the code that stands beside
the training code. Exempt are weights that are reckoned outside of a loop, counters that any file of the folder writes, and models whose
file trains nothing: there somebody else may move it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.counted import changes_in_place
from vaelint.laws.schedules.reckoned import Reckoned, reckoned_weights
from vaelint.repository.python_files import python_files
from vaelint.rule import Found
from vaelint.source.arithmetic import NotArithmetic

_FAR = (1e3, 1e6)
_MOST = 300  # files that are read
_BUILDS = ("__init__", "__post_init__")


@law("counters-are-advanced", "a counter that keeps a KL's weight at 0 is moved on", covered=("VAE416", "VAE903"), cost="all")
def counters_are_advanced(bench: Bench) -> Iterator[Broken]:
    """Weights of a KL that are 0 and that the user's code reckons from a number."""
    for weight in reckoned_weights(bench):
        if weight.value != 0:
            continue
        for counter, now in weight.counters():
            if now == 0 and weight.follows(counter, now) and _rises(weight, counter):
                start = _attribute(bench, weight, counter) if "." in counter else _variable(weight, counter)
                if start is not None:
                    yield _stands(weight, counter, start)
                    return


def _rises(weight: Reckoned, counter: str) -> bool:
    try:
        return all(weight.at(counter, far) > 0 for far in _FAR)
    except NotArithmetic:
        return False


def _variable(weight: Reckoned, name: str) -> Span | None:
    """Where a local name gets its only value, before the loop that reckons the weight."""
    scope = weight.scope
    made = [n for n in ast.walk(scope.function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)]
    loops = [n for n in ast.walk(scope.function) if isinstance(n, ast.For | ast.While) and _holds(n, weight.place.line)]
    given = {a.arg for a in ast.walk(scope.function) if isinstance(a, ast.arg)}
    outside = any(isinstance(n, ast.Global | ast.Nonlocal) for n in ast.walk(scope.function))
    if len(made) != 1 or not loops or name in given or outside or any(_holds(n, made[0].lineno) for n in loops):
        return None
    return Span(scope.file, made[0].lineno, made[0].col_offset + 1, made[0].end_lineno, (made[0].end_col_offset or 0) + 1)


def _holds(loop: ast.For | ast.While, line: int) -> bool:
    return loop.lineno <= line <= (loop.end_lineno or 0)


def _attribute(bench: Bench, weight: Reckoned, counter: str) -> Span | None:
    """Where an attribute is set that is set in constructors alone, where the training code can be seen."""
    name = counter.rpartition(".")[2]
    own = bench.model.source.file(weight.place.file).tree
    trains = any(isinstance(n, ast.Attribute) and n.attr in ("backward", "optim") for n in ast.walk(own))
    files = python_files(Path(weight.place.file).absolute().parent, tests=True, notebooks=True)
    if not trains or len(files) > _MOST or any(_writes(f, name) for f in files):
        return None
    sets = [n for n in ast.walk(own) if isinstance(n, ast.Attribute) and n.attr == name and isinstance(n.ctx, ast.Store)]
    if len(sets) != 1:
        return None
    return Span(weight.place.file, sets[0].lineno, sets[0].col_offset + 1, sets[0].end_lineno, (sets[0].end_col_offset or 0) + 1)


def _writes(file: Path, name: str) -> bool:
    """Whether code outside of constructors sets an attribute of this name, or could by its name."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return True
    if not re.search(rf"\b{re.escape(name)}\b", text):
        return False
    if f'"{name}"' in text or f"'{name}'" in text or file.suffix != ".py":
        return True
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return True
    if any(of == name for _, of in changes_in_place(tree)):
        return True
    building = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name in _BUILDS for n in ast.walk(f)}
    return any(
        isinstance(n, ast.Attribute) and n.attr == name and isinstance(n.ctx, ast.Store) and n not in building for n in ast.walk(tree)
    )


def _stands(weight: Reckoned, counter: str, start: Span) -> Broken:
    found = Found(
        weight.place,
        label=f"0 for as long as {counter} is 0, and nothing moves {counter}",
        labels=(Label(start, "set here, and nowhere else"),),
        why="the warm-up never begins: the KL weighs nothing all through training",
        help=f"{counter} += 1 at each step",
    )
    text = (
        f"the weight is 0 for {counter} = 0, {weight.at(counter, _FAR[-1]):.3g} for {counter} = {_FAR[-1]:g}; {counter} is set once, to 0"
    )
    return Broken("kl-weight-stuck", found, "a counter that keeps the weight at 0 moves", text)
