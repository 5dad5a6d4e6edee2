"""Many targets at a glance: verdict, objective, effective beta on one logarithmic axis, findings by family."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from vaelint.core.families import FAMILIES
from vaelint.core.finding import Certainty
from vaelint.core.result import TargetResult
from vaelint.report.parts.closing import total, unasked, verdict_words
from vaelint.report.parts.markup import E, element, join, text

_WIDTH, _MARGIN = 200, 14
_LABELS = 5  # of the axis, at most


def overview(results: Sequence[TargetResult], names: Sequence[str], *, refuted: bool = False) -> E:
    """The table, a row a target that leads to its part of the page. `names` are the identifiers of these parts."""
    betas = [_beta(r) for r in results]
    known = [math.log10(b) for b in betas if b is not None]
    axis = _Axis(min([-1, *(math.floor(x) for x in known)]), max([1, *(math.ceil(x) for x in known)]), used=bool(known))
    rows = [_row(r, name, beta, axis, refuted) for r, name, beta in zip(results, names, betas, strict=True)]
    heads = ["target", "verdict", "objective", "effective beta"] + (["on a logarithmic axis"] if known else []) + ["findings"]
    titles = [element("th", join(h, axis.labels() if h == "on a logarithmic axis" else ""), scope="col") for h in heads]
    caption = element("caption", "An effective beta of 1 is the ELBO; the dashed line marks it." if known else "All targets")
    inner = join(caption, element("thead", element("tr", join(*titles))), element("tbody", join(*rows)))
    table = element(
        "div", element("table", inner, class_="wide overview"), class_="scroll", tabindex="0", role="region", aria_label="Targets"
    )
    counts = "".join(part for line in total(results) for part, _ in line)
    return element("section", join(element("h1", "Overview"), element("p", counts, class_="about"), table))


def state(result: TargetResult) -> str:
    """How a verdict is coloured: `failed`, `bad`, `none` where no rule was asked, `good`."""
    return "failed" if not result.whole else "bad" if result.status == "findings" else "none" if unasked(result) else "good"


def _row(result: TargetResult, name: str, beta: float | None, axis: _Axis, refuted: bool) -> E:
    shown = [f for f in result.findings if f.certainty is not Certainty.REFUTED or refuted]
    counts = Counter(f.code[:4] for f in shown)
    found = ", ".join(f"{FAMILIES.get(family, family)} {n}" for family, n in sorted(counts.items()))
    said = str((result.loss.get("beta") or {}).get("expression") or "-")
    number = "" if beta is None or said == f"{beta:.6g}" else f" = {beta:.4g}"
    cells = [
        element("th", element("a", result.target, href=f"#{name}"), scope="row"),
        element("td", element("span", verdict_words(result), class_=f"state {state(result)}"), data_label="verdict"),
        element("td", str(result.loss.get("objective") or "-"), data_label="objective"),
        element("td", said + number, data_label="effective beta"),
    ]
    if axis.used:
        cells.append(element("td", axis.dot(beta), data_label="on a logarithmic axis"))
    return element("tr", join(*cells, element("td", found or "-", data_label="findings")))


def _beta(result: TargetResult) -> float | None:
    value = (result.loss.get("beta") or {}).get("value")
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None


class _Axis:
    """Powers of ten from `low` to `high`, all rows alike."""

    def __init__(self, low: int, high: int, *, used: bool) -> None:
        self.low, self.high, self.used = low, high, used

    def labels(self) -> E:
        """The powers above the rows."""
        step = max(1, math.ceil((self.high - self.low) / (_LABELS - 1)))
        texts = [f'<text x="{self._at(k):.0f}" y="12">{text(_power(k))}</text>' for k in range(0, self.high + 1, step)]
        texts += [f'<text x="{self._at(k):.0f}" y="12">{text(_power(k))}</text>' for k in range(-step, self.low - 1, -step)]
        return E(f'<svg class="axis" viewBox="0 0 {_WIDTH} 16" width="{_WIDTH}" height="16" aria-hidden="true">{"".join(texts)}</svg>')

    def dot(self, beta: float | None) -> E:
        """The row of a target; empty where its beta is not known."""
        if beta is None:
            return E("-")
        ticks = "".join(
            f'<path class="{"one" if k == 0 else "tick"}" d="M{self._at(k):.0f} 0V20"/>' for k in range(self.low, self.high + 1)
        )
        line = f'<path class="tick" d="M{_MARGIN} 10H{_WIDTH - _MARGIN}"/>'
        x, off = self._at(math.log10(beta)), abs(math.log10(beta)) > 0.5
        return E(
            f'<svg class="axis" viewBox="0 0 {_WIDTH} 20" width="{_WIDTH}" height="20" role="img" aria-label="effective beta {beta:.4g}">'
            f'{line}{ticks}<circle class="{"far" if off else "near"}" cx="{x:.1f}" cy="10" r="5"/></svg>'
        )

    def _at(self, power: int | float) -> float:
        return _MARGIN + (power - self.low) / (self.high - self.low) * (_WIDTH - 2 * _MARGIN)


def _power(k: int) -> str:
    return f"{10.0**k:g}" if -3 <= k <= 3 else f"1e{k}"
