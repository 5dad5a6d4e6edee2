"""What a message says in words of the command line, in those of Python: `--input x=32x784` reads `input="x=32x784"`. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import replace

from vaelint.config.options import TABLE
from vaelint.core.result import TargetResult

_QUOTED = r"\"[^\"]*\"|'[^']*'"
_VALUES = {  # what follows an option in a message and is its value, not the next word of the sentence
    "input": r"[\w=@]*[=\d][^\s;]*?(?:\.\.\.|(?<=\))|[^\s;,.:])(?=[,.:]?(?:[\s;]|$))",
    "init": r"\w+=[^\s;,]+",
    "loss": r"[\w./]+:\w+|\w*[_A-Z]\w*",
    "device": r"auto|none|cpu|cuda(?::\d+)?",
    "select": r"VAE\w*",
    "ignore": r"VAE\w*",
}
_PYTHON = {o.name[2:]: (o.kind, o.name[2:].replace("-", "_")) for e in TABLE if {"check", "observe"} & {*e.python} for o in e.options}
_SAID = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
_CALL = re.compile(rf"vaelint check (?P<target>[^\s-]\S*)(?P<options>(?: --[a-z-]+ (?:{_QUOTED}|\S+))+)")
_CONFIGURED = re.compile(r", or [a-z-]+ = true in its table")


def as_python(text: str) -> str:
    """The same message for somebody who called `vaelint.check`."""
    return _options(_CALL.sub(_call, _CONFIGURED.sub("", text)))


def in_python(result: TargetResult) -> TargetResult:
    """The result with all that it says in Python's words; changed in place."""
    say = as_python
    result.findings = [
        replace(f, message=say(f.message), why=say(f.why), help=say(f.help), notes=tuple(map(say, f.notes))) for f in result.findings
    ]
    result.notes = [say(n) for n in result.notes]
    result.incomplete = [{**row, "reason": say(row["reason"]), "help": say(row["help"])} for row in result.incomplete]
    result.not_applicable = [{**row, "reason": say(row["reason"])} for row in result.not_applicable]
    result.assumptions = [replace(a, why=say(a.why)) for a in result.assumptions]
    if result.confirm.get("reason"):
        result.confirm = {**result.confirm, "reason": say(result.confirm["reason"])}
    return result


def _call(found: re.Match[str]) -> str:
    """`vaelint check VAE --input 32x784` as a call; of a file, its text."""
    target, rest = found["target"], found["options"]
    end = rest[-1] if rest[-1] in ",;." else ""
    options = [_options(f"--{one}") for one in rest.removesuffix(end).split(" --")[1:]]
    shown = f'"{target}"' if ":" in target else target
    return f"vaelint.check({', '.join([shown, *options])}){end}"


def _options(text: str) -> str:
    """Each option of the text as an argument; one that Python has not, as the command that takes it."""
    parts, at = [], 0
    while (found := _SAID.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        at = found.end()
        kind, name = _PYTHON.get(found[1], ("", ""))
        if not name:
            parts.append(f"vaelint check --{found[1]}")
            continue
        value = re.compile(rf"[ =]({_QUOTED}|{_VALUES.get(name, '(?!)')})").match(text, at) if kind not in ("flag", "switch") else None
        if value is not None:
            at = value.end()
            parts.append(f"{name}={_table(value[1]) if name == 'init' else _text(value[1])}")
        else:
            parts.append(f"{name}=True" if kind in ("flag", "switch") else f"{name}=")
    return "".join([*parts, text[at:]])


def _table(value: str) -> str:
    """A constructor argument as the dict that Python takes."""
    key, _, given = value.strip("\"'").partition("=")
    return f'{{"{key}": {given}}}'


def _text(value: str) -> str:
    """A value between quotation marks; the name of a function without."""
    if value[0] in "\"'":
        return value
    return value if value.isidentifier() and value not in ("auto", "none", "cpu", "cuda") else f'"{value}"'
