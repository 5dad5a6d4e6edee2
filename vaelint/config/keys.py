"""The keys of `[tool.vaelint]` and of its target tables, and what an editor is told of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vaelint.config.declared import Entry, Key
from vaelint.config.options import TABLE
from vaelint.config.readers import Schema
from vaelint.late import dataclass


@dataclass(frozen=True)
class Place:
    """A key in one place: the top of the table, or the table of a target. `field` is its name in `Options` and `Request`."""

    name: str
    field: str
    read: Callable[[Any], Any]
    schema: Schema
    about: str


def _place(entry: Entry, key: Key, about: str) -> Place:
    return Place(key.name, entry.field, key.value.read, key.value.schema, about)


_KEYS = [(e, e.key) for e in TABLE if e.key is not None]
TOP = tuple(_place(e, k, k.top) for e, k in _KEYS if k.top)
TARGET = tuple(_place(e, k, k.target) for e, k in _KEYS if k.target)
BOTH = tuple(e.field for e, k in _KEYS if k.top and k.target)
"""Fields that are said for all targets, or for one."""


def json_schema() -> Schema:
    """What an editor needs to complete and check the table. Says all but what needs the rules, or a text's own grammar."""
    target = {
        "type": "object",
        "properties": {k.name: {"description": k.about, **k.schema} for k in TARGET},
        "anyOf": [{"required": ["target"]}, {"required": ["run"]}],
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "vaelint: [tool.vaelint] of pyproject.toml, or the whole of vaelint.toml",
        "type": "object",
        "properties": {
            **{k.name: {"description": k.about, **k.schema} for k in TOP},
            "targets": {"description": "One table for each model that is checked.", "type": "array", "items": target},
        },
        "additionalProperties": False,
    }
