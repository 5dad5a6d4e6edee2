"""Repairs that hold: each proposal is checked on the edited source before it is kept, together with those kept before it.

An edit is kept only if a full check of the edited source, in a process of its own, finds the finding gone and none new, loses no rule
that applied before, and runs the real pass. The user's files are not touched meanwhile: the process reads the edited text in their place.
Imports no torch and runs no user code.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from pathlib import Path

from vaelint.core.checked import Checked
from vaelint.core.edits import Proposal, applied, suggestion
from vaelint.core.errors import UsageError
from vaelint.core.finding import Certainty, Finding, Severity, Suggestion
from vaelint.core.paths import regular
from vaelint.core.result import Request, TargetResult
from vaelint.late import dataclass

Run = Callable[[Request], Checked]


@dataclass(frozen=True)
class Fix:
    """A finding and the edit that mends it."""

    target: str
    finding: Finding
    proposal: Proposal
    lines: Suggestion | None = None  # the same as whole lines of the file on the disk, where it touches one place of it


@dataclass
class Mended:
    """Edited texts by file, the fixes in them, the findings without one and why, and each target's check of the edited source."""

    texts: dict[str, str] = field(default_factory=dict)
    fixes: list[Fix] = field(default_factory=list)
    left: list[tuple[Finding, str]] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)  # the edited files as they were when the edits were made


def mend(checked: Sequence[Checked], run: Run, leave: Sequence[set[str]] = ()) -> Mended:
    """Mends what can be mended, finding by finding, target by target.

    Args:
        checked: the targets as they are, checked with `Request.fixes`.
        run: checks a request.
        leave: for each target, the fingerprints of findings that are somebody's decision, and so none of ours.
    """
    done = Mended(checked=list(checked))
    for index, first in enumerate(checked):
        now = run(_edited(first.request, done.texts)) if done.texts else first
        tried, left = set(leave[index]) if leave else set[str](), list[tuple[Finding, str]]()
        while (finding := _next(now, tried)) is not None:
            tried.add(finding.fingerprint)
            reason = ""  # that of the likeliest: what the others would break is of no use to who mends it by hand
            for proposal in now.proposals.get(finding.fingerprint, ()):
                texts, after, against = _tried(now, finding, proposal, done, index, run)
                reason = reason or against
                if after is not None:
                    lines = _as_lines(proposal, done, texts)
                    done.texts, now = texts, after
                    done.fixes.append(Fix(now.result.target, finding, proposal, lines))
                    break
            else:
                left.append((finding, reason or "no repair follows from what was found"))
        done.checked[index] = now
        still = {f.fingerprint for f in _standing(now.result)}  # an edit for one finding may have mended another
        done.left += [(finding, reason) for finding, reason in left if finding.fingerprint in still]
    return done


def _as_lines(proposal: Proposal, done: Mended, texts: dict[str, str]) -> Suggestion | None:
    """A proposal as lines of the file on the disk; None once an earlier fix has moved its lines or stands in them."""
    file = next(iter(proposal.files))
    now, disk = done.texts.get(file, done.before[file]), done.before[file]
    found = suggestion(now, proposal)
    if found is None or now.count("\n") != disk.count("\n"):
        return None
    rows = slice(found.line - 1, found.end_line)
    return found if now.split("\n")[rows] == disk.split("\n")[rows] else None


def _tried(
    now: Checked, finding: Finding, proposal: Proposal, done: Mended, index: int, run: Run
) -> tuple[dict[str, str], Checked | None, str]:
    """The texts with one more proposal and the check that speaks for them; None in its place, and why, where it does not."""
    texts = dict(done.texts)
    for file in proposal.files:
        old = texts[file] if file in texts else read(file)
        if old is not None:
            done.before.setdefault(file, old)
        new = applied(old, (e for e in proposal.edits if e.span.file == file)) if old is not None else None
        if new is None or new == old or not _ours_to_edit(file):
            return texts, None, "its file cannot be edited"
        texts[file] = new
    after = run(_edited(now.request, texts))
    reason = objection(now.result, finding, after.result)
    for other, earlier in enumerate(done.checked):
        if not reason and other != index:
            again = run(_edited(earlier.request, texts)).result
            reason = _new(earlier.result, again) and f"after the repair, {earlier.result.target} has another finding"
            reason = reason or (
                "after the repair, another target cannot be analysed" if _failed(again) and not _failed(earlier.result) else ""
            )
    return (texts, None, reason) if reason else (texts, after, "")


def objection(before: TargetResult, finding: Finding, after: TargetResult) -> str:
    """What speaks against an edit, "" if nothing does."""
    if _failed(after):
        return "after the repair, the code cannot be analysed"
    if after.confirm.get("outcome") != "ran":
        return f"after the repair, the real pass does not run ({after.confirm.get('reason') or after.confirm.get('outcome')})"
    if sum(f.code == finding.code for f in after.findings) >= sum(f.code == finding.code for f in before.findings):
        return "after the repair, it is still found"
    if new := _new(before, after):
        return f"after the repair, {new} is found"
    stopped = before.confirm.get("outcome") == "raised" and not before.quiet
    if len(after.gaps()) > len(before.gaps()):
        return f"after the repair, {after.gaps()[-1][0]}"
    lost = {n["code"] for n in after.not_applicable} - {n["code"] for n in before.not_applicable}
    if lost and not _failed(before) and not stopped:
        return f"after the repair, {min(lost)} can no longer be asked"
    return ""


def _new(before: TargetResult, after: TargetResult) -> str:
    """The first code that is found more often than before."""
    old, now = Counter(f.code for f in before.findings), Counter(f.code for f in _standing(after))
    return min((code for code, count in now.items() if count > old[code]), default="")


def _standing(result: TargetResult) -> list[Finding]:
    return [f for f in result.findings if f.certainty is not Certainty.REFUTED]


def _failed(result: TargetResult) -> bool:
    return result.status == "failed"


def _next(now: Checked, tried: set[str]) -> Finding | None:
    """The next finding to mend: one that stands and is no mere remark."""
    wanted = (f for f in _standing(now.result) if f.severity is not Severity.INFO and f.fingerprint not in tried)
    return next(wanted, None)


def _edited(request: Request, texts: dict[str, str]) -> Request:
    return replace(request, overlay=tuple(sorted(texts.items())))


def _ours_to_edit(file: str) -> bool:
    """Whether a file is a plain one of the user's that may be written; installed packages are not."""
    path = Path(file)
    return path.is_file() and os.access(path, os.W_OK) and not {"site-packages", "dist-packages"} & set(path.resolve().parts)


def read(file: str) -> str | None:
    """A file's text with its line ends as they are; None where it is not UTF-8 or cannot be read."""
    try:
        return regular(file).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def write(texts: dict[str, str], before: dict[str, str]) -> None:
    """Writes each file at once and whole, through a new file beside it. Raises UsageError where a file changed since it was checked."""
    for file in texts:
        if read(file) != before[file]:
            raise UsageError(f"{file} was changed while it was checked", "nothing was written; run it again")
    for file, text in texts.items():
        path = Path(file).resolve()
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            new.write_bytes(text.encode("utf-8"))
            new.chmod(path.stat().st_mode & 0o7777)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise UsageError(f"cannot write {file}: {error.strerror}") from None


def unified(texts: dict[str, str], before: dict[str, str]) -> str:
    """The changes as one patch, which `patch -p1` and `git apply` take."""
    import difflib

    parts: list[str] = []
    for file, text in sorted(texts.items()):
        old, new = before[file].splitlines(keepends=True), text.splitlines(keepends=True)
        for line in difflib.unified_diff(old, new, f"a/{file}", f"b/{file}"):
            parts.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(parts)
