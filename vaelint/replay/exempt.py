"""Named exemptions: what keeps a detector silent about a place, so that `check -v` can say which one did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import span
from vaelint.replay.traced import Traced

Table = Sequence[tuple[str, Callable[..., bool]]]
"""Names of exemptions, each with the question whether it holds for one candidate."""


@dataclass(frozen=True)
class Exempted:
    """A candidate of a rule that an exemption kept it silent about."""

    code: str
    exemption: str
    place: Span | None

    def to_json(self) -> dict[str, Any]:
        """A row of `exempt` in the JSON report."""
        file, line = (self.place.file, self.place.line) if self.place is not None else ("", 0)
        return {"code": self.code, "exemption": self.exemption, "file": file, "line": line}


def exempt(model: Traced, code: str, table: Table, at: fx.Node | None, *candidate: Any) -> bool:
    """Whether an exemption of `table` holds for a candidate; the first that does is noted, with the place of `at`."""
    name = next((name for name, holds in table if holds(*candidate)), None)
    if name is not None:
        model.exempted.setdefault(Exempted(code, name, span(at) if at is not None else None))
    return name is not None
