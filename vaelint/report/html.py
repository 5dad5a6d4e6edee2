"""`--output-format html`: one page that needs nothing else; its one script is ours and only zooms. Read in `check` and in `trace`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from vaelint.core.finding import Certainty, Finding
from vaelint.core.result import TargetResult
from vaelint.core.version import __version__
from vaelint.report.parts.cards import cards
from vaelint.report.parts.closing import ran_words, term_name, verdict_words
from vaelint.report.parts.curves_html import curves_of
from vaelint.report.parts.flow_html import flow
from vaelint.report.parts.markup import E, element, join, text
from vaelint.report.parts.overview import overview, state
from vaelint.report.parts.places import place_in, with_cells
from vaelint.report.parts.source_html import listings
from vaelint.report.parts.trail_words import fits_lines, one_kind, totals_sentence
from vaelint.report.parts.view import PLAIN, View
from vaelint.report.parts.window import Sources
from vaelint.report.svg import drawing, legend, style

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The page, in the order of the targets."""
    sources = Sources()
    title = f"vaelint: {results[0].target}" if len(results) == 1 else f"vaelint: {len(results)} targets"
    css = style() + _read("page.css")
    script = _read("picture.js") if any(r.trail is not None for r in results) else ""
    head = join(
        E('<meta charset="utf-8">'),
        E(f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'),
        E('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        E('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        E(f"<style>{css}</style>"),
    )
    bodies = [article(r, f"t{i}", view, sources) for i, r in enumerate(results)]
    names = [f"t{i}" for i in range(len(results))]
    listing = overview(results, names, refuted=view.show_refuted) if len(results) > 1 else E("")
    body = join(
        element("a", "Skip to the report", href="#t0", class_="skip"),
        element("main", join(listing, *bodies)),
        element(
            "footer",
            f"vaelint {__version__}. Sizes are letters (B is the batch); costs hold for the sizes named above them.",
        ),
        E(f"<script>{script}</script>") if script else E(""),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def policy(script: str) -> str:
    """What the page may do: no network, and of all scripts only this very text, by its hash
    (https://www.w3.org/TR/CSP3/#grammardef-hash-source), so that nothing that a model brings along can run."""
    if not script:
        return _POLICY
    return f"{_POLICY}; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("vaelint.report").joinpath(name).read_text(encoding="utf-8")


def article(result: TargetResult, here: str, view: View, sources: Sources, *, brief: bool = False) -> E:
    """What is said of one target. `here` is what its identifiers begin with; `brief`: without source and steps, as in a notebook."""
    shown = [(i, f) for i, f in enumerate(result.findings) if f.certainty is not Certainty.REFUTED or view.show_refuted]
    sizes = ", ".join(f"{k} = {v}" for k, v in result.symbols.items())
    head = join(
        element("p", "vaelint", class_="brand"),
        element("h1", result.target, id=here),
        element("p", verdict_words(result), class_=f"verdict {state(result)}"),
        element("p", f"Sizes: {sizes}", class_="sizes") if sizes else E(""),
    )
    parts = [element("header", head), cards(shown, here, sources, view)]
    if result.trail is not None:
        parts.append(_picture(result, view, here))
    if brief:
        done = element("details", join(element("summary", "What was checked"), _checked(result)))
        return element("article", join(*parts, _loss(result), done), aria_labelledby=here)
    parts.append(_loss(result))
    if result.curves is not None:
        about = f"Of {result.curves['observed']} observed iterations. A gap is an iteration that was not seen."
        parts.append(_section("Curves of the observed iterations", curves_of(result.curves), about=about))
    parts += [_evidence(shown, here), _fits(result), listings(result, shown, here, sources)]
    if result.trail is not None:
        parts.append(flow(result.trail, one_kind(result.trail), totals_sentence(result.trail, partly=result.trail["failed"] is not None)))
    parts.append(_checked(result))
    return element("article", join(*parts), aria_labelledby=here)


def _section(title: str, *content: E | str, about: str = "", class_: str = "") -> E:
    said = element("p", about, class_="about") if about else E("")
    return element("section", join(element("h2", title), said, *content), class_=class_ or None)


def _picture(result: TargetResult, view: View, here: str) -> E:
    drawn = E(drawing(result, view.depth, view.everything, anchors=f"{here}-f"))
    key = [element("li", join(element("i", "", class_=f"key {kind}"), word)) for kind, word in legend()]
    marked = next((f.code for f in result.findings if f">{f.code}</text>" in drawn), "")
    leads = f" A code such as {marked} leads to its finding." if marked else ""
    sizes = (("0", "whole", ""), ("1", "as wide as the page", None), ("2", "twice as wide", None))
    zoom = [
        element("label", join(element("input", "", type="radio", name_=f"{here}-zoom", value=n, checked=on), f" {word}"))
        for n, word, on in sizes
    ]
    return _section(
        "The way from input to loss",
        element("ul", join(*key), class_="legend picture", aria_label="Colours and forms"),
        element(
            "div",
            join(
                element("div", join(*zoom), class_="zoom", role="group", aria_label="Size of the picture"),
                element("div", drawn, class_="scroll", tabindex="0", role="region", aria_label="Picture of the way from input to loss"),
            ),
            class_="drawn",
        ),
        about="Each box says what it is, the code that makes it, and the shape that leaves it." + leads,
    )


def _loss(result: TargetResult) -> E:
    terms: list[dict[str, Any]] = result.loss.get("terms") or []
    if not terms and not result.loss.get("objective"):
        return E("")
    rows = []
    for t in terms:
        weight = f"{t.get('sign') or '+'} {t['weight']}" if t.get("weight") else "not measured"
        place = place_in(t.get("span"))
        note = element("div", str(t["note"]), class_="soft") if t.get("note") else E("")
        kernel = element("td", join(str(t.get("kernel") or "?"), note), data_label="what it is")
        cells = [element("th", term_name(t), scope="row"), kernel]
        others = (("reduced by", str(t.get("reduction") or "-")), ("weight", weight), ("at", place or "-"))
        rows.append(element("tr", join(*cells, *(element("td", v, data_label=k) for k, v in others))))
    parts = [_table("The terms of the loss", ("term", "what it is", "reduced by", "weight", "at"), rows)] if rows else []
    beta = result.loss.get("beta")
    if beta:
        value = beta.get("value")
        number = f"{value:.6g}" if isinstance(value, int | float) else str(value)
        said = f"{beta['expression']} = {number}" if str(beta.get("expression")) != number else number
        remark = f" ({beta['note']})" if beta.get("note") else ""
        parts.append(element("p", join(element("strong", f"Effective beta: {said}"), remark), class_="beta"))
    if result.loss.get("objective"):
        parts.append(element("p", f"Objective: {result.loss['objective']}."))
    about = (
        "Weights are against the exact ELBO of one sample. "
        "Effective beta is the weight of the KL over that of the reconstruction: 1 is the ELBO."
    )
    return _section("The loss", *parts, about=about)


def _evidence(shown: Sequence[tuple[int, Finding]], here: str) -> E:
    rows = []
    for i, f in shown:
        if (e := f.evidence) is None:
            continue
        link = element("a", f.code, href=f"#{here}-f{i}")
        detail = element("div", e.detail, class_="soft") if e.detail else E("")
        cells = (("claim", join(e.claim, detail)), ("predicted", e.predicted or "-"), ("measured", e.measured or "-"))
        outcome = ("outcome", f"{f.certainty.value if e.decides else e.outcome} on {e.device}")
        told = join(*(element("td", v, data_label=k) for k, v in (*cells, outcome)))
        rows.append(element("tr", join(element("th", link, scope="row"), told)))
    if not rows:
        return E("")
    about = "Each claim was tried in a real forward and backward pass."
    return _section(
        "The evidence", _table("Claims and measurements", ("rule", "claim", "predicted", "measured", "outcome"), rows), about=about
    )


def _table(caption: str, heads: Sequence[str], rows: Sequence[E]) -> E:
    head = element("tr", join(*(element("th", h, scope="col") for h in heads)))
    inner = join(element("caption", caption), element("thead", head), element("tbody", join(*rows)))
    return element("div", element("table", inner, class_="wide"), class_="scroll", tabindex="0", role="region", aria_label=caption)


def _fits(result: TargetResult) -> E:
    lines = fits_lines(result)
    if not lines:
        return E("")
    return _section(
        "Which inputs fit", element("ul", join(*(element("li", t) for t in lines))), about="Found by tracing the model at other sizes."
    )


def _checked(result: TargetResult) -> E:
    rows = [element("li", join(element("b", "Incomplete: "), ". ".join(filter(None, gap)))) for gap in result.gaps()]
    rows.append(element("li", ran_words(result)))
    if result.quiet:
        rows.append(element("li", f"{len(result.quiet)} rules ran and found nothing: {', '.join(result.quiet)}"))
    if result.not_applicable:
        reasons = [element("li", f"{r['code']}: {r['reason']}") for r in result.not_applicable]
        inner = join(element("summary", f"{len(result.not_applicable)} rules do not apply"), element("ul", join(*reasons)))
        rows.append(element("li", element("details", inner)))
    rows += [element("li", join(element("b", "Note: "), text(with_cells(n)))) for n in result.notes]
    return _section("What was checked and what was not", element("ul", join(*rows)))
