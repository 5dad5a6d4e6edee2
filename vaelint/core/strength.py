"""How strongly a finding may be said: the one place that turns what was measured into a certainty and a severity. Imports no torch.

No measurement, no proof. A finding begins as its rule's basis allows, an experiment moves it, and what stays suspected is not said loudly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from vaelint.core.finding import Certainty, Evidence, Finding, Outcome, Severity

if TYPE_CHECKING:
    from vaelint.core.result import TargetResult

Basis = Literal["", "shapes", "replay"]
"""What a rule rests on before any real run.

"shapes": the recorded shapes, types, devices and connections alone decide it. "replay": the recorded slice was run again in double
precision, which is a measurement. "": neither; only its experiment can tell.
"""

BEFORE: dict[str, Certainty] = {"shapes": Certainty.PROVED, "replay": Certainty.MEASURED, "": Certainty.SUSPECTED}
"""The certainty of a finding that no real run has spoken of."""

RAN = ("ran", "raised")
"""Outcomes of a real pass in which experiments had their chance."""


def weighed(finding: Finding, evidence: Evidence) -> Finding:
    """The finding after its experiment: only what was measured confirms or refutes.

    What was shown by shapes or by a replay stands where the run could not show it either way. Where the experiment could not even run, the
    model does something that the replay may have misread: only shapes stand then.
    """
    after: dict[Outcome, Certainty] = {"agrees": Certainty.CONFIRMED, "disagrees": Certainty.REFUTED, "no power": finding.certainty}
    could_not = Certainty.PROVED if finding.certainty is Certainty.PROVED else Certainty.SUSPECTED
    return finding.with_certainty(after.get(evidence.outcome, could_not), evidence)


def loudest(certainty: Certainty, ran: bool) -> Severity:
    """The highest severity that a certainty carries: a suspicion is a remark, or a warning where no real pass could measure it."""
    if certainty is not Certainty.SUSPECTED:
        return Severity.ERROR
    return Severity.INFO if ran else Severity.WARNING


def as_said(result: TargetResult) -> TargetResult:
    """The result with no finding louder than its certainty carries; the one given keeps the severities of its rules, and the claims."""
    ran = result.confirm.get("outcome") in RAN
    said = [replace(f.told(), severity=min(f.severity, loudest(f.certainty, ran), key=lambda s: s.rank)) for f in result.findings]
    spoken = replace(result, findings=said)
    spoken.settle()
    return spoken
