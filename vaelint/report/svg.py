"""The way from input to loss as a picture: `trace --output-format svg`, and the picture of the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.result import TargetResult
from vaelint.report.parts.boxes import KINDS, Box, Picture, picture
from vaelint.report.parts.fold import amount, shape_text
from vaelint.report.parts.layout import Placed, place
from vaelint.report.parts.markup import text as safe
from vaelint.report.parts.text import cell, cells, clean
from vaelint.report.parts.view import PLAIN, View

WIDTH, HEIGHT = 176, 62
_LINE, _LINES = 13, 8  # of a title that takes several lines, and how many it may take
_ROOM, _LANE, _DROP = 16, 22, 34  # between boxes, of an arrow that passes, between layers
_MARGIN = 12
_SMALLEST = 0.7  # of its size: below, a narrow page scrolls it
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
    titles = [_wrapped(b) for b in drawn.boxes]
    rows = Rows([max((len(t) for t, own in zip(titles, placed.layer, strict=True) if own == n), default=1) for n in range(placed.layers)])
    width = round(placed.width + 2 * _MARGIN)
    height = rows.bottom + _MARGIN
    head = f"The way from input to loss of {result.target}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width:{width}px;min-width:{round(width * _SMALLEST)}px" '
        f'role="{"img" if alone else "group"}" aria-label="{_x(head)}">',
        f"<title>{_x(head)}</title><desc>{_x(described(drawn))}</desc>",
        f"<style>{style()}</style>" if alone else "",
        f'<rect class="paper" width="{width}" height="{height}"/>' if alone else "",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker><marker id="bad" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="tip bad" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    parts += [_arrow(drawn, placed, rows, i) for i in range(len(drawn.arrows))]
    for i, b in enumerate(drawn.boxes):
        level = placed.layer[i]
        parts.append(_box(b, titles[i], placed.centre[i] + _MARGIN, rows.top[level], rows.height[level], anchors, result))
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


class Rows:
    """Top and height of each layer, by the lines of its longest title."""

    def __init__(self, lines: Sequence[int]) -> None:
        self.height = [HEIGHT + _LINE * (n - 1) for n in lines]
        self.top = [_MARGIN + sum(self.height[:i]) + i * _DROP for i in range(len(lines))]

    @property
    def bottom(self) -> int:
        """Of the last layer."""
        return self.top[-1] + self.height[-1] if self.top else _MARGIN


def _wrapped(box: Box) -> list[str]:
    """The whole title in lines that fit into its box, broken where code has a gap if one is near."""
    room, rest, lines = _CHARACTERS.get(box.kind, _MORE), clean(box.title), list[str]()
    while cells(rest) > room and len(lines) < _LINES - 1:
        line = clip(rest, room + 1).removesuffix("…")
        gap = max(line.rfind(c) for c in " ,(.[=") + 1
        line = line[:gap] if gap > room * 0.5 else line
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    return [*lines, clip(rest, room)]


def _arrow(drawn: Picture, placed: Placed, rows: Rows, number: int) -> str:
    a, b = drawn.arrows[number]
    x, y = placed.centre[a] + _MARGIN, rows.top[placed.layer[a]] + rows.height[placed.layer[a]]
    ends = [(c + _MARGIN, rows.top[level], rows.height[level]) for level, c in placed.ways[number]]
    path = f"M{x:.0f} {y}"
    for cx, top, height in ends:
        path += f"C{x:.0f} {y + _DROP / 2:.0f} {cx:.0f} {top - _DROP / 2:.0f} {cx:.0f} {top}L{cx:.0f} {top + height}"
        x, y = cx, top + height
    cx, top = placed.centre[b] + _MARGIN, rows.top[placed.layer[b]]
    path += f"C{x:.0f} {y + _DROP / 2:.0f} {cx:.0f} {top - _DROP / 2:.0f} {cx:.0f} {top}"
    kind = "failed" if drawn.boxes[b].kind == "failed" else drawn.boxes[a].kind
    back = " back" if placed.layer[a] >= placed.layer[b] else ""
    bad = _is_faulty(drawn.boxes[a])
    return f'<path class="arrow of-{kind}{back}{" bad" if bad else ""}" d="{path}" marker-end="url(#{"bad" if bad else "tip"})"/>'


def _is_faulty(box: Box) -> bool:
    """Whether what leaves the box is wrong: an error is at its line."""
    return any(f.severity is Severity.ERROR for f in box.findings)


def _box(box: Box, title: Sequence[str], centre: float, top: int, height: int, anchors: str, result: TargetResult) -> str:
    left, middle = centre - WIDTH / 2, f"{WIDTH / 2:.0f}"
    said = f"{box.title}\n{box.shape}" + (f"\n{box.about}" if box.about else "")
    state = f" wrong {'error' if _is_faulty(box) else box.findings[0].severity.value}" if box.findings else ""
    own = HEIGHT + _LINE * (len(title) - 1)
    first = (height - own) // 2
    lines = [
        f'<g class="box {box.kind}{state}" transform="translate({left:.0f} {top})"><title>{_x(said)}</title>',
        _outline(box.kind, height),
        f'<text class="word" x="{middle}" y="{first + 16}">{_x(box.word)}</text>',
        *(f'<text class="title" x="{middle}" y="{first + 34 + _LINE * i}">{_x(line)}</text>' for i, line in enumerate(title)),
        f'<text class="shape" x="{middle}" y="{first + own - 11}">{_x(clip(_below(box), 26))}</text>',
    ]
    codes = list(dict.fromkeys((f.code, f.severity.value) for f in box.findings))
    for i, (code, severity) in enumerate(codes[:3]):
        number = next(n for n, f in enumerate(result.findings) if f.code == code and f in box.findings)
        badge = (
            f'<g class="badge {severity}" transform="translate({WIDTH - 52 - 50 * i} -13)"><rect width="48" height="17" rx="8"/>'
            f'<text x="24" y="12.5">{_x(code)}</text></g>'
        )
        lines.append(f'<a href="#{anchors}{number}">{badge}</a>' if anchors else badge)
    return "".join(lines) + "</g>"


def _below(box: Box) -> str:
    """The shape, and the one that it should be where a finding says so."""
    wanted = next((r.wanted for f in box.findings for r in f.shapes if r.wanted is not None and shape_text(r.shape) == box.shape), None)
    if wanted is not None:
        return f"{box.shape}, wanted {shape_text(wanted)}"
    return f"{box.shape}  {amount(box.parameters)} par." if box.parameters else box.shape


def _outline(kind: str, h: int) -> str:
    """Each kind has a form of its own, so that colour is not needed to tell them apart."""
    w = WIDTH
    if kind == "noise":
        x, y, a, b = f"{w / 2:.0f}", f"{h / 2:.0f}", f"{0.08 * w:.0f}", f"{0.08 * h:.0f}"  # fuller than an ellipse: a wide last line fits
        right, low = f"{0.92 * w:.0f}", f"{0.92 * h:.0f}"
        return f'<path class="form" d="M0 {y}C0 {b} {a} 0 {x} 0S{w} {b} {w} {y}S{right} {h} {x} {h}S0 {low} 0 {y}z"/>'
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
