"""The curves of an observed run in the page: what was seen is drawn, what was not is said."""

from __future__ import annotations

from typing import Any

from vaelint.report.parts.charts import Line, chart
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.places import place_in


def curves_of(curves: dict[str, Any]) -> E:
    """All charts, and what is missing in them."""
    seen = curves["iterations"]
    if not seen:
        return element("p", "No iteration could be drawn: " + "; ".join(curves["missing"]))
    numbers = list(range(seen[0], seen[-1] + 1))
    curves = _with_gaps(curves, numbers)
    terms = [Line(t["role"], t["values"], _weighed(t)) for t in curves["terms"]]
    drawn = [chart("Terms of the loss", numbers, terms, unit="what each adds to the loss")]
    if any(b is not None for b in curves["beta"]):
        whole = curves.get("schedule")
        about = _ends(curves["beta"]) + ("" if whole or curves["ended"] else "; observed steps only")
        drawn.append(chart("Effective beta", numbers, [Line("beta", curves["beta"], about)], linear=True))
        drawn += [_schedule(whole)] if whole else []
    gradients = [Line(name, values) for name, values in curves["gradients"].items()]
    drawn.append(chart("Gradient norms", numbers, gradients, unit="before the optimizer's step"))
    for kl in curves["kl"]:
        drawn += _dimensions(kl, numbers)
    missing = join(*(element("li", m) for m in curves["missing"]))
    said = (
        join(element("p", "Not drawn, because it was not observed:", class_="about"), element("ul", missing))
        if curves["missing"]
        else E("")
    )
    return join(element("div", join(*drawn), class_="curves"), said)


def _with_gaps(curves: dict[str, Any], numbers: list[int]) -> dict[str, Any]:
    """The same with None in the place of iterations that were not seen."""

    def filled(values: list[Any]) -> list[Any]:
        known = dict(zip(curves["iterations"], values, strict=True)) if values else {}
        return [known.get(n) for n in numbers]

    terms = [t | {"values": filled(t["values"]), "scales": filled(t["scales"])} for t in curves["terms"]]
    kl = [k | {"values": filled(k["values"]), "inactive": filled(k["inactive"])} for k in curves["kl"]]
    gradients = {name: filled(values) for name, values in curves["gradients"].items()}
    return curves | {"terms": terms, "kl": kl, "gradients": gradients, "beta": filled(curves["beta"])}


def _weighed(term: dict[str, Any]) -> str:
    """`kernel, weight 1/B`; where it moved, the iteration that has this weight, and how it moved."""
    scales = [s for s in term["scales"] if s]
    words = [term["kernel"]]
    if term["weight"]:
        moved = (scales and max(abs(s / scales[0] - 1) for s in scales) > 1e-3) or 0.0 in term["scales"]
        words.append(f"weight {term['weight']}" + (f" in iteration {term['at']}, which moves" if moved else ""))
    return ", ".join(filter(None, words))


def _ends(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{known[0]:.4g} in the first iteration, {known[-1]:.4g} in the last"


def _schedule(whole: dict[str, Any]) -> E:
    """Beta to the end of the training, and what of it was observed."""
    seen = {int(n): beta for n, beta in whole["observed"]}
    told = dict(zip(whole["at"], whole["beta"], strict=True))
    numbers = sorted({*told, *seen})
    lines = [
        Line("schedule", [told.get(n) for n in numbers], f"{whole['expression']} at {place_in(whole['span'])}"),
        Line("observed", [seen.get(n) for n in numbers]),
    ]
    title = f"Effective beta to the end of the schedule, at {told[numbers[-1]]:.4g} there" if numbers[-1] in told else "Effective beta"
    return chart(title, numbers, lines, linear=True, axis=whole["counter"])


def _dimensions(kl: dict[str, Any], numbers: list[int]) -> list[E]:
    """The KL of each dimension, and the share of those below the bar."""
    count = next(len(v) for v in kl["values"] if v)
    lines = [Line(f"dimension {d}", [v[d] if v else None for v in kl["values"]]) for d in range(count)]
    share = [None if s is None else 100 * s for s in kl["inactive"]]
    last = next(s for s in reversed(share) if s is not None)
    about = f"KL below {kl['bar']} nats, {last:.3g} % of {kl['dimensions']} in the last iteration"
    return [
        chart(f"KL of each dimension of {kl['site']}", numbers, lines, unit="nats, mean over the batch", thin=True),
        chart(f"Inactive dimensions of {kl['site']}", numbers, [Line("inactive", share, about)], unit="%", top=100),
    ]
