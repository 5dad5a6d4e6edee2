"""What the repository hands to `forward` beside the data: flags and counters. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaelint.core.paths import relative

if TYPE_CHECKING:
    from vaelint.repository.scopes import Repository


def told_by_calls(repository: Repository, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """For each of some parameters the constant that calls hand over by that keyword, and where; those in files that train come first."""
    found: dict[str, tuple[str, str]] = {}
    for word in ("backward(", "="):
        for file in repository.holding(word, *(f"{name}=" for name in names)):
            for site in file.calls:
                for keyword in site.call.keywords:
                    name = keyword.arg or ""
                    if name in names and name not in found and isinstance(keyword.value, ast.Constant):
                        found[name] = ast.unparse(keyword.value), f"{relative(str(file.path))}:{site.call.lineno}"
        if len(found) == len(names):
            break
    return found
