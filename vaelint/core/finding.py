"""What a rule says: one frozen value, exactly one primary span. Imports no torch, renders nothing."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, field, replace
from enum import Enum
from typing import Any, Literal

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.core.pages import address
from vaelint.late import dataclass


class Severity(Enum):
    """How bad it is if it is so. A suspicion is never said louder than `vaelint.core.strength` allows."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error: for `--fail-on` and sorting."""
        return {"info": 0, "warning": 1, "error": 2}[self.value]


class Certainty(Enum):
    """How sure we are, and by what. `vaelint.core.strength` decides it."""

    SUSPECTED = "suspected"  # the code looks like it; nothing measured it
    PROVED = "proved"  # the recorded shapes, types, devices and connections alone decide it
    MEASURED = "measured"  # the recorded slice was run again, in double precision; no real run could add to it
    CONFIRMED = "confirmed"  # an experiment on a real run agrees
    REFUTED = "refuted"  # an experiment on a real run disagrees


Outcome = Literal["agrees", "disagrees", "no power", "could not run"]
"""What came of an experiment: what was predicted, or its opposite; it ran and could not have told the two apart; it did not run."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of source. Lines and columns are 1-based, columns count characters, the end column is exclusive."""

    file: str
    line: int
    column: int = 1
    end_line: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A secondary place and what is to be seen there, such as `std: (B, L)`."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class ShapeRow:
    """One row of the shape table: a name, its symbolic shape, a remark, and the shape that it should have where that is known."""

    name: str
    shape: tuple[str, ...]
    remark: str = ""
    wanted: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A claim and what a real run measured of it."""

    claim: str
    predicted: str
    measured: str
    device: str
    detail: str = ""
    outcome: Outcome = "agrees"

    @property
    def decides(self) -> bool:
        """Whether something was measured, one way or the other."""
        return self.outcome in ("agrees", "disagrees")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Replacement text for whole source lines, `line` to `end_line` inclusive; shown as a diff."""

    file: str
    line: int
    end_line: int
    new: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong (or worth knowing) at one place.

    `message` is the rule's fixed headline; shapes and numbers that move go into `labels`, `shapes`, `notes`.
    """

    code: str
    name: str
    severity: Severity
    message: str
    span: Span
    certainty: Certainty = Certainty.SUSPECTED
    label: str = ""  # text beside the carets of the primary span
    labels: tuple[Label, ...] = ()
    shapes: tuple[ShapeRow, ...] = ()
    when: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    help: str = ""
    fix: Suggestion | None = None
    evidence: Evidence | None = None
    facts: dict[str, Any] = field(default_factory=dict, hash=False)  # numbers by name, for JSON readers
    fingerprint: str = ""
    url: str = ""  # of the rule's page; empty if its package tells none
    claim: Claim | None = field(default=None, compare=False, repr=False)  # what a real run is asked; stays in the process
    repair: Repair | None = field(default=None, compare=False, repr=False)  # how it can be mended; stays in the process

    def __post_init__(self) -> None:
        if not self.url:
            object.__setattr__(self, "url", address(self.code))

    def with_certainty(self, certainty: Certainty, evidence: Evidence | None = None) -> Finding:
        """The same finding after a real run spoke."""
        return replace(self, certainty=certainty, evidence=evidence or self.evidence)

    def told(self) -> Finding:
        """The finding as others are told of it: without what the engine has still to do with it, which holds the whole record."""
        return replace(self, claim=None, repair=None)

    @property
    def how_measured(self) -> str:
        """What was done to measure it, with the word "on" and a device behind it: a replay of the record is no run of the step."""
        return "replayed" if self.certainty is Certainty.MEASURED else "ran"

    def stands(self, bar: Severity) -> bool:
        """Whether it makes the exit code 1, where findings from the severity `bar` on do."""
        return self.certainty is not Certainty.REFUTED and self.severity.rank >= bar.rank

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, in the form of the published schema."""
        data = asdict(self.told())
        del data["claim"], data["repair"]
        for row in data["shapes"]:
            if row["wanted"] is None:
                del row["wanted"]
        data["severity"], data["certainty"] = self.severity.value, self.certainty.value
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Finding:
        """The inverse of `to_json`."""
        d = dict(data)
        d["severity"], d["certainty"] = Severity(d["severity"]), Certainty(d["certainty"])
        d["span"] = Span(**d["span"])
        d["labels"] = tuple(Label(Span(**x["span"]), x["text"]) for x in d["labels"])
        d["shapes"] = tuple(
            ShapeRow(x["name"], tuple(x["shape"]), x["remark"], tuple(x["wanted"]) if "wanted" in x else None) for x in d["shapes"]
        )
        d["notes"] = tuple(d["notes"])
        d["fix"] = Suggestion(**d["fix"]) if d.get("fix") else None
        d["evidence"] = Evidence(**d["evidence"]) if d.get("evidence") else None
        return Finding(**d)


def fingerprint(code: str, file: str, source_line: str, occurrence: int) -> str:
    """Names a finding across edits elsewhere in the file: rule, file and the text of its line, never its number.

    `file` is the path in the project (`paths.in_project`), so that the name is the same from every folder.
    """
    text = "\0".join((code, file, " ".join(source_line.split()), str(occurrence)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
