"""What a result was made from besides the request, as plain data: written by a target's process, read by later runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from vaelint.late import dataclass


@dataclass
class Reads:
    """What the result rests on. Paths are absolute.

    Attributes:
        files: read, or looked for in vain; their content matters.
        lacks: files in which nothing but the absence of some words mattered.
        seen: other looks at the file system: the kind (looks.py), the path, and what was seen.
        searches: folders in which modules were looked for by these names, found or not.
        variables: of the environment; "*" for all of them.
        outside: why the result rests on what cannot be looked up, "" if it does not.
    """

    files: list[str] = field(default_factory=list)
    lacks: dict[str, list[str]] = field(default_factory=dict)
    seen: list[list[str]] = field(default_factory=list)
    searches: dict[str, list[str]] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)
    outside: str = ""

    @staticmethod
    def from_json(told: Mapping[str, Any] | None) -> Reads | None:
        """What was written down; None if it is not of this form."""
        if told is None or set(told) != {f.name for f in fields(Reads)}:
            return None
        lists = all(isinstance(told[name], list) for name in ("files", "seen", "variables"))
        tables = all(isinstance(told[name], dict) for name in ("lacks", "searches"))
        whole = lists and tables and all(isinstance(look, list) and len(look) == 3 for look in told["seen"])
        return Reads(**told) if whole else None

    def paths(self) -> set[str]:
        """All places where a change may matter."""
        return {*self.files, *self.lacks, *(path for _, path, _ in self.seen), *self.searches}
