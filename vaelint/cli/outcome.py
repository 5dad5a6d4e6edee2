"""What a run comes to: its exit code, and its reports where they are wanted."""

from __future__ import annotations

import difflib
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from vaelint.cli import terminal
from vaelint.cli.exits import EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.pages import HOME, address
from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.policy import baseline
from vaelint.policy.judge import Judgement
from vaelint.report.formats import FORMATS, Format
from vaelint.report.parts.view import RulePage, View


@dataclass(frozen=True)
class Report:
    """One report that is wanted: its format, and its file or standard output."""

    form: str
    file: Path | None = None


@dataclass(frozen=True)
class Shown:
    """What the options say of how to show results; the rest of a `View` is the terminal's or the run's."""

    color: bool | None
    show_refuted: bool = False
    verbose: bool = False
    depth: int | None = None
    everything: bool = False
    docs: str = HOME
    bar: Severity = Severity.WARNING
    timings: bool = False


def reports_for(forms: Sequence[str], path: str | None, formats: Mapping[str, Format] = FORMATS) -> list[Report]:
    """Reads `FORMAT` and `FORMAT:FILE`; `file` is for the one that names none.

    Raises:
        UsageError: an unknown format, a file that cannot be written or is named twice, or two documents for standard output.
    """
    file = Path(path) if path is not None else None
    found: list[Report] = []
    for text in forms or (next(iter(formats)),):
        form, colon, name = text.partition(":")
        if form not in formats:
            near = difflib.get_close_matches(form.lower(), formats, n=1)
            raise UsageError(
                f"--output-format: there is no format {form!r}", f"did you mean {near[0]}?" if near else "there are " + ", ".join(formats)
            )
        if colon and not name:
            raise UsageError(f"--output-format {text}: no file is named", f"write {form}:FILE, or {form} for standard output")
        found.append(Report(form, Path(name) if colon else None))
    bare = [r for r in found if r.file is None]
    if file is not None:
        if len(bare) != 1:
            raise UsageError("--output-file is for one format that names no file", "write --output-format FORMAT:FILE for each")
        found = [Report(r.form, r.file or file) for r in found]
    elif len(bare) > 1 and not all(formats[r.form].lines for r in bare):
        raise UsageError(
            "standard output has room for one document: " + ", ".join(r.form for r in bare),
            "write --output-format FORMAT:FILE for the others",
        )
    files = [r.file.absolute() for r in found if r.file]
    for f in files:
        if files.count(f) > 1:
            raise UsageError(f"two reports are to be written to {f.name}")
        if not f.parent.is_dir() or f.is_dir():  # said before minutes of work, not after them
            raise UsageError(f"cannot write {os.path.relpath(f)}: {'it is a folder' if f.is_dir() else 'there is no such folder'}")
    return found


def exit_code(results: Sequence[TargetResult], bar: Severity, exit_zero: bool, fine: bool = True) -> int:
    """2 if a target was not analysed, or not completely, else 1 if a finding at or above the bar stands or all else is not fine, else 0."""
    if not all(r.whole for r in results):
        return EXIT_TROUBLE
    found = not fine or any(f.stands(bar) for r in results for f in r.findings)
    return EXIT_FINDINGS if found and not exit_zero else EXIT_CLEAN


def told_baseline(judgement: Judgement, file: Path | None, *, written: bool) -> bool:
    """Writes the baseline, or says what of it is stale. Returns whether nothing is."""
    if file is None:
        return True
    if written:
        before = baseline.read(file) if file.exists() else {}
        baseline.write(file, judgement.entries)
        new, gone = len(judgement.entries.keys() - before.keys()), len(before.keys() - judgement.entries.keys())
        terminal.say(f"{terminal.counted(len(judgement.entries), 'finding')} in the baseline {file}: {new} new, {gone} taken out")
        return True
    if judgement.stale:
        rows = [f"  {e.code} {e.name} in {e.file} ({', '.join(e.targets)})" for e in judgement.stale]
        count = len(rows)
        terminal.say(
            f"{count} {'entry' if count == 1 else 'entries'} of the baseline {file} {'is' if count == 1 else 'are'} no longer found:\n"
            + "\n".join(rows[:20] + ([f"  ... and {count - 20} more"] if count > 20 else [])),
            "vaelint check --prune-baseline takes them out",
        )
    return not judgement.stale


def write_reports(
    results: Sequence[Checked],
    reports: Sequence[Report],
    shown: Shown,
    formats: Mapping[str, Format] = FORMATS,
) -> None:
    """Renders and writes each report.

    Raises:
        UsageError: a file that cannot be written.
    """
    bare = [r.result for r in results]
    for report in reports:
        text = formats[report.form].load()(bare, view_of(results, shown, to_file=report.file is not None))
        if report.file is not None:
            _to_file(text, report.file)
        else:
            to_stdout(text, guarded=formats[report.form].lines and report.form != "github")


def view_of(results: Sequence[Checked], shown: Shown, *, to_file: bool = False) -> View:
    """How results are shown: what the options say, and what the terminal is."""
    return View(
        width=100 if to_file else terminal.width(),
        color=terminal.colour(shown.color, to_file=to_file),
        show_refuted=shown.show_refuted,
        verbose=shown.verbose,
        output={id(r.result): r.output for r in results},
        pages=partial(_pages, shown.docs),
        root=_repository(),
        depth=shown.depth,
        everything=shown.everything,
        docs=shown.docs,
        bar=shown.bar,
        timings=shown.timings,
    )


def _pages(docs: str) -> list[RulePage]:
    from vaelint.catalogue import all_rules

    return [RulePage(r.code, r.name, r.severity.value, r.summary, r.doc, address(r.code, r.url, docs)) for r in all_rules()]


def _repository() -> Path:
    """What paths in the reports for platforms are relative to: the checkout."""
    for name in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        if (told := os.environ.get(name)) and Path(told).is_dir() and Path.cwd().resolve().is_relative_to(Path(told).resolve()):
            return Path(told).resolve()
    here = Path.cwd().resolve()
    return next((d for d in (here, *here.parents) if (d / ".git").exists()), here)


def write_text(text: str, file: Path | None) -> None:
    """A document to a file, else to standard output. Raises UsageError."""
    if file is None:
        to_stdout(text, guarded=False)
    else:
        _to_file(text, file)


def to_stdout(text: str, *, guarded: bool) -> None:
    """Writes to standard output, at once. GitHub takes what a step prints for commands: nothing in a report for people may be one.

    Documents escape what matters themselves: they are piped, and must stay whole.
    """
    terminal.PRINTED.append(text)
    if guarded and os.environ.get("GITHUB_ACTIONS") == "true" and ("::" in text or "##[" in text):
        terminal.PRINTED.append(None)
        token = secrets.token_hex(16)  # what user code cannot know, it cannot end
        text = f"::stop-commands::{token}\n{text}" + ("" if text.endswith("\n") else "\n") + f"::{token}::\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def _to_file(text: str, file: Path) -> None:
    """A regular file is replaced at once and whole; what is none (/dev/stdout, a pipe) is written to."""
    try:
        real = file.resolve()
        if real.exists() and not real.is_file():
            with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            return
        new = real.with_name(f".{real.name}.{os.getpid()}")
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(real)
    except OSError as e:
        raise UsageError(f"cannot write {file}: {e.strerror}") from None
