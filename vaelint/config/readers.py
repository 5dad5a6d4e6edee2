"""How a value that a user wrote is read, in the configuration and on the command line, and the schema of each. Imports no torch."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from typing import Any

from vaelint.core import pages
from vaelint.core.inputs import InputSet
from vaelint.core.memory import SIZE, size_of
from vaelint.late import dataclass
from vaelint.source.target import parse_init, parse_target

LAWS = ("none", "fast", "all")
SEVERITIES = ("info", "warning", "error")

Schema = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A kind of value. `read` raises ValueError with what is wanted, or UsageError where a text has a grammar of its own."""

    read: Callable[[Any], Any]
    schema: Schema


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


def _seconds(value: Any) -> float:
    number = _number(value)
    if number is None or number <= 0:
        raise ValueError("a number of seconds above 0")
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1 on")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _beta(value: Any) -> float:
    number = _number(value)
    if number is None or number <= 0:
        raise ValueError("a number above 0: the effective beta that you intend")
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


def _severity(value: Any) -> str:
    if value not in SEVERITIES:
        raise ValueError("one of " + ", ".join(f'"{v}"' for v in SEVERITIES))
    return str(value)


def _severities(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ValueError('a table such as {VAE414 = "info"}')
    try:
        return tuple((k, _severity(v)) for k, v in value.items())
    except ValueError as e:
        raise ValueError(f'a table of rules and severities such as {{VAE414 = "info"}}, each {e}') from None


def _per_file(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    try:
        if isinstance(value, dict) and all(value):
            return tuple((k, _texts(v)) for k, v in value.items())
    except ValueError:
        pass
    raise ValueError('a table of patterns and rules such as {"legacy/*" = ["VAE4"]}')


def meant(value: Any) -> list[str]:
    """The words that a value was likely meant to be, where its option takes words."""
    return {"gpu": ["cuda"], "mps": ["cpu"], "no": ["none"], "off": ["none"]}.get(str(value).lower(), [])


def _device(value: Any) -> str:
    text = str(value)
    if text in ("auto", "cuda", "cpu", "none") or (text.startswith("cuda:") and text[5:].isdecimal() and text.isascii()):
        return text
    raise ValueError("auto, cuda, cuda:NUMBER, cpu or none")


def _memory(value: Any) -> str:
    text = str(value)
    if isinstance(value, str) and size_of(text) is not None:
        return text
    raise ValueError("a size such as 4GB or 512MB, or none")


def _command(value: Any) -> tuple[str, ...]:
    try:
        words = shlex.split(_text(value))
    except ValueError:
        words = []
    if not words or (words[0] == "-m" and len(words) < 2):
        raise ValueError('a command such as "train.py --epochs 1" or "-m package.train"')
    return tuple(words[1:] if words[0] in ("python", "python3") and len(words) > 1 else words)


def _laws(value: Any) -> str:
    if value in LAWS:
        return str(value)
    raise ValueError("none, fast or all")


def _home(value: Any) -> str:
    return pages.home(_text(value))


_NAMES: Schema = {"pattern": r"^[^0-9\s=:,.\-][^\s=:,.\-]*$"}
_SOME: list[Schema] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
_BY_NAME: Schema = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": _NAMES}
_ONE_OF: Schema = {"enum": list(SEVERITIES)}

TEXT = Value(_text, {"type": "string", "minLength": 1})
TEXTS = Value(_texts, {"anyOf": _SOME})
FLAG = Value(_flag, {"type": "boolean"})
SECONDS = Value(_seconds, {"type": "number", "exclusiveMinimum": 0})
COUNT = Value(_count, {"type": "integer", "minimum": 1})
BETA = Value(_beta, {"type": "number", "exclusiveMinimum": 0})
MEMORY = Value(_memory, {"type": "string", "pattern": f"^(none|{SIZE})$"})
DEVICE = Value(_device, {"type": "string", "pattern": r"^(auto|cuda|cuda:[0-9]+|cpu|none)$"})
LAW = Value(_laws, {"enum": list(LAWS)})
SEVERITY = Value(_severity, _ONE_OF)
SEVERITY_BY_RULE = Value(_severities, {"type": "object", "additionalProperties": _ONE_OF})
RULES_BY_FILE = Value(_per_file, {"type": "object", "additionalProperties": TEXTS.schema, "propertyNames": {"minLength": 1}})
HOME = Value(_home, {"type": "string", "pattern": pages.FORM})
TARGET = Value(_target, {"type": "string", "pattern": "."})
INPUTS = Value(_inputs, {"anyOf": [*_SOME, _BY_NAME]})
ARGUMENTS = Value(_init, {"anyOf": [*_SOME, {"type": "object", "propertyNames": _NAMES}]})
COMMAND = Value(_command, TEXT.schema)
