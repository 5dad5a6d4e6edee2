"""What a finding says beyond its words: what a real run would show, and how it can be mended. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """What a finding predicts of a real run: the name of an experiment, what it is about, and the prediction in words."""

    experiment: str
    predicted: str
    about: dict[str, Any] = field(default_factory=dict)  # nodes, numbers, names; read by the experiment


@dataclass(frozen=True)
class Repair:
    """How a finding can be mended: the name of a repair, and what it is about. Edits are made only when they are asked for."""

    kind: str
    about: dict[str, Any] = field(default_factory=dict)  # nodes, places, numbers; read by the repair
    sure: bool = False  # whether the likeliest edit is shown with the finding also where no --diff or --fix has checked it
