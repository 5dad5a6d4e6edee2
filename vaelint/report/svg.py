"""The way from input to loss as a picture: `trace --output-format svg`, and the picture of the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from vaelint.core.errors import UsageError
from vaelint.core.result import TargetResult
from vaelint.report.parts.boxes import KINDS, Box, Picture, picture
from vaelint.report.parts.fold import amount
from vaelint.report.parts.layout import Placed, place
from vaelint.report.parts.markup import text as safe
from vaelint.report.parts.text import cell, cells, clean
from vaelint.report.parts.view import PLAIN, View

WIDTH, HEIGHT = 176, 62
_ROOM, _LANE, _DROP = 16, 22, 34  # between boxes, of an arrow that passes, between layers
_MARGIN = 12
_SMALLEST = 0.75  # of its size: below, a narrow page scrolls it
_CHARACTERS = {"noise": 20, "latent": 21, "encoder": 23, "decoder": 23, "loss": 23, "total": 23}
_MORE = 25  # characters of the title in a box of any other kind


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One target's picture as a file of its own.

    Raises:
        UsageError: several targets, or one without a trail: a picture shows one.
    """
    if len(results) != 1:
        raise UsageError("an SVG shows one target", "name one, or write --output-format html")
    if results[0].trail is None:
        text = results[0].findings[0].message if results[0].findings else "it could not be analysed"
        raise UsageError(f"cannot draw the trail: {text}", "vaelint trace without --output-format says more")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + drawing(results[0], view.depth, view.everything, alone=True) + "\n"


def style() -> str:
    """The colours of boxes and arrows, for light and dark."""
    return files("vaelint.report").joinpath("picture.css").read_text(encoding="utf-8")


def drawing(result: TargetResult, depth: int | None = None, everything: bool = False, *, alone: bool = False, anchors: str = "") -> str:
    """The `<svg>`. `alone`: with its own style; `anchors`: what the names of a page's findings start with, for links to them."""
    drawn = picture(result, depth, everything)
    placed = place(len(drawn.boxes), drawn.arrows, WIDTH + _ROOM, _LANE, _late(drawn))
    width = round(placed.width + 2 * _MARGIN)
    height = placed.layers * HEIGHT + (placed.layers - 1) * _DROP + 2 * _MARGIN
    head = f"The way from input to loss of {result.target}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width:{width}px;min-width:{round(width * _SMALLEST)}px" '
        f'role="{"img" if alone else "group"}" aria-label="{_x(head)}">',
        f"<title>{_x(head)}</title><desc>{_x(described(drawn))}</desc>",
        f"<style>{style()}</style>" if alone else "",
        f'<rect class="paper" width="{width}" height="{height}"/>' if alone else "",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    parts += [_arrow(drawn, placed, i) for i in range(len(drawn.arrows))]
    parts += [_box(b, placed.centre[i] + _MARGIN, _top(placed.layer[i]), anchors, result) for i, b in enumerate(drawn.boxes)]
    return "\n".join(p for p in parts if p) + "\n</svg>"


def described(drawn: Picture) -> str:
    """The picture in words, for those who do not see it."""
    into: dict[int, list[int]] = {}
    for a, b in drawn.arrows:
        into.setdefault(b, []).append(a)
    said = []
    for i, box in enumerate(drawn.boxes):
        sources = " and ".join(clean(drawn.boxes[j].title) for j in into.get(i, ())[:4])
        said.append(f"{box.word}: {clean(box.title)} {box.shape}" + (f", from {sources}" if sources else ""))
    return "; ".join(said)


def _late(drawn: Picture) -> set[int]:
    """The terms of the loss stand together at the end."""
    return {i for i, b in enumerate(drawn.boxes) if b.kind == "loss"}


def _top(layer: int) -> int:
    return _MARGIN + layer * (HEIGHT + _DROP)


def _arrow(drawn: Picture, placed: Placed, number: int) -> str:
    a, b = drawn.arrows[number]
    x, y = placed.centre[a] + _MARGIN, _top(placed.layer[a]) + HEIGHT
    ends = [(c + _MARGIN, _top(level)) for level, c in placed.ways[number]]
    path = f"M{x:.0f} {y}"
    for cx, top in ends:
        path += f"C{x:.0f} {y + _DROP / 2:.0f} {cx:.0f} {top - _DROP / 2:.0f} {cx:.0f} {top}L{cx:.0f} {top + HEIGHT}"
        x, y = cx, top + HEIGHT
    cx, top = placed.centre[b] + _MARGIN, _top(placed.layer[b])
    path += f"C{x:.0f} {y + _DROP / 2:.0f} {cx:.0f} {top - _DROP / 2:.0f} {cx:.0f} {top}"
    kind = "failed" if drawn.boxes[b].kind == "failed" else drawn.boxes[a].kind
    back = " back" if placed.layer[a] >= placed.layer[b] else ""
    return f'<path class="arrow of-{kind}{back}" d="{path}" marker-end="url(#tip)"/>'


def _box(box: Box, centre: float, top: int, anchors: str, result: TargetResult) -> str:
    left = centre - WIDTH / 2
    title = f"{box.title}\n{box.shape}" + (f"\n{box.about}" if box.about else "")
    lines = [
        f'<g class="box {box.kind}{" wrong" if box.findings else ""}" transform="translate({left:.0f} {top})"><title>{_x(title)}</title>',
        _outline(box.kind),
        f'<text class="word" x="{WIDTH / 2:.0f}" y="16">{_x(box.word)}</text>',
        f'<text class="title" x="{WIDTH / 2:.0f}" y="34">{_x(clip(box.title, _CHARACTERS.get(box.kind, _MORE)))}</text>',
        f'<text class="shape" x="{WIDTH / 2:.0f}" y="51">{_x(clip(_below(box), 26))}</text>',
    ]
    codes = list(dict.fromkeys((f.code, f.severity.value) for f in box.findings))
    for i, (code, severity) in enumerate(codes[:3]):
        number = next(n for n, f in enumerate(result.findings) if f.code == code and f in box.findings)
        badge = (
            f'<g class="badge {severity}" transform="translate({WIDTH - 52 - 50 * i} -9)"><rect width="48" height="17" rx="8"/>'
            f'<text x="24" y="12.5">{_x(code)}</text></g>'
        )
        lines.append(f'<a href="#{anchors}{number}">{badge}</a>' if anchors else badge)
    return "".join(lines) + "</g>"


def _below(box: Box) -> str:
    return f"{box.shape}  {amount(box.parameters)} par." if box.parameters else box.shape


def _outline(kind: str) -> str:
    """Each kind has a form of its own, so that colour is not needed to tell them apart."""
    w, h = WIDTH, HEIGHT
    if kind == "noise":
        return f'<ellipse class="form" cx="{w / 2:.0f}" cy="{h / 2:.0f}" rx="{w / 2:.0f}" ry="{h / 2:.0f}"/>'
    if kind == "latent":
        return (
            f'<rect class="form" width="{w}" height="{h}" rx="{h / 2:.0f}"/>'
            f'<rect class="line" x="4" y="4" width="{w - 8}" height="{h - 8}" rx="{h / 2 - 4:.0f}"/>'
        )
    points = {
        "encoder": f"0,0 {w},0 {w - 12},{h} 12,{h}",
        "decoder": f"12,0 {w - 12},0 {w},{h} 0,{h}",
        "loss": f"14,0 {w - 14},0 {w},{h / 2:.0f} {w - 14},{h} 14,{h} 0,{h / 2:.0f}",
        "total": f"14,0 {w - 14},0 {w},{h / 2:.0f} {w - 14},{h} 14,{h} 0,{h / 2:.0f}",
        "failed": f"10,0 {w - 10},0 {w},10 {w},{h - 10} {w - 10},{h} 10,{h} 0,{h - 10} 0,10",
    }
    if kind in points:
        return f'<polygon class="form" points="{points[kind]}"/>'
    rounded = {"input": 4, "heads": 10, "reparameterization": 10}.get(kind, 0)
    bar = f'<path class="line" d="M6 4V{h - 4}"/>' if kind == "heads" else ""
    return f'<rect class="form" width="{w}" height="{h}" rx="{rounded}"/>{bar}'


def clip(text: str, room: int) -> str:
    """The text in at most `room` cells, with dots where something is missing."""
    shown = clean(text)
    if cells(shown) <= room:
        return shown
    used, width = "", 0
    for char in shown:
        width += cell(char)
        if width > room - 1:
            break
        used += char
    return used + "…"


def _x(text: str) -> str:
    """Escaped for XML."""
    return safe(text)


def legend() -> list[tuple[str, str]]:
    """Kind and word of each form, in the order of the way."""
    return [(k, w) for k, w in KINDS.items() if k not in ("network", "other", "failed")]
