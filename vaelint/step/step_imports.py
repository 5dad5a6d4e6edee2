"""Imports written in a told step: of the user's own files only what the step uses is read, so that a training script can be named."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from vaelint.loading.build import Loaded
from vaelint.loading.imports import import_part, parsed, repository_of
from vaelint.repository.dataflow import needed_of


def import_for_step(tree: ast.Module, loaded: Loaded) -> tuple[ast.Module, dict[str, Any]]:
    """The step without its imports of user files, and the names that these bind. Raises TargetError VAE001.

    Only top-level `import a.b as c`, `import a` and `from a import b` of files near the target that are not imported yet; the others
    stay in the step.
    """
    names: dict[str, Any] = {}
    body: list[ast.stmt] = []
    for node in tree.body:
        bound = _bind(node, tree, loaded)
        if bound is None:
            body.append(node)
        else:
            names |= bound
    return ast.Module(body, []), names


def _bind(node: ast.stmt, tree: ast.Module, loaded: Loaded) -> dict[str, Any] | None:
    if isinstance(node, ast.Import) and len(node.names) == 1:
        alias = node.names[0]
        local = alias.asname or alias.name
        if (path := _file_of(alias.name, loaded)) is None or "." in local:
            return None
        return {local: _part(path, _attributes_of(local, tree), loaded)}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        wanted = {a.name for a in node.names}
        if (path := _file_of(node.module, loaded)) is None or "*" in wanted:
            return None
        module = _part(path, wanted, loaded)
        if wanted - set(vars(module)):
            return None  # the plain import says what is missing
        return {a.asname or a.name: getattr(module, a.name) for a in node.names}
    return None


def _part(path: Path, wanted: set[str], loaded: Loaded) -> ModuleType:
    return import_part(path, needed_of(parsed(path), wanted), loaded.notes)


def _attributes_of(name: str, tree: ast.Module) -> set[str]:
    """`f` and `g` for a step that says `name.f(name.g)`."""
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name)
    return {n.attr for n in found}


def _file_of(dotted: str, loaded: Loaded) -> Path | None:
    """The user's file of a module that is not imported yet: in the target's folder, or in one above it in the repository."""
    if dotted in sys.modules or dotted.partition(".")[0] in sys.stdlib_module_names:
        return None
    home = Path(loaded.file).resolve().parent
    root = repository_of(home)
    folders = [home, *(p for p in home.parents if p.is_relative_to(root)), Path.cwd()]
    return next((p for f in folders if (p := f.joinpath(*dotted.split(".")).with_suffix(".py")).is_file()), None)
