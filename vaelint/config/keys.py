"""The keys of `[tool.vaelint]` and of its target tables: how each is read, and what an editor is told of it. Imports no torch."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vaelint.core import pages
from vaelint.core.inputs import InputSet
from vaelint.core.memory import SIZE, size_of
from vaelint.source.target import parse_init, parse_target

SEVERITIES = ("info", "warning", "error")
DEVICE = r"^(auto|cuda|cuda:[0-9]+|cpu|none)$"

Schema = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """One key. `read` raises ValueError with what is wanted, or UsageError; `field` is its name in `Config` or `Request`."""

    name: str
    field: str
    read: Callable[[Any], Any]
    schema: Schema
    about: str


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("a text or a list of texts")
    return tuple(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def seconds(value: Any) -> float:
    """A time limit. Raises ValueError for what is none."""
    number = _number(value)
    if number is None or number <= 0:
        raise ValueError("a number of seconds above 0")
    return number


def whole(value: Any) -> int:
    """A number of processes. Raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1 on")
    return value


LAWS = ("none", "fast", "all")


def flag(value: Any) -> bool:
    """`true` or `false`. Raises ValueError that says so."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _beta(value: Any) -> float:
    number = _number(value)
    if number is None or number <= 0:
        raise ValueError("a number above 0: the effective beta that is meant")
    return number


def _inputs(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        texts = tuple(f"{k}={v}" for k, v in value.items())
    else:
        try:
            texts = _texts(value)
        except ValueError:
            raise ValueError('a text such as "32x784", a list of such, or a table of them by name') from None
    InputSet.from_texts(texts)
    return texts


def _init(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        texts = tuple(f"{k}={v!r}" for k, v in value.items())
    else:
        try:
            texts = _texts(value)
        except ValueError:
            raise ValueError('a table such as {latent_dim = 20}, or a list of "key=value"') from None
    parse_init(texts)
    return texts


def _target(value: Any) -> str:
    parse_target(_text(value))
    return str(value)


def severity(value: Any) -> str:
    """`info`, `warning` or `error`. Raises ValueError that says so."""
    if value not in SEVERITIES:
        raise ValueError("one of " + ", ".join(f'"{v}"' for v in SEVERITIES))
    return str(value)


def _severities(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ValueError('a table such as {VAE414 = "info"}')
    try:
        return tuple((k, severity(v)) for k, v in value.items())
    except ValueError as e:
        raise ValueError(f'a table of rules and severities such as {{VAE414 = "info"}}, each {e}') from None


def _per_file(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    try:
        if isinstance(value, dict) and all(value):
            return tuple((k, _texts(v)) for k, v in value.items())
    except ValueError:
        pass
    raise ValueError('a table of patterns and rules such as {"legacy/*" = ["VAE4"]}')


def device(value: Any) -> str:
    """`auto`, `cuda`, `cuda:1`, `cpu` or `none`. Raises ValueError that says so."""
    text = str(value)
    if text in ("auto", "cuda", "cpu", "none") or (text.startswith("cuda:") and text[5:].isdecimal() and text.isascii()):
        return text
    raise ValueError("auto, cuda, cuda:NUMBER, cpu or none")


def memory(value: Any) -> str:
    """A size such as 4GB or 512MB, or `none`. Raises ValueError that says so."""
    text = str(value)
    if isinstance(value, str) and size_of(text) is not None:
        return text
    raise ValueError("a size such as 4GB or 512MB, or none")


def command(value: Any) -> tuple[str, ...]:
    """The words of a command that trains. Raises ValueError that says what one is."""
    try:
        words = shlex.split(_text(value))
    except ValueError:
        words = []
    if not words or (words[0] == "-m" and len(words) < 2):
        raise ValueError('a command such as "train.py --epochs 1" or "-m package.train"')
    return tuple(words[1:] if words[0] in ("python", "python3") and len(words) > 1 else words)


def laws(value: Any) -> str:
    """`none`, `fast` or `all`. Raises ValueError that says so."""
    if value in LAWS:
        return str(value)
    raise ValueError("none, fast or all")


def _home(value: Any) -> str:
    return pages.home(_text(value))


_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0}
_MEMORY: Schema = {"type": "string", "pattern": f"^(none|{SIZE})$"}
_DEVICE: Schema = {"type": "string", "pattern": DEVICE}
_LAWS: Schema = {"enum": list(LAWS)}
_SEVERITY: Schema = {"enum": list(SEVERITIES)}
_NAMES: Schema = {"pattern": r"^[^0-9\s=:,.\-][^\s=:,.\-]*$"}
_BY_NAME: Schema = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": _NAMES}

TOP = (
    Key("select", "select", _texts, _TEXTS, "Only these rules: codes, prefixes such as VAE2, names, ALL. Default: all but VAE8."),
    Key("ignore", "ignore", _texts, _TEXTS, "Not these rules."),
    Key("extend-select", "extend_select", _texts, _TEXTS, "These rules as well as the selected ones."),
    Key(
        "per-file-ignores",
        "per_file_ignores",
        _per_file,
        {"type": "object", "additionalProperties": _TEXTS, "propertyNames": {"minLength": 1}},
        "Rules that say nothing in the files that a pattern matches; patterns are relative to this file, ! turns one around.",
    ),
    Key(
        "severity",
        "severity",
        _severities,
        {"type": "object", "additionalProperties": _SEVERITY},
        "Severities of rules in place of their own: a code, a prefix or a name each; the longest match counts.",
    ),
    Key("fail-on", "fail_on", severity, _SEVERITY, "Findings from this severity on give exit code 1. Default: warning."),
    Key("baseline", "baseline", _text, _TEXT, "File of known findings that are not reported, relative to this file."),
    Key(
        "jobs",
        "jobs",
        whole,
        {"type": "integer", "minimum": 1},
        "Targets checked at once. Default: one a core, at most 4.",
    ),
    Key("timeout", "timeout", seconds, _SECONDS, "Time limit for a target in seconds. Default: 120."),
    Key(
        "max-memory",
        "max_memory",
        memory,
        _MEMORY,
        'Memory that a target may take, all its processes together: "4GB", "none". Default: half of what is free, at least 1 GB.',
    ),
    Key("device", "device", device, _DEVICE, "Where the real pass runs: auto, cuda, cuda:NUMBER, cpu, or none. Default: auto."),
    Key("perturb", "perturb", flag, {"type": "boolean"}, "Also give constructor arguments other values, one at a time. Default: false."),
    Key("laws", "laws", laws, _LAWS, "Laws measured on the real run: none, fast, or all. Default: all."),
    Key("allow-no-loss", "allow_no_loss", flag, {"type": "boolean"}, "A target without a loss is not incomplete. Default: false."),
    Key(
        "docs-url",
        "docs_url",
        _home,
        {"type": "string", "pattern": pages.FORM},
        "Where the pages of vaelint's documentation are, for the addresses in reports: https://docs.my.org/vaelint/.",
    ),
)

TARGET = (
    Key(
        "target", "target", _target, {"type": "string", "pattern": "."}, "FILE.py:NAME or package.module:NAME, with constructor arguments."
    ),
    Key("input", "inputs", _inputs, {"anyOf": [*_TEXTS["anyOf"], _BY_NAME]}, "The inputs, each [NAME=]SHAPE[:DTYPE][RANGE]."),
    Key(
        "init",
        "init",
        _init,
        {"anyOf": [*_TEXTS["anyOf"], {"type": "object", "propertyNames": _NAMES}]},
        'Constructor arguments: a table, or "key=value" with Python literals.',
    ),
    Key("loss", "loss", _text, _TEXT, "The loss function: a name, or train.py:loss_fn."),
    Key("step", "step", _text, _TEXT, "One training step that leaves `loss`."),
    Key("run", "run", command, _TEXT, "In place of a target: a command that trains, which is observed: train.py --epochs 1."),
    Key("device", "device", device, _DEVICE, "As above, for this target."),
    Key("timeout", "timeout", seconds, _SECONDS, "As above, for this target."),
    Key("max-memory", "max_memory", memory, _MEMORY, "As above, for this target."),
    Key("perturb", "perturb", flag, {"type": "boolean"}, "As above, for this target."),
    Key("laws", "laws", laws, _LAWS, "As above, for this target."),
    Key("allow-no-loss", "allow_no_loss", flag, {"type": "boolean"}, "As above, for this target: it has none."),
    Key(
        "beta",
        "beta",
        _beta,
        {"type": "number", "exclusiveMinimum": 0},
        "The effective beta that is meant. Where it is what is measured (within 1 %), the weight of the KL is no finding.",
    ),
)


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
