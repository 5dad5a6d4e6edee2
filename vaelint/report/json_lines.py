"""`--output-format json-lines`: an object a line: each finding with its target, and after them the target itself.

Findings have the keys of `finding` in schema.json, targets those of `target` but `findings`; both have `kind`.
"""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.core.result import TargetResult
from vaelint.report.parts.rows import dumps, whole
from vaelint.report.parts.view import PLAIN, View


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The lines, in the order of targets and findings; everything is in them, whatever the view."""
    lines = []
    for result in results:
        told = whole(result, view)
        lines += [dumps({"kind": "finding", "target": result.target, **f}, indent=None) for f in told.pop("findings")]
        lines.append(dumps({"kind": "target", **told}, indent=None))
    return "".join(lines)
