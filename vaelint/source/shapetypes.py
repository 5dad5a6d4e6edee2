"""Shape annotations of jaxtyping in the user's code: which files have them, what they say. Runs no user code.

The grammar of the axis string is that of https://docs.kidger.site/jaxtyping/api/array/
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vaelint.late import dataclass
from vaelint.source.later_modules import later_modules
from vaelint.source.written import SourceFile

_SIGNS = "#*?_"


@dataclass(frozen=True)
class Axis:
    """One axis of an annotation. `name` is "" for one that may be anything; `size` is set for a number."""

    text: str
    name: str = ""
    size: int | None = None
    many: bool = False  # stands for any number of axes
    broadcasts: bool = False  # 1 fits as well


@dataclass(frozen=True)
class ShapeType:
    """An annotation of one array, and where it stands in the tree."""

    axes: tuple[Axis, ...]
    node: ast.expr


def typed_files(home: str) -> Callable[[str], bool] | None:
    """Whether a file is a loaded one below `home` that names jaxtyping; None when there is none, as in most models."""
    start = str(Path(home).absolute()) + os.sep
    loaded = {str(file) for m in later_modules().values() if str(file := getattr(m, "__file__", "") or "").startswith(start)}
    files = {file for file in loaded if file.endswith(".py") and "jaxtyping" in SourceFile(file).text}
    return files.__contains__ if files else None


def shape_types(annotation: ast.expr | None, file: SourceFile, depth: int = 0) -> Iterator[tuple[tuple[int, ...], ShapeType]]:
    """The array annotations in an annotation, each with its place in nested tuples: `()` for the whole, `(1,)` for the second part."""
    if annotation is None or depth > 4:
        return
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            quoted = ast.parse(annotation.value.strip(), mode="eval").body
        except SyntaxError:
            return
        for place, found in shape_types(quoted, file, depth + 1):
            yield place, ShapeType(found.axes, annotation)
    elif isinstance(annotation, ast.Name):
        for statement in file.tree.body:  # an alias: `Batch = Float[Tensor, "batch latent"]`
            if isinstance(statement, ast.Assign) and any(isinstance(t, ast.Name) and t.id == annotation.id for t in statement.targets):
                for place, found in shape_types(statement.value, file, depth + 1):
                    yield place, ShapeType(found.axes, annotation)
    elif isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        head = ast.unparse(annotation.value).rpartition(".")[2]
        if head in ("tuple", "Tuple"):
            for i, part in enumerate(inner):
                for place, found in shape_types(part, file, depth + 1):
                    yield (i, *place), found
        elif len(inner) == 2 and isinstance(inner[1], ast.Constant) and isinstance(inner[1].value, str) and _is_dtype(head, file):
            yield (), ShapeType(tuple(_axis(t) for t in inner[1].value.split()), annotation)


def _is_dtype(name: str, file: SourceFile) -> bool:
    """Whether a name comes from jaxtyping."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxtyping" and any((a.asname or a.name) == name for a in node.names):
            return True
        if isinstance(node, ast.Import) and any(a.name == "jaxtyping" for a in node.names):
            return True
    return False


def _axis(text: str) -> Axis:
    body = text.rpartition("=")[2]
    signs = ""
    while body and body[0] in _SIGNS:
        signs, body = signs + body[0], body[1:]
    many, loose = "*" in signs or body == "...", "_" in signs or not body or "?" in signs
    if body == "..." or loose:
        return Axis(text, many=many)
    if body.isdigit():
        return Axis(text, size=int(body), broadcasts="#" in signs)
    return Axis(text, body if body.isidentifier() else "", None, many, "#" in signs)
