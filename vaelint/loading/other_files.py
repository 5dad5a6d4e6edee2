"""Names of the user's code that the target's module does not have: of its other files no more is run than what they need."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelint.loading.imports import import_part, parsed
from vaelint.repository.dataflow import needed_of
from vaelint.source.later_modules import later_modules
from vaelint.source.target import Expression

if TYPE_CHECKING:
    from vaelint.loading.build import Loaded


def named(loaded: Loaded, expression: Expression) -> dict[str, Any]:
    """The names of an expression that was read in other files. Raises TargetError VAE001, ImportError or AttributeError."""
    return {name: _found(loaded, file, there) for name, file, there in expression.names}


def _found(loaded: Loaded, file: str, name: str) -> Any:
    if not file:
        library, _, rest = name.partition(".")
        value: Any = importlib.import_module(library)
        for part in rest.split(".") if rest else ():
            value = getattr(value, part)
        return value
    return in_file(loaded, Path(file), name)


def in_file(loaded: Loaded, path: Path, name: str) -> Any:
    """A name of the top level of one of the user's files. Raises TargetError VAE001 or AttributeError."""
    if path == Path(loaded.file):
        return loaded.namespace[name]
    there = next((m for m in later_modules().values() if getattr(m, "__file__", None) == str(path) and hasattr(m, name)), None)
    if there is None:
        there = import_part(path, needed_of(parsed(path), {name}), loaded.notes)
    return getattr(there, name)
