"""The steps of a trail as a list that opens: stages, modules, statements, operations."""

from __future__ import annotations

from typing import Any

from vaelint.report.parts.fold import Row, amount, fold, memory, shape_text
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.places import place_in

_OPEN = 1  # levels that are open at first


def flow(trail: dict[str, Any], same: str | None, totals: str) -> E:
    """The section with all steps."""
    rows = join(*(_row(r, 0, same is None) for r in fold(trail)))
    about = f"In all: {totals}." + (f" All values are {same}." if same else "")
    parts = [element("h2", "Every step"), element("p", about, class_="about"), *_failed(trail), element("ul", rows, class_="steps")]
    return element("section", join(*parts))


def _row(row: Row, level: int, kinds: bool) -> E:
    tags = [
        element("span", row.shape, class_="shape") if row.shape else E(""),
        element("span", f"{row.last['dtype']} {row.last['device']}", class_="soft") if kinds and row.last["dtype"] else E(""),
        element("span", f"{row.parameters:,} parameters", class_="soft") if row.parameters else E(""),
        element("span", f"{amount(row.flops)} FLOPs", class_="soft") if row.flops else E(""),
        element("span", f"{memory(row.activation_bytes)} kept", class_="soft") if row.activation_bytes else E(""),
    ]
    if row.kind == "failed":
        return element("li", join(element("b", "fails here: "), element("code", row.title), " ", row.detail), class_="failed")
    role = element("b", f"{row.role} ", class_="role") if row.role and row.kind not in ("stage", "operation") else E("")
    name = element("code", row.title, class_=f"name {row.kind}") if row.kind != "stage" else element("strong", row.title)
    detail = element("span", f" {row.detail}", class_="soft") if row.detail else E("")
    line = join(role, name, detail, " ", E(" &middot; ".join(tag for tag in tags if tag)))
    if not row.children:
        return element("li", line, class_=f"{row.stage} {row.kind}")
    inner = element("ul", join(*(_row(c, level + 1, kinds) for c in row.children)))
    details = element("details", join(element("summary", line), inner), open="" if level < _OPEN else None)
    return element("li", details, class_=row.stage)


def _failed(trail: dict[str, Any]) -> list[E]:
    """The operation that raised and where its operands were born."""
    failed = trail["failed"]
    if failed is None:
        return []
    where = place_in(failed["span"])
    items = []
    for o in failed["operands"]:
        verb = "made" if o["kind"] == "value" else "constructed"
        birth = f"{verb} at {place_in(o['born'])}" if o["born"] else "an input" if o["kind"] == "input" else ""
        code = element("code", o["expression"]) if o["expression"] else E("")
        shape = element("span", shape_text(o["shape"]), class_="shape")
        items.append(element("li", join(element("code", o["name"]), " ", shape, f" {o['dtype']} {o['device']}, {birth} ", code)))
    said = join(element("strong", "It fails here: "), element("code", failed["expression"] or "?"), f" {where}. {failed['error']}")
    return [element("div", join(element("p", said), element("ul", join(*items))), class_="broken")]
