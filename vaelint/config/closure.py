"""Which files of a repository a file imports, and these in turn: read from the sources. Runs nothing, imports no torch."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vaelint.core.paths import real
from vaelint.core.reach import reachable
from vaelint.source.notebook import source_of_file

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_NOTHING = (frozenset[str](), frozenset[str]())


def imported_by(file: Path) -> frozenset[Path]:
    """The files that `file` reaches by import statements, with itself, resolved. What is not in the repository is left out."""
    return Imports().of(file)


class Imports:
    """What the files of a repository import, each file and folder read once.

    Whoever asks of many files makes one, and not for long, as files change.
    """

    def __init__(self) -> None:
        self._direct: dict[tuple[Path, Path], tuple[Path, ...]] = {}
        self._held: dict[Path, tuple[frozenset[str], frozenset[str]]] = {}

    def of(self, file: Path) -> frozenset[Path]:
        """The files that `file` reaches by import statements, with itself, resolved. What is not in the repository is left out."""
        start = real(file)
        marked = next((p for p in start.parents if any((p / mark).exists() for mark in _MARKS)), None)
        here = real(Path.cwd())
        root = marked or (here if start.is_relative_to(here) else start.parent)
        return frozenset(reachable([start], lambda current: self._from(current, root)))

    def reaching(self, file: Path, among: Iterable[Path]) -> list[Path]:
        """Those of some files that reach `file` by import statements, with itself. Only where its name occurs is anything parsed."""
        texts = {f: text for f in among if (text := _text(f)) is not None}
        reached, last = {real(file)}, [real(file)]
        while last:
            named = re.compile("|".join(rf"\b{re.escape(f.parent.name if f.stem == '__init__' else f.stem)}\b" for f in last).encode())
            last = [real(f) for f, text in texts.items() if real(f) not in reached and named.search(text) and self.of(f) & reached]
            reached |= set(last)
        return [f for f in texts if real(f) in reached]

    def _from(self, file: Path, root: Path) -> tuple[Path, ...]:
        if (file, root) not in self._direct:
            self._direct[file, root] = tuple(dict.fromkeys(self._imports(file, root)))
        return self._direct[file, root]

    def _imports(self, file: Path, root: Path) -> Iterator[Path]:
        try:
            tree = ast.parse(source_of_file(file))
        except (OSError, SyntaxError, ValueError):
            return
        above = [p for p in (file.parent, *file.parents) if p.is_relative_to(root)]
        for node in _statements(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._files([*above, root / "src"], alias.name.split("."))
            elif isinstance(node, ast.ImportFrom):
                parts = node.module.split(".") if node.module else []
                folders = [*above, root / "src"] if not node.level else [file.parents[min(node.level, len(file.parents)) - 1]]
                for alias in node.names:
                    yield from self._files(folders, [*parts, alias.name])

    def _files(self, folders: list[Path], parts: list[str]) -> Iterator[Path]:
        """The module of a dotted name, and the packages on the way to it, in the first folder that has the first part."""
        for folder in folders:
            found = list(self._below(folder, parts))
            if found or parts[0] in self._in(folder)[1]:
                yield from found
                return

    def _below(self, folder: Path, parts: list[str]) -> Iterator[Path]:
        for part in parts:
            files, folders = self._in(folder)
            package = part in folders and "__init__.py" in self._in(folder / part)[0]
            if f"{part}.py" in files and not package:
                yield real(folder / f"{part}.py")
                return
            if part not in folders:
                return
            folder = folder / part
            if package:
                yield real(folder / "__init__.py")

    def _in(self, folder: Path) -> tuple[frozenset[str], frozenset[str]]:
        """The names of the files of a folder, and of its folders."""
        if folder not in self._held:
            try:
                with os.scandir(folder) as entries:
                    kinds = [(e.name, e.is_dir(), e.is_file()) for e in entries]
            except OSError:
                self._held[folder] = _NOTHING
            else:
                self._held[folder] = (frozenset(n for n, _, file in kinds if file), frozenset(n for n, folded, _ in kinds if folded))
        return self._held[folder]


def _text(file: Path) -> bytes | None:
    try:
        return source_of_file(file)
    except (OSError, ValueError):
        return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a file, whatever they are within, and no expression: that is nine tenths of it."""
    todo: list[ast.AST] = [*tree.body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.stmt):
            yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            within = getattr(node, name, ())
            todo += within if isinstance(within, list) else ()
