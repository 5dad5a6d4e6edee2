"""Entry points of installed distributions, as `importlib.metadata` finds them. Imports no torch.

That module takes along the parser of mail, which is a fifth of the time of a check that kept results answer. The files are those of
https://packaging.python.org/en/latest/specifications/entry-points/ and .../recording-installed-packages/.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

from vaelint.late import dataclass

_KINDS = (".dist-info", ".egg-info")
_APART = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One line of a group.

    Attributes:
        name: what stands before `=`.
        value: `package.module` or `package.module:attribute`, as written.
        dist: the distribution that has it.
        version: of the distribution.
    """

    name: str
    value: str
    dist: str
    version: str

    @property
    def module(self) -> str:
        """The module that the value names."""
        return re.split(r"[:\s\[]", self.value, maxsplit=1)[0]


def entry_points(group: str) -> list[EntryPoint]:
    """Those of a group. Of distributions of one name the first on `sys.path` counts."""
    if not _plain():
        return _slowly(group)
    found: list[EntryPoint] = []
    met: set[str] = set()
    for folder, name in _distributions():
        stem = name.rpartition(".")[0]
        dist, _, version = stem.partition("-")
        known = _APART.sub("-", dist).lower()
        if known in met:
            continue
        met.add(known)
        try:
            with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError):  # most have none; an .egg-info may be a file
            continue
        found += [EntryPoint(key, value, dist, version) for key, value in _lines(text, group)]
    return found


def _distributions() -> Iterator[tuple[str, str]]:
    for folder in dict.fromkeys(path or "." for path in sys.path):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        yield from ((folder, name) for name in names if name.endswith(_KINDS))


def _lines(text: str, group: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _plain() -> bool:
    """Whether distributions are in folders alone: no archive is on the path, and no finder of another kind offers any."""
    others = [f for f in sys.meta_path if hasattr(f, "find_distributions") and getattr(f, "__name__", "") != "PathFinder"]
    return not others and not any(path.endswith(".egg") or os.path.isfile(path) for path in sys.path)


def _slowly(group: str) -> list[EntryPoint]:
    from importlib import metadata

    found = metadata.entry_points(group=group)
    return [EntryPoint(p.name, p.value, p.dist.name if p.dist else "", p.dist.version if p.dist else "") for p in found]
