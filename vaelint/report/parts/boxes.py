"""The trail as boxes and arrows, few enough to be read: what pictures of it are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from vaelint.core.finding import Certainty, Finding
from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.report.parts.fold import Row, amount, cut, fold, leaves, memory, shape_text, without_operations

MOST = 40
"""Boxes of a picture: beyond, outer modules stand for what is in them."""

_RUN = 6  # boxes of one stage in a row, without a role: beyond, the ones in the middle are drawn as one

KINDS = {
    "input": "input",
    "encoder": "encoder",
    "heads": "posterior",
    "reparameterization": "sampling",
    "noise": "noise",
    "latent": "latent",
    "decoder": "decoder",
    "network": "network",
    "loss": "loss term",
    "total": "loss",
    "other": "beside the loss",
    "failed": "fails here",
}
"""Kinds of boxes, and the word that stands in each."""


@dataclass
class Box:
    """One box: its kind, a title, what is said below it, and the findings at its lines."""

    kind: str
    word: str
    title: str
    shape: str
    about: str
    parameters: int
    steps: frozenset[int]
    lines: frozenset[tuple[str, int]]
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Picture:
    """Boxes in the order of the way, and arrows as pairs of their places."""

    boxes: list[Box]
    arrows: list[tuple[int, int]]


def picture(result: TargetResult, depth: int | None = None, everything: bool = False) -> Picture:
    """The boxes of a target's trail. Without a depth, the deepest of the first two levels that gives at most `MOST` boxes."""
    assert result.trail is not None
    tree = fold(result.trail)
    if everything:
        rows = leaves(tree)
    elif depth is not None:
        rows = leaves(cut(without_operations(tree), depth))
    else:
        rows = _short(leaves(cut(without_operations(tree), 1)))
        if len(rows) > MOST:
            rows = leaves(cut(without_operations(tree), 0))
    rows = sorted(rows, key=lambda r: r.last["id"] if r.last["id"] is not None else float("inf"))
    boxes = [_box(r) for r in rows]
    for f in result.findings:
        if f.certainty is not Certainty.REFUTED:
            _pin(f, boxes)
    return Picture(boxes, _arrows(rows))


def _short(rows: Sequence[Row]) -> list[Row]:
    """Long runs of a stage without anything of note are drawn by their ends, with one box for the middle."""
    out: list[Row] = []
    run: list[Row] = []

    def flush() -> None:
        if len(run) > _RUN:
            middle = run[2:-2]
            steps = tuple(s for r in middle for s in r.steps)
            names = [r.title for r in middle if r.kind == "module"]
            detail = f"{names[0]} ... {names[-1]}" if names else ""
            out.extend([*run[:2], Row("module", f"{len(middle)} more", run[0].stage, steps, [], detail), *run[-2:]])
        else:
            out.extend(run)
        run.clear()

    for r in rows:
        plain = not r.role and r.kind in ("module", "statement") and r.stage in ("encoder", "decoder", "network", "other")
        if run and (not plain or run[0].stage != r.stage):
            flush()
        if plain:
            run.append(r)
        else:
            out.append(r)
    flush()
    return out


def _box(row: Row) -> Box:
    kind = _kind(row)
    word = KINDS[kind]
    if row.stage == "heads" and row.role:
        word = f"posterior: {row.role}"
    elif kind == "reparameterization" and row.role:
        word = f"sampling: {row.role}"
    elif kind == "loss" and row.last.get("part"):
        word = f"loss: {row.last['part']}"
    elif row.role == "reconstruction":
        word = f"{word}: output"
    if row.kind == "failed" and row.last["operation"]:
        word = f"{word}: {row.last['operation']}"
    shape = row.shape if row.kind != "failed" else " with ".join(shape_text(s) for s in row.last["taken"][:2])
    cost = [f"{row.parameters:,} parameters" if row.parameters else "", f"{amount(row.flops)} FLOPs" if row.flops else ""]
    cost.append(f"{memory(row.activation_bytes)} kept" if row.activation_bytes else "")
    detail = f"{row.title}  {row.detail}" if row.detail and row.kind != "failed" else row.title
    return Box(
        kind,
        word,
        detail,
        shape,
        ", ".join(c for c in cost if c),
        row.parameters,
        frozenset(s["id"] for s in row.steps if s["id"] is not None),
        frozenset((s["span"]["file"], s["span"]["line"]) for s in row.steps if s["span"]),
    )


def _kind(row: Row) -> str:
    if row.kind == "failed":
        return "failed"
    special = {"eps": "noise", "z": "latent", "loss": "total"}
    return special.get(row.role, row.stage)


def _pin(finding: Finding, boxes: Sequence[Box]) -> None:
    """The last box that runs the finding's line, of these the one with the faulty shape if one is known; else one it points to."""
    faulty = {shape_text(r.shape) for r in finding.shapes if r.wanted is not None}
    for place in (finding.span, *(x.span for x in finding.labels)):
        lines = {(place.file, n) for n in range(place.line, (place.end_line or place.line) + 1)}
        here = [b for b in boxes if lines & b.lines]
        if here:
            ([b for b in here if b.shape in faulty] or here)[-1].findings.append(finding)
            return


def _arrows(rows: Sequence[Row]) -> list[tuple[int, int]]:
    of_step: dict[int, int] = {}
    for i, r in enumerate(rows):
        for s in r.steps:
            if s["id"] is not None:
                of_step[s["id"]] = i
    found: dict[tuple[int, int], None] = {}
    for i, r in enumerate(rows):
        for s in r.steps:
            for source in s["from"]:
                j: Any = of_step.get(source)
                if j is not None and j != i:
                    found[(j, i)] = None
    return list(found)
