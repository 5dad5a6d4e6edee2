"""What is not said of a loss whose likelihood was found to be no density: it has no weight, and the KL has none against it."""

from __future__ import annotations

from typing import Any

from vaelint.core.finding import Certainty
from vaelint.core.result import TargetResult

_SAY_SO = ("VAE310", "VAE331")
_WORDS = "a KL, and a reconstruction that is not a log-density: the weight of one against the other is not known"


def unsettle_likelihood(result: TargetResult) -> None:
    """Takes back an effective beta, and the weight of the reconstruction, where a finding says that its formula is off."""
    found = [f for f in result.findings if f.code in _SAY_SO and f.certainty is not Certainty.REFUTED]
    if not found or not result.loss.get("beta"):
        return
    first = found[0]
    reason = f"effective beta: unknown, as the likelihood is not a density ({first.code} at {first.span.file}:{first.span.line})"
    rows = [row | {"weight": "", "value": None} if row["role"] == "reconstruction" else row for row in result.loss["terms"]]
    said: dict[str, Any] = {"terms": rows, "beta": None, "objective": _WORDS, "published": [], "weights": {}}
    result.loss |= said | {"notes": [*result.loss["notes"], reason]}
