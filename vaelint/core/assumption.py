"""What vaelint took for granted where nobody said it: one frozen value for each argument, binding, object, value and loss. Imports no
torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from vaelint.core.finding import Finding, Span
from vaelint.late import dataclass

Kind = Literal["constructor argument", "loss argument", "loss", "input", "input sizes", "values", "data", "stand-in"]

SIZES = "--input"
"""What stands for the sizes of the inputs among the names of what vaelint chose of a call."""

ROWS = "--rows"
"""What stands for the rows that are left of a batch, where it is vaelint that cut it."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """One choice of vaelint's: what it is for, its value, why this one, and the place that asks for it.

    `varied` says whether another value can take its place: a finding that is gone there is not reported.
    """

    kind: Kind
    name: str
    value: str
    why: str
    where: Span | None = None
    varied: bool = False

    def text(self) -> str:
        """`step=0 (loss argument, asked for at model.py:42)`."""
        place = f", asked for at {self.where.file}:{self.where.line}" if self.where is not None else ""
        return f"{self.name}={self.value} ({self.kind}{place})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Assumption:
        """The inverse of `to_json`."""
        where = data["where"]
        return Assumption(**{**data, "where": Span(**where) if where is not None else None})


class Chosen(str):
    """A note that tells of a choice of vaelint's, and carries it."""

    choice: Assumption | None

    def __new__(cls, text: str, choice: Assumption | None = None) -> Chosen:
        """The note reads as `text`."""
        made = super().__new__(cls, text)
        made.choice = choice
        return made


def told(notes: Iterable[str]) -> list[Assumption]:
    """The choices that some notes tell of, each once."""
    return list(dict.fromkeys(n.choice for n in notes if isinstance(n, Chosen) and n.choice is not None))


def withheld(finding: Finding, chosen: Sequence[Assumption]) -> str:
    """Why a finding is not reported that is gone at other values of what vaelint chose."""
    listed = " or ".join(a.text() for a in chosen)
    return f"{finding.code} at {finding.span.file}:{finding.span.line} is not reported: it occurs only with the guessed {listed}"
