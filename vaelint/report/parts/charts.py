"""Curves over the observed iterations as SVG: lines with gaps where nothing was seen, colours of the page, no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from vaelint.late import dataclass
from vaelint.report.parts.markup import E, element, join, text

_WIDE, _HIGH = 640, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 40
_COLOURS = 6  # of page.css: .c0 to .c5
_FEW = 60  # points up to which each is marked


@dataclass(frozen=True)
class Line:
    """One curve: a value, or None, for each iteration. `about` is what the legend says of it."""

    name: str
    values: Sequence[float | None]
    about: str = ""


def chart(
    title: str,
    numbers: Sequence[int],
    lines: Sequence[Line],
    *,
    unit: str = "",
    thin: bool = False,
    linear: bool = False,
    top: float | None = None,
    axis: str = "iteration",
) -> E:
    """A figure with its legend. Logarithmic where all is positive and the largest is over 30 times the smallest, which is said.

    Args:
        numbers: the iterations, or values of the counter that `axis` names.
        unit: what the vertical axis shows.
        linear: never logarithmic: a schedule is read by its slope.
        thin: many lines of one kind: no legend, no marks.
        top: the end of the axis from 0, where that is known.
    """
    known = [v for line in lines for v in line.values if v is not None]
    if not known or not numbers:
        return E("")
    logarithmic = not linear and top is None and min(known) > 0 and max(known) > 30 * min(known)
    low, high, marks = _logarithmic(known) if logarithmic else _linear(known, top)
    first, last = numbers[0], max(numbers[-1], numbers[0] + 1)

    def x(number: float) -> float:
        return _LEFT + (number - first) / (last - first) * (_WIDE - _LEFT - _RIGHT)

    def y(value: float) -> float:
        at = math.log10(value) if logarithmic else value
        return _HIGH - _BOTTOM - (at - low) / (high - low) * (_HIGH - _TOP - _BOTTOM)

    drawn = [_axis(marks, y), _iterations(first, numbers[-1], x, axis)]
    drawn += [_line(line, i % _COLOURS, numbers, x, y, thin) for i, line in enumerate(lines)]
    words = ", ".join(filter(None, [unit, "logarithmic" if logarithmic else ""]))
    caption = join(element("strong", title), f" ({words})" if words else "")
    svg = E(f'<svg class="chart" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{text(title)}">{join(*drawn)}</svg>')
    return element("figure", join(element("figcaption", caption), svg, E("") if thin else _legend(lines)), class_="curve")


def _linear(known: Sequence[float], top: float | None) -> tuple[float, float, list[tuple[float, str]]]:
    """Ends of the axis and its marks: multiples of 1, 2 or 5."""
    low, high = min(0.0, *known), max(0.0, *known, top or 0.0)
    high = high if high > low else low + 1
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next((f for f in (1, 2, 5) if (high - low) / (f * step) <= 6), 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [(i * step, f"{i * step:.4g}") for i in range(first, last + 1)]


def _logarithmic(known: Sequence[float]) -> tuple[float, float, list[tuple[float, str]]]:
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    every = max(1, (last - first) // 6)
    return first, last, [(10.0**i, f"{10.0**i:g}") for i in range(first, last + 1, every)]


def _axis(marks: Sequence[tuple[float, str]], y: Callable[[float], float]) -> E:
    return join(
        *(
            E(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
                f'<text class="tick" x="{_LEFT - 6}" y="{y(at) + 4:.1f}" text-anchor="end">{text(word)}</text>'
            )
            for at, word in marks
        )
    )


def _iterations(first: int, last: int, x: Callable[[float], float], axis: str) -> E:
    step = max(1, 10 ** math.floor(math.log10(max(last - first, 1))) // 2)
    while (last - first) / step > 8:
        step *= 2
    marks = sorted({first, last, *(n for n in range(0, last, step) if first < n < last - step / 2)})
    ticks = (f'<text class="tick" x="{x(n):.1f}" y="{_HIGH - _BOTTOM + 16}" text-anchor="middle">{n}</text>' for n in marks)
    middle = (_LEFT + _WIDE - _RIGHT) / 2
    return E("".join(ticks) + f'<text class="tick" x="{middle}" y="{_HIGH - 6}" text-anchor="middle">{text(axis)}</text>')


def _line(line: Line, colour: int, numbers: Sequence[int], x: Callable[[float], float], y: Callable[[float], float], thin: bool) -> E:
    points = [None if v is None else (x(n), y(v)) for n, v in zip(numbers, line.values, strict=True)]
    way = "".join(f"M{' L'.join(f'{a:.1f},{b:.1f}' for a, b in run)}" for run in _runs(points))
    about = element("title", " ".join(filter(None, [line.name, line.about])))
    drawn = f'<path class="c{colour}{" thin" if thin else ""}" d="{way}">{about}</path>'
    if (not thin and len(points) <= _FEW) or len(points) == 1:
        drawn += "".join(f'<circle class="c{colour}" cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="2.5"/>' for p in points if p is not None)
    return E(drawn)


def _runs(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    """Points without a gap between them."""
    run: list[tuple[float, float]] = []
    for point in (*points, None):
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _legend(lines: Sequence[Line]) -> E:
    rows = (
        element("li", join(element("span", "", class_=f"swatch c{i % _COLOURS}"), line.name, f", {line.about}" if line.about else ""))
        for i, line in enumerate(lines)
    )
    return element("ul", join(*rows), class_="legend")
