"""`--output-format json`: one document in the form of `schema.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vaelint import __version__
from vaelint.report.view import PLAIN, View
from vaelint.result import SCHEMA_VERSION, TargetResult


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The document, ending in a newline. Same results, same bytes, but for `timing`; everything is in it, whatever the view."""
    document = {
        "schema": SCHEMA_VERSION,
        "tool": {"name": "vaelint", "version": __version__},
        "targets": [_plain(r.to_json()) for r in results],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse(text: str) -> list[TargetResult]:
    """The inverse of `render`. Raises ValueError for another schema version."""
    document = json.loads(text)
    if document.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"schema {document.get('schema')!r}, where {SCHEMA_VERSION} is understood")
    return [TargetResult.from_json(t) for t in document["targets"]]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the texts "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)
