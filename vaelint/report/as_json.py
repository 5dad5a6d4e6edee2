"""`--output-format json`: one document in the form of `schema.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vaelint.core.result import SCHEMA_VERSION, TargetResult
from vaelint.core.version import __version__
from vaelint.report.parts.rows import dumps, whole
from vaelint.report.parts.view import PLAIN, View


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The document, ending in a newline: the same bytes from run to run. All is in it, whatever the view, but for `timing`."""
    document = {
        "schema": SCHEMA_VERSION,
        "tool": {"name": "vaelint", "version": __version__},
        "targets": [whole(r, view) for r in results],
    }
    return dumps(document)


def parse(text: str) -> list[TargetResult]:
    """The inverse of `render`. Raises ValueError for another schema version."""
    document = json.loads(text)
    if document.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"schema {document.get('schema')!r}, where {SCHEMA_VERSION} is understood")
    return [TargetResult.from_json(t) for t in document["targets"]]
