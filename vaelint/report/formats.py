"""The formats of a report by name. Each is one module of this package, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from vaelint.report.view import View
from vaelint.result import TargetResult

Render = Callable[[Sequence[TargetResult], View], str]


@dataclass(frozen=True)
class Format:
    """A format: the module whose `render(results, view)` makes it, what it is for, and whether it is lines and no document."""

    module: str
    about: str
    lines: bool = False  # may share standard output with others

    def load(self) -> Render:
        """The function that renders."""
        render: Render = import_module(f"vaelint.report.{self.module}").render
        return render


TRAILS = {
    "text": Format("tree", "a tree with shapes, parameters, FLOPs and memory", lines=True),
    "json": Format("as_json", "one document in the form of schema.json, with `trail`"),
}
"""The formats of `trace`."""

FORMATS = {
    "full": Format("full", "for people: source, shapes, reason, measurement, help", lines=True),
    "concise": Format("concise", "path:line:col: CODE message, one line a finding", lines=True),
    "json": Format("as_json", "one document in the form of schema.json"),
}
