"""The places of a repository that train the target, and the steps that are cut out of them. Runs no user code."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import ModuleType
from typing import Any

from vaelint.core.paths import relative
from vaelint.loading.build import Loaded
from vaelint.repository.dataflow import top_level
from vaelint.repository.objects import Unknown
from vaelint.repository.scopes import File, Scope
from vaelint.repository.values import Reader
from vaelint.step.find_loss.cut import Cut, Slice
from vaelint.step.find_loss.endings import MARKS, endings

_MOST = 8  # ways to train that are tried


def training_slices(
    loaded: Loaded, inputs: Sequence[str], left: list[str], tokens: Set[str] = frozenset()
) -> list[tuple[Slice, Mapping[str, Any]]]:
    """Every way the target's file, or that of a base class, trains the model that can be cut out whole, alike ones once.

    With the names of that file, where it is another one. `left` gets why a place that trains was left out; `tokens` are the
    inputs that are sequences of tokens.
    """
    target = Path(loaded.file).resolve()
    spaces: dict[Path, Mapping[str, Any]] = {target: {}}
    spaces.update({path: vars(module) for (path, _), module in _bases(loaded).items() if path != target})
    found: list[tuple[Slice, Mapping[str, Any]]] = []
    for path, names in spaces.items():
        file = loaded.repository.file(path)
        cuts = _slices(loaded, file, inputs, set(names or loaded.namespace), left, tokens) if file is not None else []
        found += [(cut, names) for cut in cuts if cut.sure]
    return found


def _bases(loaded: Loaded) -> dict[tuple[Path, str], ModuleType]:
    """The user's classes that the target is one of, by file and name, with their modules."""
    found: dict[tuple[Path, str], ModuleType] = {}
    for cls in loaded.obj.__mro__ if isinstance(loaded.obj, type) else ():
        module = sys.modules.get(cls.__module__)
        file = getattr(module, "__file__", None)
        if module is not None and file is not None and loaded.is_user(file):
            found[Path(file).resolve(), cls.__name__] = module
    return found


def slices_elsewhere(loaded: Loaded, inputs: Sequence[str], left: list[str], tokens: Set[str] = frozenset()) -> list[Slice]:
    """The same for the other files of the repository; nothing of them is run. `left` gets why a place that trains was left out."""
    found: dict[str, Slice] = {}
    target = Path(loaded.file).resolve()
    files = dict.fromkeys(f for mark in MARKS for f in (() if loaded.package else loaded.repository.holding(mark)))
    own = {target, *(path for path, _ in _bases(loaded))}
    for file in files:
        if file.path not in own and len(found) < _MOST:
            for cut in _slices(loaded, file, inputs, None, left, tokens):
                found.setdefault(cut.code, cut)
    return list(found.values())


def _slices(loaded: Loaded, file: File, inputs: Sequence[str], known: set[str] | None, left: list[str], tokens: Set[str]) -> list[Slice]:
    """The slices of one file. `known` are the names its functions see; None for those that its top level defines."""
    reader, home, name = loaded.reader, Path(loaded.file).resolve(), loaded.name
    models = _model_names(file.tree, name)
    if known is None:
        known = top_level(file.tree) - file.filled_by_loops
        if _is_another(reader, file, home, name):
            models, known = set(), known - {name}
    found: dict[str, Slice] = {}
    for path in endings(file.tree, name):
        options = [v for v in loaded.arguments.values() if isinstance(v, argparse.Namespace)]
        cut = Cut(reader, file, (home, name), known, models, inputs, path, _bases(loaded).keys(), tokens, options)
        piece = cut.slice()
        if piece is not None:
            found.setdefault(piece.code, piece)
        elif cut.because:
            left.append(f"{relative(str(file.path))}:{path[-1][0][path[-1][1]].lineno} {cut.because}")
    return list(found.values())


def _is_another(reader: Reader, file: File, home: Path, name: str) -> bool:
    """Whether a file means another class by the name of the target."""
    try:
        return reader.definition(ast.Name(name, ast.Load()), Scope(file)) != (home, name)
    except Unknown:
        return False


def _model_names(module: ast.Module, name: str) -> set[str]:
    """The expressions that hold the model: what `Name(...)` is assigned to, and the usual names of parameters."""
    imported = [alias for n in ast.walk(module) if isinstance(n, ast.ImportFrom) for alias in n.names]
    called_so = {name} | {alias.asname for alias in imported if alias.name == name and alias.asname}
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(_last_name(f) in called_so for f in _calls_in_chain(node.value)):
            names |= {ast.unparse(t) for t in node.targets}
    return names


def _calls_in_chain(node: ast.expr) -> Iterator[ast.expr]:
    """What is called in `VAE(...)`, `models.VAE(...).to(device)`, `nn.DataParallel(VAE(...))`, the outermost first."""
    while isinstance(node, ast.Call):
        yield node.func
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        node = inner if isinstance(inner, ast.Call) else node.args[0] if node.args else node.func


def _last_name(node: ast.expr) -> str:
    """`VAE` of `models.VAE`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
