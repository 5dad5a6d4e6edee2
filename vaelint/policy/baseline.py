"""The baseline: known findings that are not reported. Keyed by fingerprint, so that edits elsewhere do not touch it. Imports no torch.

An entry says which targets had the finding. It is stale once every one of those that were checked no longer has it; of
targets that were not checked, and of rules that were not selected, nothing can be said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelint.core.errors import UsageError
from vaelint.core.finding import Finding, Severity
from vaelint.core.paths import in_project, regular
from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.policy.suppress import essential

VERSION = 1
_KEYS = {"fingerprint", "code", "name", "file", "targets"}


@dataclass(frozen=True)
class Entry:
    """One known finding. All but `fingerprint` and `targets` is for people who read the file."""

    fingerprint: str
    code: str
    name: str
    file: str
    targets: tuple[str, ...]


Entries = dict[str, Entry]


def read(file: Path) -> Entries:
    """The entries by fingerprint. Raises UsageError for a file that is missing, broken or of another version."""
    try:
        document = json.loads(regular(file).read_text(encoding="utf-8"))
        if document["version"] != VERSION:
            raise UsageError(
                f"baseline {file}: version {document['version']!r}, where {VERSION} is understood",
                f"write a new one: vaelint check --baseline {file} --update-baseline",
            )
        return {e["fingerprint"]: _entry(e) for e in document["findings"]}
    except FileNotFoundError:
        raise UsageError(
            f"there is no baseline {file}", f"write it: vaelint check --baseline {file} --update-baseline, with the same targets"
        ) from None
    except OSError as e:
        raise UsageError(f"cannot read the baseline {file}: {e.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{file} is not a baseline written by vaelint", f"write a new one: vaelint check --baseline {file} --update-baseline"
        ) from None


def is_ready(file: Path, *, new: bool) -> None:
    """Holds that a baseline can be read; with `new` it may also be one that can be written. Raises UsageError."""
    if file.exists() or not new:
        read(file)
    elif not file.absolute().parent.is_dir():
        raise UsageError(f"cannot write the baseline {file}: there is no such folder")


def _entry(data: dict[str, Any]) -> Entry:
    if set(data) != _KEYS or not all(isinstance(t, str) for t in data["targets"]):
        raise ValueError
    return Entry(**{k: str(data[k]) for k in _KEYS - {"targets"}}, targets=tuple(data["targets"]))


def render(entries: Entries) -> str:
    """The file's text: sorted, so that two people's changes merge."""
    rows = sorted(entries.values(), key=lambda e: (e.file, e.code, e.fingerprint))
    findings = [{"fingerprint": e.fingerprint, "code": e.code, "name": e.name, "file": e.file, "targets": sorted(e.targets)} for e in rows]
    return json.dumps({"version": VERSION, "findings": findings}, indent=1, ensure_ascii=False) + "\n"


def write(file: Path, entries: Entries) -> None:
    """Writes the file at once and whole. Raises UsageError where that is not possible."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(render(entries), encoding="utf-8")
        new.replace(file)
    except OSError as e:
        raise UsageError(f"cannot write the baseline {file}: {e.strerror}") from None


def apply(results: Sequence[TargetResult], entries: Entries, file: Path) -> None:
    """Takes known findings out, and says in the notes how many they were."""
    for result in results:
        kept = [f for f in result.findings if f.fingerprint not in entries or essential(f, result)]
        known = len(result.findings) - len(kept)
        if known:
            result.findings = kept
            result.notes.append(f"{known} known finding{'s' * (known != 1)} of the baseline {file} not reported")


def codes_judged(result: TargetResult) -> frozenset[str]:
    """The rules that were asked about a target and could answer, for `stale`; taken before findings are taken out."""
    if result.status == "failed":
        return frozenset()
    could_not = {row["code"] for row in result.incomplete}
    return frozenset((*result.quiet, *(n["code"] for n in result.not_applicable), *(f.code for f in result.findings))) - could_not


def stale(
    results: Sequence[TargetResult], judged: Sequence[Collection[str]], entries: Entries, configured: Collection[str] | None
) -> list[Entry]:
    """Entries that no longer stand, each with the targets that it no longer stands for.

    Args:
        results: what stands, before `apply`.
        judged: `codes_judged` of each.
        configured: all targets there are, if all were asked for: an entry of another target is stale then.
    """
    by_name: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        by_name.setdefault(target_name(result.target), []).append(i)

    def is_gone(entry: Entry, target: str) -> bool:
        numbers = by_name.get(target)
        if numbers is None:
            return configured is not None and target not in configured
        standing = any(f.fingerprint == entry.fingerprint for i in numbers for f in results[i].findings)
        return not standing and all(entry.code in judged[i] for i in numbers)

    gone = [(e, tuple(t for t in e.targets if is_gone(e, t))) for e in entries.values()]
    return [replace(e, targets=targets) for e, targets in gone if targets]


def pruned(entries: Entries, gone: Sequence[Entry]) -> Entries:
    """The entries without what is stale of them."""
    left = dict(entries)
    for entry in gone:
        targets = tuple(t for t in left[entry.fingerprint].targets if t not in entry.targets)
        if targets:
            left[entry.fingerprint] = replace(entry, targets=targets)
        else:
            del left[entry.fingerprint]
    return left


def added(entries: Entries, results: Sequence[TargetResult], bar: Severity) -> Entries:
    """The entries with all findings that make the exit code 1; those that say why a target was not analysed are never known."""
    left = dict(entries)
    for result in results:
        for f in result.findings:
            if f.stands(bar) and f.fingerprint and not essential(f, result):
                left[f.fingerprint] = _with(left.get(f.fingerprint), f, target_name(result.target))
    return left


def _with(entry: Entry | None, f: Finding, target: str) -> Entry:
    old = entry.targets if entry else ()
    return Entry(f.fingerprint, f.code, f.name, in_project(f.span.file), tuple(sorted({*old, target})))


def target_name(target: str) -> str:
    """A target as it is written in a baseline: with the path of its file in the project."""
    call = target.partition("(")
    path, colon, name = call[0].rpartition(":")
    return (in_project(path) if path.endswith((".py", ".ipynb")) else path) + colon + name + "".join(call[1:])
