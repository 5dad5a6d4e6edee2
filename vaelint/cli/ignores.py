"""`vaelint check --add-ignore="reason"`: what stands is suppressed where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vaelint.cli import terminal
from vaelint.core.finding import Finding, Severity
from vaelint.core.result import TargetResult
from vaelint.policy.suppress import essential
from vaelint.policy.write_ignores import add


def add_ignores(results: Sequence[TargetResult], reason: str, bar: Severity, root: Path) -> None:
    """Writes a comment for each finding that makes the exit code 1, and takes the finding out; says what could not be done."""
    wanted: dict[str, dict[int, list[str]]] = {}
    for result in results:
        for f in result.findings:
            codes = wanted.setdefault(f.span.file, {}).setdefault(f.span.line, [])
            if f.stands(bar) and not essential(f, result) and f.code not in codes:
                codes.append(f.code)
    done: set[tuple[str, int, str]] = set()
    problems: list[str] = []
    for file, lines in wanted.items():
        asked = {(file, line, code) for line, codes in lines.items() for code in codes}
        if not asked:
            continue
        if not Path(file).resolve().is_relative_to(root.resolve()):
            problems.append(f"{file} is outside {root} and was not changed")
            continue
        try:
            left = add(Path(file), lines, reason)
        except (OSError, ValueError, SyntaxError) as e:
            problems.append(f"{file} was left alone: {e}")
            continue
        done |= asked - {(file, line, code) for line, code in left}
        problems += [f"{file}:{line}: no comment about {code} can be added here" for line, code in sorted(left)]
    for result in results:
        suppressed = [f for f in result.findings if _key(f) in done and f.stands(bar)]
        result.findings = [f for f in result.findings if f not in suppressed]
        result.notes += [f"suppressed: {f.code} {f.name} at {f.span.file}:{f.span.line} (just now)" for f in suppressed]
        result.settle()
    for problem in problems:
        terminal.say(problem)
    files = len({file for file, _, _ in done})
    terminal.say(f"{len(done)} comment{'s' * (len(done) != 1)} written, in {files} file{'s' * (files != 1)}")


def _key(finding: Finding) -> tuple[str, int, str]:
    return finding.span.file, finding.span.line, finding.code
