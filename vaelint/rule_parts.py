"""Where the parts of a rule are written: its facts, experiments, repairs and laws. Read from the sources; none of them is imported."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from vaelint.core.definitions import source_of
from vaelint.late import dataclass
from vaelint.rule import Rule, fact_definition

Kind = Literal["rule", "fact", "experiment", "repair", "law", "reported"]
"""experiment, repair: named by the type of the claim or the repair. reported: a file that makes findings of the code without the rule's
check, as the diagnosis of what raised and the real pass do."""

_HERE = os.path.dirname(__file__)
_REGISTERED = re.compile(r"^@(?P<kind>experiment|repair)\(\s*(?P<name>\w+)", re.MULTILINE)
_MADE = re.compile(r"\b([A-Z]\w+)\(")
_LAW = re.compile(r'^@law\(\s*"(?P<name>[\w-]+)"', re.MULTILINE)
_SPEAKS_ONLY = re.compile(r"^vaelint/(laws|faults|report)/|^vaelint/(catalogue|rule)\.py$")
"""Files that name codes and report none: which rule speaks of the same, whose exemption it is, how a code is written."""


@dataclass(frozen=True)
class Part:
    """One part of a rule and its place. `line` is 0 where that is the whole file."""

    kind: Kind
    name: str
    file: str
    line: int = 0

    @property
    def place(self) -> str:
        """`vaelint/faults/schedule/weights.py:27`."""
        return f"{self.file}:{self.line}" if self.line else self.file


def parts(rule: Rule) -> list[Part]:
    """The parts of a rule, itself first.

    An experiment or a repair is a rule's where the rule, or the file of a fact that it reads, makes a claim or a repair of that type.
    """
    file, text = source_of(rule.module)
    found = [Part("rule", rule.code, _shown(file))]
    for name in rule.facts:
        if (at := fact_definition(name)) is not None:
            found.append(Part("fact", name, _shown(at.file), at.line))
            text += source_of(at.module)[1]
    made = set(_MADE.findall(text))
    found += [part for part in _registered() if part.name in made]
    found += [part for part, said in _laws() if f'"{rule.name}"' in said]
    return found + [Part("reported", rule.code, file) for file, said in _others() if f'"{rule.code}"' in said or f'"{rule.name}"' in said]


def rules_with(name: str, rules: Sequence[Rule]) -> list[tuple[Rule, Part]]:
    """The rules that have a part of that name: a fact by its whole name or its last word, an experiment, a repair, a law."""
    found = ((rule, part) for rule in rules for part in parts(rule) if part.kind not in ("rule", "reported"))
    return [(rule, part) for rule, part in found if name in (part.name, re.split(r"[.:]", part.name)[-1])]


def _shown(file: str) -> str:
    """A file from the folder that holds the package on: `vaelint/...`, and `rules/...` in a checkout."""
    for root in (_HERE, os.path.dirname(file)):
        above = os.path.dirname(root) + os.sep
        if file.startswith(above):
            return file[len(above) :].replace(os.sep, "/")
    return file


def _named(pattern: re.Pattern[str], file: str, text: str) -> Iterator[Part]:
    for m in pattern.finditer(text):
        kind: Kind = "law" if pattern is _LAW else "repair" if m["kind"] == "repair" else "experiment"
        yield Part(kind, m["name"], file, text.count("\n", 0, m.start("name")) + 1)


@functools.cache
def _sources() -> tuple[tuple[str, str], ...]:
    """The package's files, and their text."""
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(_HERE) for name in names if name.endswith(".py"))
    return tuple((_shown(path), _text(path)) for path in paths)


def _text(path: str) -> str:
    with open(path, "rb") as file:  # some 700 files: without the layer that reads line by line
        return file.read().decode("utf-8")


@functools.cache
def _registered() -> tuple[Part, ...]:
    """Experiments and repairs, with the places where they are registered."""
    return tuple(part for file, text in _sources() if "/faults/" in file for part in _named(_REGISTERED, file, text))


@functools.cache
def _laws() -> tuple[tuple[Part, str], ...]:
    """Laws, each with its text up to the next one: it names the rules that have the words for what it measures."""
    found = list[tuple[Part, str]]()
    for file, text in _sources():
        laws = list(_named(_LAW, file, text)) if "/laws/" in file else []
        lines = text.splitlines()
        ends = [*(part.line - 1 for part in laws), len(lines)][1:]
        found += [(part, "\n".join(lines[part.line - 1 : end])) for part, end in zip(laws, ends, strict=True)]
    return tuple(found)


@functools.cache
def _others() -> tuple[tuple[str, str], ...]:
    """What can report without a rule's check."""
    return tuple((file, text) for file, text in _sources() if not _SPEAKS_ONLY.search(file))
