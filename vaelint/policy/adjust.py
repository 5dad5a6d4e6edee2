"""What the configuration says of findings: severities, files that are spared, an effective beta that is meant. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from vaelint.core.finding import Finding, Severity
from vaelint.core.paths import real
from vaelint.core.result import Request, TargetResult
from vaelint.policy.suppress import essential

CLOSE = 0.01  # an accepted beta is written by hand, with two or three digits


def accept_beta(result: TargetResult, request: Request) -> None:
    """Takes out the findings about the KL's weight where the effective beta is the one that is meant.

    Only a beta that holds at every batch size can be meant: the number for one batch size says nothing of the next.
    """
    if request.beta is None:
        return
    kept = []
    for f in result.findings:
        measured = f.facts.get("beta")
        if f.facts.get("at_any_batch") and isinstance(measured, int | float) and math.isclose(measured, request.beta, rel_tol=CLOSE):
            result.notes.append(f"accepted: {f.code} {f.name} at {f.span.file}:{f.span.line} (beta = {request.beta:g} is configured)")
        else:
            kept.append(f)
    result.findings = kept
    value = (result.loss.get("beta") or {}).get("value")
    if isinstance(value, int | float) and not math.isclose(value, request.beta, rel_tol=CLOSE):
        result.notes.append(f"beta = {request.beta:g} is configured as the intended one; {value:.6g} was measured")


def set_severities(result: TargetResult, wanted: Sequence[tuple[str, str]], own: Mapping[str, Severity]) -> None:
    """Gives findings the configured severity; `own` has those of the rules, by code.

    A finding that its rule took for less serious than usual may be lowered further, and is not raised.
    """
    for i, f in enumerate(result.findings):
        matches = [(len(prefix), Severity(s)) for prefix, s in wanted if f.code.startswith(prefix)]
        if not matches:
            continue
        new = max(matches, key=lambda m: m[0])[1]
        if f.severity is own.get(f.code, f.severity) or new.rank < f.severity.rank:
            result.findings[i] = replace(f, severity=new)


def spare_files(result: TargetResult, patterns: Sequence[tuple[str, tuple[str, ...]]], root: Path) -> None:
    """Takes out the findings that the configuration does not want in their file."""
    kept = []
    for f in result.findings:
        pattern = (
            None if essential(f, result) else next((p for p, codes in patterns if f.code.startswith(codes) and matches(f, p, root)), None)
        )
        if pattern is None:
            kept.append(f)
        else:
            result.notes.append(f"ignored: {f.code} {f.name} at {f.span.file}:{f.span.line} (per-file-ignores {pattern!r})")
    result.findings = kept


def matches(finding: Finding, pattern: str, root: Path) -> bool:
    """Whether a finding's file is meant by a pattern: its path from `root`, its name, or a folder that it lies in."""
    if pattern.startswith("!"):
        return not matches(finding, pattern[1:], root)
    file = Path(os.path.relpath(real(finding.span.file), root.resolve())).as_posix()
    forms = {pattern, pattern.replace("**/", ""), pattern.rstrip("/") + "/*"}
    return any(fnmatchcase(file, p) or ("/" not in p and fnmatchcase(file.rpartition("/")[2], p)) for p in forms)
