"""Which files of a repository a file imports, and these in turn: read from the sources. Runs nothing, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from vaelint.core.paths import real
from vaelint.core.reach import reachable
from vaelint.source.notebook import source_of_file

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")


def imported_by(file: Path) -> frozenset[Path]:
    """The files that `file` reaches by import statements, with itself, resolved. What is not in the repository is left out."""
    start = real(file)
    marked = next((p for p in start.parents if any((p / mark).exists() for mark in _MARKS)), None)
    here = real(Path.cwd())
    root = marked or (here if start.is_relative_to(here) else start.parent)
    return frozenset(reachable([start], lambda current: _imports(current, root)))


def _imports(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return
    above = [p for p in (file.parent, *file.parents) if p.is_relative_to(root)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files([*above, root / "src"], alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            folders = [*above, root / "src"] if not node.level else [([file.parent, *file.parents])[min(node.level, len(file.parents)) - 1]]
            for alias in node.names:
                yield from _files(folders, [*parts, alias.name])


def _files(folders: list[Path], parts: list[str]) -> Iterator[Path]:
    """The module of a dotted name, and the packages on the way to it, in the first folder that has the first part."""
    for folder in folders:
        found = list(_below(folder, parts))
        if found or (folder / parts[0]).is_dir():
            yield from found
            return


def _below(folder: Path, parts: list[str]) -> Iterator[Path]:
    for part in parts:
        if (folder / f"{part}.py").is_file() and not (folder / part / "__init__.py").is_file():
            yield real(folder / f"{part}.py")
            return
        folder = folder / part
        if (folder / "__init__.py").is_file():
            yield real(folder / "__init__.py")
