"""What a run comes to: its exit code, and its reports where they are wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelint.commands import terminal
from vaelint.errors import UsageError
from vaelint.finding import Certainty, Severity
from vaelint.flight import Checked
from vaelint.report.formats import FORMATS
from vaelint.report.view import RulePage, View
from vaelint.result import TargetResult

EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE, EXIT_INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Report:
    """One report that is wanted: its format, and its file or standard output."""

    form: str
    file: Path | None = None


def exit_code(results: Sequence[TargetResult], bar: Severity, exit_zero: bool) -> int:
    """2 if a target could not be analysed, else 1 if a finding at or above the bar stands, else 0."""
    if any(r.status == "failed" for r in results):
        return EXIT_TROUBLE
    found = any(f.certainty is not Certainty.REFUTED and f.severity.rank >= bar.rank for r in results for f in r.findings)
    return EXIT_FINDINGS if found and not exit_zero else EXIT_CLEAN


def write_reports(results: Sequence[Checked], reports: Sequence[Report], *, color: bool | None, show_refuted: bool, verbose: bool) -> None:
    """Renders and writes each report.

    Raises:
        UsageError: a file that cannot be written.
    """
    bare = [r.result for r in results]
    output = {id(r.result): r.output for r in results}
    for report in reports:
        to_file = report.file is not None
        view = View(
            width=100 if to_file else terminal.width(),
            color=terminal.colour(color, to_file=to_file),
            show_refuted=show_refuted,
            verbose=verbose,
            output=output,
            pages=_pages,
        )
        _write(FORMATS[report.form].load()(bare, view), report.file)


def _pages() -> list[RulePage]:
    from vaelint.catalogue import all_rules

    return [RulePage(r.code, r.name, r.severity.value, r.summary, r.doc) for r in all_rules()]


def _write(text: str, file: Path | None) -> None:
    """To standard output, or to a file at once and whole."""
    if file is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
        return
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(file)
    except OSError as e:
        raise UsageError(f"cannot write {file}: {e.strerror}") from None
