"""Losses in the other files of a repository. What looks like one is read from its text; it is run only once it is tried."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.paths import relative
from vaelint.loading.build import Loaded
from vaelint.loading.other_files import in_file
from vaelint.repository.objects import Unknown
from vaelint.repository.scopes import File, Scope
from vaelint.step.candidates import Candidate, made_of
from vaelint.step.meaning import Kind, is_loss_name, kinds

_MOST = 12
_TAKES_ALL = ({Kind.RECON, Kind.TARGET, Kind.MU}, {Kind.RECON, Kind.TARGET, Kind.SCALE}, {Kind.RECON, Kind.TARGET, Kind.POSTERIOR})


def losses_elsewhere(loaded: Loaded) -> list[tuple[Path, str]]:
    """The file and name of what looks like a loss in other files of the repository, those that are nearest to the target first."""
    target = Path(loaded.file).resolve()
    found: list[tuple[Path, str]] = []
    for file in () if loaded.package else loaded.repository.holding("def "):
        if file.path == target:
            continue
        definitions = [n for n in file.tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        losses = [n.name for n in definitions if _looks_like_a_loss(n)]
        if losses and belongs(loaded, file):
            found += [(file.path, name) for name in losses]
    return sorted(found, key=lambda there: _distance(there[0], target))[:_MOST]


def _is_a_module(node: ast.ClassDef) -> bool:
    """Whether a class runs as a model: by its base, or by its forward pass."""
    methods = (m.name for m in node.body if isinstance(m, ast.FunctionDef))
    return "forward" in methods or any(ast.unparse(b).rpartition(".")[2].endswith("Module") for b in node.bases)


def belongs(loaded: Loaded, file: File) -> bool:
    """Whether a file's code may be about the target: it names the target's class, or has no models of its own that it would be for."""
    definitions = [n for n in file.tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    own = [n for n in definitions if isinstance(n, ast.ClassDef) and not _looks_like_a_loss(n)]
    return not any(_is_a_module(n) for n in own) or imports_target(loaded, file)


def imports_target(loaded: Loaded, file: File) -> bool:
    """Whether the target's name in a file is the target."""
    name = ast.Name(loaded.name.partition(".")[0], ast.Load())
    try:
        return loaded.reader.definition(name, Scope(file)) == (Path(loaded.file).resolve(), name.id)
    except Unknown:
        return False


def _distance(path: Path, target: Path) -> int:
    """How many folders lie between two files."""
    shared = sum(a == b for a, b in zip(path.parent.parts, target.parent.parts, strict=False))
    return len(path.parent.parts) + len(target.parent.parts) - 2 * shared


def _looks_like_a_loss(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether something is called a loss and takes what a loss takes, or takes all that a VAE's loss takes."""
    if node.name.startswith("_"):
        return False
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name in ("forward", "__call__")]
    function = node if isinstance(node, ast.FunctionDef) else next(iter(methods), None)
    taken = [kinds(a.arg) for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)] if function else []
    if is_loss_name(node.name) and sum(bool(k) for k in taken) >= 2:
        return True
    first = {k[0] for k in taken if k}
    return isinstance(node, ast.FunctionDef) and any(wanted <= first for wanted in _TAKES_ALL)


def neighbours(loaded: Loaded, model: nn.Module) -> Iterator[tuple[Candidate, dict[str, Any]]]:
    """Each such loss that can be read, with the names that its expression needs."""
    for path, name in losses_elsewhere(loaded):
        try:
            value = in_file(loaded, path, name)
        except (TargetError, AttributeError):
            continue  # a file that cannot be read holds no loss that could be tried
        if inspect.isfunction(value):
            yield Candidate(name, name, value, 1), {name: value}
        elif inspect.isclass(value):
            yield from ((made, {name: value}) for made in made_of(name, value))


def callers_of(loaded: Loaded, name: str) -> list[File]:
    """The files that train the target and call a function of this name."""
    return [f for f in loaded.repository.holding(loaded.name, name, "backward(") if any(_calls(site.call, name) for site in f.calls)]


def _calls(call: ast.Call, name: str) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] == name


def shown(path: Path, name: str) -> str:
    """As `--loss` takes it."""
    return f"{relative(str(path))}:{name}"
