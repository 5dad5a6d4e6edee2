"""The configuration files of a repository: YAML, JSON and TOML, read as data. Runs no user code, imports no torch."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaelint.core.paths import regular

ENDS = (".yaml", ".yml", ".json", ".toml")
_LARGEST = 200_000  # bytes; beyond it a file holds data
_MOST = 200


def load(path: Path) -> Any:
    """The content of a configuration file, None where it cannot be read; YAML only where a reader of it is installed."""
    try:
        if regular(path).stat().st_size > _LARGEST:
            return None
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix == ".toml":
            return tomllib.loads(text)
        return _yaml(text)
    except (OSError, ValueError, RecursionError):
        return None


def _yaml(text: str) -> Any:
    try:
        import yaml  # the user's own: a repository whose code reads YAML has it
    except ImportError:
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def configurations(root: Path) -> Iterator[tuple[Path, Any]]:
    """The configuration files below a folder with their content, the nearest first; no hidden folders."""
    folders, seen = [root], 0
    while folders and seen < _MOST:
        folder = folders.pop(0)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.suffix in ENDS and entry.is_file() and entry.name not in ("pyproject.toml", "package.json"):
                seen += 1
                if isinstance(content := load(entry), dict):
                    yield entry, content
        folders += [e for e in entries if e.is_dir() and not e.is_symlink() and not e.name.startswith((".", "__"))]


def mappings(content: Any, depth: int = 4) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a configuration, the innermost first."""
    if isinstance(content, Mapping):
        if depth:
            for part in content.values():
                yield from mappings(part, depth - 1)
        yield content
