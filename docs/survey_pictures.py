"""Pictures of the survey as SVG files: bars, and betas as dots on a logarithmic axis; their grey can be read on white and on black."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape

_INK, _MARK, _PALE = "#768390", "#d1242f", "#d1242f55"
_WIDTH, _LEFT, _ROW, _DOT = 640, 190, 24, 8
_LOW, _HIGH, _BINS = -5, 5, 4  # decades of the axis, and dots side by side in each


def bars(title: str, rows: Sequence[tuple[str, int, int]]) -> str:
    """A bar for each row: its name, how many, and how many more in a paler colour."""
    most = max((a + b for _, a, b in rows), default=0) or 1
    wide = _WIDTH - _LEFT - 60
    parts = []
    for i, (name, strong, pale) in enumerate(rows):
        y, first, second = 6 + i * _ROW, wide * strong / most, wide * pale / most
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{first:.1f}" height="16" fill="{_MARK}"/>',
            f'<rect x="{_LEFT + first:.1f}" y="{y}" width="{second:.1f}" height="16" fill="{_PALE}"/>',
            f'<text x="{_LEFT + first + second + 6:.1f}" y="{y + 12}">{strong}{f" + {pale}" if pale else ""}</text>',
        ]
    return _drawn(title, 12 + _ROW * len(rows), parts)


def betas(title: str, values: Sequence[float]) -> str:
    """A dot for each positive value over a logarithmic axis; those beyond its ends are at the ends."""
    stacks = Counter(_bin(v) for v in values)
    top = max(stacks.values(), default=1) * _DOT + 14
    parts = [
        f'<circle cx="{_x(b / _BINS):.1f}" cy="{top - i * _DOT - 6}" r="3.4" fill="{_MARK}"/>' for b in stacks for i in range(stacks[b])
    ]
    parts.append(f'<line x1="20" x2="{_WIDTH - 20}" y1="{top}" y2="{top}" stroke="{_INK}"/>')
    for decade in range(_LOW, _HIGH + 1):
        ends = "≤ " if decade == _LOW else "≥ " if decade == _HIGH else ""
        name = f"{10**decade:,}" if 0 <= decade <= 3 else f"10<tspan dy='-5' font-size='8'>{decade}</tspan>" if decade else "1"
        parts.append(f'<text x="{_x(decade):.1f}" y="{top + 18}" text-anchor="middle">{ends}{name}</text>')
    parts.append(f'<line x1="{_x(0):.1f}" x2="{_x(0):.1f}" y1="4" y2="{top}" stroke="{_INK}" stroke-dasharray="4 3" opacity=".6"/>')
    return _drawn(title, top + 28, parts)


def _bin(value: float) -> int:
    return round(_BINS * min(max(math.log10(value), _LOW), _HIGH))


def _x(decade: float) -> float:
    return 40 + (_WIDTH - 80) * (decade - _LOW) / (_HIGH - _LOW)


def _drawn(title: str, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img"'
    return f'{head} fill="{_INK}" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>{"".join(parts)}</svg>\n'
