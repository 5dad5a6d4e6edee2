"""`vaelint trace`: the way from input to loss as a tree with columns, and the operation that failed with its operands."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from vaelint.core.result import TargetResult
from vaelint.report.parts.fold import Row, amount, count, cut, fold, memory, without_operations
from vaelint.report.parts.places import place_in, place_of
from vaelint.report.parts.text import Line, cells, clean, hanging, pad, paint, table
from vaelint.report.parts.trail_words import born, fits_lines, one_kind, totals_sentence
from vaelint.report.parts.view import PLAIN, View

DEPTH = 1
"""Levels below the stages that are unfolded when nobody says otherwise: the outer modules, and the statements between them."""

_STYLES = {
    "input": "bold", "encoder": "cyan", "heads": "green", "reparameterization": "magenta", "decoder": "blue", "loss": "yellow",
    "network": "cyan", "other": "dim",
}  # fmt: skip
_NARROW = 24  # cells that names have at least
_HEAD = ("", "shape", "parameters", "FLOPs", "kept")


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The tree of each target."""
    return "\n".join(_target(r, view) for r in results)


def _target(result: TargetResult, view: View) -> str:
    trail = result.trail
    lines: list[Line] = [[(clean(result.target), "head")]]
    if trail is None:
        for f in result.findings:
            lines += hanging([(f"{f.severity.value}[{f.code}] ", f.severity.value)], f.message, view.width)
            lines += hanging([("  ", "")], place_of(f.span), view.width)
            lines += hanging([("help: ", "help")], f.help, view.width) if f.help else []
        return paint(lines, view.color)
    sizes = ", ".join(f"{k}={v}" for k, v in result.symbols.items())
    same = one_kind(trail)
    lines += hanging(
        [("  ", "")], "; ".join(t for t in (f"sizes: {sizes}" if sizes else "", f"all values {same}" if same else "") if t), view.width
    )
    rows = fold(trail) if view.everything else cut(without_operations(fold(trail)), DEPTH if view.depth is None else view.depth)
    out = paint([*lines, []], view.color) + _tree(rows, view, same is None)
    return out + paint([[], *_after(result, trail, view)], view.color)


def _tree(rows: Sequence[Row], view: View, kinds: bool) -> str:
    columns = [*_HEAD, "type"] if kinds else list(_HEAD)
    cellsof: dict[int, list[str]] = {}

    def collect(some: Sequence[Row]) -> None:
        for r in some:
            kind = [f"{r.last['dtype']} {r.last['device']}"] if kinds else []
            cellsof[id(r)] = [r.shape, count(r.parameters), amount(r.flops), memory(r.activation_bytes), *kind]
            collect(r.children)

    collect(rows)
    widths = [max(cells(c) for c in (name, *(v[i] for v in cellsof.values()))) for i, name in enumerate(columns[1:])]
    shown = list(range(len(widths)))
    for least in (3, 2, 1):  # what a narrow terminal has no room for
        if view.width - sum(widths[i] + 2 for i in shown) < _NARROW:
            shown.remove(least)
    left = max(_NARROW, min(max((_depth_width(r, 0) for r in rows), default=_NARROW), view.width - sum(widths[i] + 2 for i in shown)))

    def line(title: str, values: Sequence[str], level: int, style: str, tail: str) -> Text:
        room = left - 4 * level
        name = clean(title)
        if cells(name) > room:
            name = _clipped(name, room)
        text = Text(pad(name, room), style=style, no_wrap=True)
        for i in shown:
            told = pad(values[i], widths[i]) if i in (0, 4) else " " * (widths[i] - cells(values[i])) + values[i]
            text.append(f"  {told}", style=tail)
        return text

    root = Tree(line("", columns[1:], 0, "dim", "dim"), hide_root=False, guide_style="dim")

    def grow(branch: Tree, some: Sequence[Row], level: int) -> None:
        for r in some:
            shown_as = line(_title(r), cellsof[id(r)], level, _style(r), "dim" if r.kind == "stage" else "")
            grow(branch.add(shown_as), r.children, level + 1)

    grow(root, rows, 1)
    file = io.StringIO()
    console = Console(file=file, force_terminal=view.color, force_jupyter=False, no_color=not view.color,
                      width=max(view.width, 40) + 8, highlight=False,
                      color_system="standard" if view.color else None, emoji=False, markup=False)  # fmt: skip
    console.print(root, overflow="ignore", crop=False)
    return "".join(x.rstrip() + "\n" for x in file.getvalue().splitlines())


def _style(row: Row) -> str:
    if row.kind in ("failed", "stage"):
        return "bold red" if row.kind == "failed" else f"bold {_STYLES[row.stage]}"
    return _STYLES[row.stage] if row.role or row.kind == "module" else ""


def _title(row: Row) -> str:
    name = f"{row.title}  {row.detail}" if row.detail else row.title
    role = row.role
    if row.kind == "failed":
        return f"FAILS: {name}"
    if row.kind in ("stage", "operation") or not role or row.title.startswith(f"{role} =") or row.title == role:
        return name
    return f"{role}: {name}"


def _depth_width(row: Row, level: int) -> int:
    own = cells(clean(_title(row))) + 4 * (level + 1)
    return max([own, *(_depth_width(c, level + 1) for c in row.children)])


def _clipped(text: str, room: int) -> str:
    used = ""
    for char in text:
        if cells(used + char) > room - 3:
            break
        used += char
    return used + "..."


def _after(result: TargetResult, trail: dict[str, Any], view: View) -> list[Line]:
    lines: list[Line] = []
    failed = trail["failed"]
    if failed is not None:
        where = place_in(failed["span"]) or "where is not known"
        lines += hanging(
            [("fails here: ", "error")], f"{failed['expression'] or failed['operation'] or '?'}   ({where})", view.width, "head"
        )
        lines += hanging([("  ", "")], failed["error"], view.width)
        if failed["module"]:
            lines += hanging([("  ", "")], f"inside {failed['module']}" + born(failed["birth"], ", constructed at "), view.width)
        operands = failed["operands"]
        if operands:
            rows = [[o["name"], "(" + ", ".join(o["shape"]) + ")", f"{o['dtype']} {o['device']}", o["kind"]] for o in operands]
            for text, o in zip(table(rows), operands, strict=True):
                lines += hanging([("  operand  ", "key")], text, view.width)
                lines += hanging([("           ", "")], _birth(o), view.width, "dim")
        for f in result.findings[:1]:
            for key, said in (("why: ", f.why), ("help: ", f.help)):
                lines += hanging([("  " + key, "help" if key == "help: " else "key")], said, view.width) if said else []
    for text in fits_lines(result):
        lines += hanging([("fits: ", "key")], text, view.width)
    lines += hanging([("in all: ", "key")], totals_sentence(trail, partly=failed is not None), view.width)
    if trail["totals"]["uncounted"]:
        lines += hanging([("note: ", "key")], "FLOPs are not known of " + ", ".join(trail["totals"]["uncounted"]), view.width)
    for note in result.notes:
        lines += hanging([("note: ", "key")], note, view.width)
    return lines


def _birth(operand: dict[str, Any]) -> str:
    if operand["kind"] == "input":
        return "given as an input (--input)"
    what = "constructed" if operand["kind"] in ("parameter", "buffer") else "made"
    text = f": {operand['expression']}" if operand["expression"] else ""
    return (f"{what} at {place_in(operand['born'])}{text}") if operand["born"] else "made outside of your code"
