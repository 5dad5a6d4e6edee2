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
    """A format: the module whose `render(results, view)` makes it, and what it is for."""

    module: str
    about: str

    def load(self) -> Render:
        """The function that renders."""
        render: Render = import_module(f"vaelint.report.{self.module}").render
        return render


FORMATS = {
    "full": Format("full", "for people: source, shapes, reason, measurement, help"),
    "concise": Format("concise", "path:line:col: CODE message, one line a finding"),
    "json": Format("as_json", "one document in the form of schema.json"),
}
