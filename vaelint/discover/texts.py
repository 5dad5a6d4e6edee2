"""Constructor arguments as `--init` takes them: names of other files are imported where they stand. Imports no torch."""

from __future__ import annotations

import ast
from pathlib import Path

from vaelint.loading.imports import dotted_name
from vaelint.repository.objects import written


def as_text(value: object, home: Path) -> str:
    """A value as Python text that can be evaluated in the target's file. Raises Unknown for what has no text."""
    text, names = written(value)
    places = {name: _import(file, there) for name, file, there in names if file and Path(file) != home}
    if not places:
        return text
    return ast.unparse(_Replaced(places).visit(ast.parse(text, mode="eval")))


def _import(file: str, name: str) -> str:
    return f"__import__('importlib').import_module({dotted_name(Path(file))!r}).{name}"


class _Replaced(ast.NodeTransformer):
    """Names with what they are imported from."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """The import in the place of the name."""
        return ast.parse(self._places[node.id], mode="eval").body if node.id in self._places else node
