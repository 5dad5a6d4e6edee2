"""What the formats for programs share: each finding once, its place in the repository, its words, and safe JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaelint.core.finding import Certainty, Finding, Severity, Span
from vaelint.core.result import TargetResult
from vaelint.core.setup import stopped
from vaelint.core.sign import Found, sign
from vaelint.core.visible import json_escaped, visible, visible_lines
from vaelint.late import dataclass
from vaelint.report.parts.view import View


@dataclass(frozen=True)
class Row:
    """A finding, and the targets that have it."""

    finding: Finding
    targets: tuple[str, ...]


def rows(results: Sequence[TargetResult], view: View) -> list[Row]:
    """Each finding once, by target and place: several targets may run the same code. Refuted ones if the view wants them.

    After those of a target comes what could not be checked of it, as findings of the check itself.
    """
    found: dict[tuple[str, Span, str], tuple[Finding, dict[str, None]]] = {}
    for result in results:
        for f in (*result.findings, *_gaps(result)):
            if f.certainty is not Certainty.REFUTED or view.show_refuted:
                _, targets = found.setdefault((f.code, f.span, f.message), (f, {}))
                targets[result.target] = None
    return [Row(f, tuple(targets)) for f, targets in found.values()]


def _gaps(result: TargetResult) -> Iterator[Finding]:
    file = result.target.partition("(")[0].rpartition(":")[0] or result.target
    for text, help in result.gaps():
        place = Span(file, 1)
        yield sign(stopped("VAE006", text), Found(place, help=help, basis=""), place, f"{result.target}: {text}")


def place(file: str, root: Path) -> str:
    """A file relative to the repository, with `/`; absolute if it lies outside of it."""
    path = Path(os.path.abspath(file))  # noqa: PTH100 - without following links: the repository knows the link
    for base in (Path(os.path.abspath(root)), root.resolve()):  # noqa: PTH100
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.as_posix()


def headline(f: Finding) -> str:
    """`VAE201 shared-noise: one noise vector serves the whole batch (refuted)`, on one line, fit to be shown."""
    mark = " (refuted)" if f.certainty is Certainty.REFUTED else ""
    return visible(f"{f.code} {f.name}: {' '.join(f.message.split())}{mark}")


def level(f: Finding) -> Severity:
    """How a platform is to show a finding: what was refuted is only a remark."""
    return Severity.INFO if f.certainty is Certainty.REFUTED else f.severity


def sentences(f: Finding) -> Iterator[str]:
    """What else there is to say of a finding, fit to be shown, each with its line breaks."""
    yield from map(visible_lines, _said(f))


def _said(f: Finding) -> Iterator[str]:
    if f.label:
        yield f.label
    if f.when:
        yield f"when: {f.when}"
    if f.why:
        yield f"why: {f.why}"
    if f.evidence is not None:
        e = f.evidence
        word = f.certainty.value if e.decides else f"{f.certainty.value}, {e.outcome}"
        yield f"{word} on {e.device}: {e.claim}: predicted {e.predicted or '-'}, measured {e.measured or '-'}"
    yield from (f"note: {n}" for n in f.notes)
    if f.help:
        yield f"help: {f.help}"


def whole(result: TargetResult, view: View) -> dict[str, Any]:
    """All of a result as JSON has it; each finding with the address of its rule's page. Seconds only where the view wants them."""
    told = result.to_json()
    if not view.timings:
        del told["timing"]
    for row, f in zip(told["findings"], result.findings, strict=True):
        row["url"] = view.address(f)
    return told


def dumps(document: Any, *, indent: int | None = 1) -> str:
    """JSON without NaN, without the old form of GitHub's commands (`##[`), which count anywhere in a line, and without raw controls."""
    text = json_escaped(json.dumps(plain(document), indent=indent, ensure_ascii=False, allow_nan=False))
    return text.replace("##[", "#\\u0023[") + "\n"


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the texts "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)
