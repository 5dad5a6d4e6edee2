"""What a law is, and what it says when it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from vaelint.core.finding import Severity
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.rule import Found

Cost = Literal["replay", "fast", "all"]
"""replay: slices of the static record, no real run; fast: one real run, of which parts run again; all: further whole runs."""


@dataclass(frozen=True)
class Broken:
    """A law that did not hold: the rule that has the words, the place and the reason, what was predicted and what was measured."""

    rule: str  # the rule's name
    found: Found
    predicted: str
    measured: str
    severity: Severity | None = None


@dataclass(frozen=True)
class Law:
    """A prediction that every correct model meets. `holds` yields where it was broken, and raises CannotMeasureError without power."""

    name: str
    says: str
    covered: tuple[str, ...]  # code prefixes of findings that speak of the same: then the law adds nothing
    cost: Cost
    broken: Callable[[Bench], Iterator[Broken]]


LAWS: list[Law] = []


def law(name: str, says: str, *, covered: tuple[str, ...], cost: Cost = "fast") -> Callable[[Callable[[Bench], Iterator[Broken]]], Law]:
    """Declares a law.

    Args:
        name: words with hyphens; the report's evidence and `--laws` speak of it by this name.
        says: the prediction, one sentence.
        covered: codes, or their beginnings, of findings that say the same.
        cost: what it takes to measure it.
    """

    def declare(broken: Callable[[Bench], Iterator[Broken]]) -> Law:
        made = Law(name, says, covered, cost, broken)
        LAWS.append(made)
        return made

    return declare
