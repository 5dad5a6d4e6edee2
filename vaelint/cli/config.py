"""`vaelint config`: what is in force and where each value came from; the JSON Schema for editors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vaelint.config.file import Config, load, shown
from vaelint.config.keys import TARGET, TOP, json_schema
from vaelint.config.options import Options
from vaelint.config.settings import DEFAULT, Setting, Settings, Target, resolve
from vaelint.core.visible import visible
from vaelint.process.front import Worker
from vaelint.report.parts.rows import dumps

_UNSAID: dict[str, Any] = {"select": "all but VAE8", "baseline": None}


def config(said: Options, early: Worker | None = None) -> None:
    """Show the configuration in force, with where each value came from. Takes the options of check that change it."""
    if said.schema:
        sys.stdout.write(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n")
        return
    told = load()
    settings = resolve(said.names or [], told, said)
    text = _as_json(told, settings) if said.form == "json" else _as_text(told, settings)
    sys.stdout.write(text)


def _top(settings: Settings) -> dict[str, Setting]:
    """The values of the file's upper keys; those of `device` and `timeout` are shown with each target."""
    return {k.name: getattr(settings, k.field) for k in TOP if hasattr(settings, k.field)}


def _of_target(target: Target) -> dict[str, Setting]:
    rows = {k.name: Setting(getattr(target.request, k.field), target.origins[k.field]) for k in TARGET if k.field != "target"}
    return {name: s for name, s in rows.items() if s.value not in (None, ()) or s.origin != DEFAULT}


def _as_json(told: Config, settings: Settings) -> str:
    def row(name: str, setting: Setting) -> dict[str, Any]:
        return {"value": _plain(name, setting.value), "from": setting.origin}

    document = {
        "file": shown(told.file) if told.file else None,
        "values": {name: row(name, s) for name, s in _top(settings).items()},
        "targets": [
            {"target": t.request.target, "values": {name: row(name, s) for name, s in _of_target(t).items()}} for t in settings.targets
        ],
    }
    return dumps(document)


def _plain(name: str, value: Any) -> Any:
    if name in ("per-file-ignores", "severity"):
        return {k: v if isinstance(v, str) else list(v) for k, v in value}
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def _as_text(told: Config, settings: Settings) -> str:
    lines = [
        f"configuration: {shown(told.file)}" if told.file else "configuration: no file (vaelint.toml, or [tool.vaelint] in pyproject.toml)"
    ]
    blocks = [("", _top(settings))] + [(t.request.target, _of_target(t)) for t in settings.targets]
    for title, rows in blocks:
        cells = [(name, _words(name, s), s.origin) for name, s in rows.items()]
        widths = [max((len(c[i]) for c in cells), default=0) for i in (0, 1)]
        lines += ["", visible(title)] if title else [""]
        lines += [visible(f"  {name:<{widths[0]}}  {value:<{min(widths[1], 60)}}  {origin}") for name, value, origin in cells]
    if not settings.targets:
        lines += ["", "no targets are configured or named"]
    return "\n".join(lines) + "\n"


def _words(name: str, setting: Setting) -> str:
    value = _plain(name, setting.value)
    if value in (None, [], {}) and setting.origin == DEFAULT:
        return str(_UNSAID.get(name) or "-")
    if isinstance(value, dict):
        return "; ".join(f"{k}: {v if isinstance(v, str) else ' '.join(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " | ".join(line.strip() for line in text.strip().splitlines())  # a step may have several lines
