"""The one place where findings are made and get their fingerprint. Imports no torch."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.core.finding import Finding, Label, Severity, ShapeRow, Span, Suggestion, fingerprint
from vaelint.core.paths import in_project
from vaelint.core.strength import BEFORE, Basis
from vaelint.late import dataclass


@dataclass(frozen=True)
class Kind:
    """What all findings of one rule have in common."""

    code: str
    name: str
    severity: Severity
    message: str  # the headline
    basis: Basis = ""
    url: str = ""  # of the rule's page; empty if its package tells none


@dataclass(frozen=True)
class Found:
    """What a rule's check yields: a place and the facts there."""

    span: Span | None
    label: str = ""
    labels: tuple[Label, ...] = ()
    shapes: tuple[ShapeRow, ...] = ()
    when: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    help: str = ""
    fix: Suggestion | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    claim: Claim | None = None
    severity: Severity | None = None  # info in place of the rule's own, where an explicit choice of the user is in the way
    basis: Basis | None = None  # in place of the rule's own
    repair: Repair | None = None


def sign(kind: Kind, found: Found, place: Span, line: str, occurrence: int = 0) -> Finding:
    """The finding that says it: suspected, unless its basis is what was recorded or replayed.

    Args:
        kind: whose finding it is.
        found: what was found.
        place: where it stands if `found` names no place.
        line: what tells it from others of its kind in the file: the text of its line.
        occurrence: how many of its kind come before it on lines of that text.
    """
    where = found.span or place
    return Finding(
        code=kind.code,
        name=kind.name,
        severity=found.severity or kind.severity,
        message=kind.message,
        span=where,
        certainty=BEFORE[kind.basis if found.basis is None else found.basis],
        label=found.label,
        labels=tuple(x for x in found.labels if x.span != where),
        shapes=found.shapes,
        when=found.when,
        why=found.why,
        notes=found.notes,
        help=found.help,
        fix=found.fix,
        facts=found.facts,
        fingerprint=fingerprint(kind.code, in_project(where.file), line, occurrence),
        url=kind.url,
        claim=found.claim,
        repair=found.repair,
    )
