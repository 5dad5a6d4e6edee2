"""The page of the gallery: each bug's lines and repair, what a short training came to with and without it, and what vaelint prints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from gallery_sources import FOLDER, INPUT, STEP, Bug, bugs

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 560, 190, 52, 30, 10


def gallery_page() -> str:
    """The whole page, in MyST."""
    measured = json.loads((FOLDER / "measured.json").read_text(encoding="utf-8"))
    right = measured["curves"]["right"]
    head = f"""# A gallery of bugs

Twenty ways in which VAEs are wired wrongly. None of them raises anything. Each is [one small model](#the-model) with a line or two
changed, trained for {measured["steps"]:,} steps on made-up pictures of one soft spot, {measured["seeds"]} seeds each
(torch {measured["torch"]}).

All are measured with one yardstick, whatever loss they were trained with: the negative ELBO of pictures that were not trained on, in nats a
picture, by the right formulas. Less is better; the right model comes to **{right["bound"][-1]:.1f}**, {right["kl"][-1]:.1f} of it KL. The
dashed line is the right model, the solid one has the bug. `python benchmarks/gallery.py` measures all of them again.

"""
    rows = "".join(
        f"| [{b.title}](#{b.name}) | {b.code} | {_number(measured['curves'][b.name]['bound'][-1])} "
        f"| {_number(measured['curves'][b.name]['kl'][-1])} |\n"
        for b in bugs()
    )
    none = f"| none | | {right['bound'][-1]:.1f} | {right['kl'][-1]:.1f} |\n"
    table = f"| bug | code | nats a picture | of it KL |\n|---|---|---|---|\n{none}{rows}"
    model = "\n## The model\n\n```{literalinclude} gallery/vae.py\n:language: python\n```\n\nEach was checked with\n\n"
    model += f"```console\n{_command('vae.py')}\n```\n"
    return head + table + model + "".join("".join(_section(bug, measured)) for bug in bugs())


def _section(bug: Bug, measured: dict[str, Any]) -> Iterator[str]:
    curve, right = measured["curves"][bug.name], measured["curves"]["right"]
    yield f"\n({bug.name})=\n## {bug.title}\n\n{bug.what}\n\n```diff\n{bug.lines()}\n```\n\n"
    yield (
        f"After {measured['steps']:,} steps: **{_number(curve['bound'][-1])}** nats a picture, {_number(curve['kl'][-1])} of it KL "
        f"(right: {right['bound'][-1]:.1f} and {right['kl'][-1]:.1f}). Samples decoded from the prior vary "
        f"{curve['spread'][-1]:.2f} times as much as the data (right: {right['spread'][-1]:.2f}).\n\n"
    )
    yield f"```{{raw}} html\n{picture(curve['bound'], right['bound'], measured['every'], bug.title)}\n```\n\n"
    yield f"```{{literalinclude}} gallery/shown/{bug.name}.txt\n:language: text\n```\n"


def _command(file: str) -> str:
    return f'$ vaelint check {file}:VAE --input "{INPUT}" --step "{STEP}"'


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{value:.1f}" if abs(value) < 1e4 else f"{value:.0e}"


def picture(wrong: list[float | None], right: list[float], every: int, title: str) -> str:
    """Both curves over the steps, on a logarithmic axis, in the colours of the page."""
    values = [v for v in (*wrong, *right) if v is not None and v > 0]
    low, high = math.log10(min(values)) - 0.03, math.log10(min(max(values), 1e5)) + 0.03

    def place(step: int, value: float) -> str:
        share = (math.log10(min(max(value, 10**low), 10**high)) - low) / (high - low)
        x = _LEFT + (_WIDTH - _LEFT - 10) * step / (len(right) - 1)
        return f"{x:.1f},{_ABOVE + (_HEIGHT - _BELOW - _ABOVE) * (1 - share):.1f}"

    def line(curve: list[float | None], look: str) -> str:
        points = " ".join(place(i, v) for i, v in enumerate(curve) if v is not None)
        return f'<polyline fill="none" {look} points="{points}"/>'

    ticks = [t for t in (20, 30, 50, 100, 200, 500, 1000, 10_000, 100_000) if low <= math.log10(t) <= high]
    marks = "".join(_mark(t, place(0, t).partition(",")[2]) for t in ticks)
    last = (len(right) - 1) * every
    below = "".join(
        f'<text x="{_LEFT + (_WIDTH - _LEFT - 10) * share:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">{last * share:,.0f}</text>'
        for share in (0, 0.5, 1)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" fill="currentColor" '
        f'style="max-width:{_WIDTH}px;width:100%;font:11px sans-serif">'
        f"<title>{title}: nats a picture over the steps of the optimizer</title>{marks}{below}"
        + line(list(right), 'stroke="currentColor" stroke-dasharray="5 4" opacity=".6" stroke-width="1.5"')
        + line(wrong, 'stroke="#d1242f" stroke-width="2"')
        + "</svg>"
    )


def _mark(value: float, height: str) -> str:
    """A line across at one value of the axis, and the value."""
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{height}" y2="{height}" stroke="currentColor" opacity=".15"/>'
        f'<text x="{_LEFT - 6}" y="{height}" text-anchor="end" dominant-baseline="middle">{value:,}</text>'
    )
