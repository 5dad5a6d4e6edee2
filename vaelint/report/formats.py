"""The formats of a report by name. Each is one module of this package, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.report.parts.view import View

Render = Callable[[Sequence[TargetResult], View], str]


@dataclass(frozen=True)
class Format:
    """A format: the module whose `render(results, view)` makes it, and what it is for."""

    module: str
    about: str
    lines: bool = False  # lines and no document: may share standard output with others
    trail: bool = False  # shows the way from input to loss, which a check makes only where it is asked for

    def load(self) -> Render:
        """The function that renders."""
        render: Render = import_module(f"vaelint.report.{self.module}").render
        return render


TRAILS = {
    "text": Format("tree", "a tree with shapes, parameters, FLOPs and memory", lines=True),
    "json": Format("as_json", "one document in the form of schema.json, with `trail`"),
    "mermaid": Format("mermaid", "a flowchart for Markdown files", lines=True),
    "svg": Format("svg", "a picture"),
    "html": Format("html", "a page with picture, source and steps"),
}
"""The formats of `trace`."""

FORMATS = {
    "full": Format("full", "for people: source, shapes, reason, measurement, help", lines=True),
    "concise": Format("concise", "path:line:col: CODE message, one line a finding", lines=True),
    "grouped": Format("grouped", "the findings of each file together", lines=True),
    "json": Format("as_json", "one document in the form of schema.json"),
    "html": Format("html", "one page with picture, source, loss and evidence", trail=True),
    "json-lines": Format("json_lines", "the same, an object a line for each finding and each target"),
    "github": Format("github", "annotations on a change at GitHub", lines=True),
    "gitlab": Format("gitlab", "a Code Quality report for GitLab"),
    "junit": Format("junit", "JUnit XML: a suite a target, a test for it and one a finding"),
    "sarif": Format("sarif", "SARIF 2.1.0, for code scanning"),
    "rdjson": Format("rdjson", "the Reviewdog Diagnostic Format"),
    "markdown": Format("markdown", "tables for the summary of a job"),
}
