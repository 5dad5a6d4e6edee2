"""A checked target: its result, and what is known beside it. Imports no torch."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from vaelint.core.edits import Proposal
from vaelint.core.result import Request, TargetResult
from vaelint.late import dataclass


@dataclass
class Checked:
    """A target's result, and what its code printed (bounded; never part of a report unless asked for)."""

    result: TargetResult
    output: str = ""
    request: Request = field(default_factory=lambda: Request(""))
    reads: dict[str, Any] | None = None  # what the result was made from; None if its process did not live to say it
    kept: bool = False  # whether it comes from an earlier run
    also: list[TargetResult] = field(default_factory=list)  # of further models, where it is a run that trains several
    proposals: dict[str, list[Proposal]] = field(default_factory=dict)  # when they were asked for: by the fingerprint of the finding
