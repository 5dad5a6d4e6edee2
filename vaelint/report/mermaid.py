"""`trace --output-format mermaid`: the picture as text for Markdown files. https://mermaid.js.org/syntax/flowchart.html"""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.core.errors import UsageError
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible
from vaelint.report.parts.boxes import Box, picture
from vaelint.report.parts.view import PLAIN, View
from vaelint.report.svg import clip

_FORMS = {
    "input": ("[/", "/]"), "encoder": ("[\\", "/]"), "decoder": ("[/", "\\]"), "heads": ("[[", "]]"), "noise": ("((", "))"),
    "latent": ("([", "])"), "loss": ("{{", "}}"), "total": ("{{", "}}"), "failed": (">", "]"),
}  # fmt: skip
_COLOURS = {
    "input": "#eef1f4,stroke:#6e7781", "encoder": "#d9ecff,stroke:#0b5cad", "heads": "#d6f5e3,stroke:#116a3b",
    "reparameterization": "#f1e4ff,stroke:#7a3fbf", "noise": "#ffffff,stroke:#7a3fbf,stroke-dasharray:5 3",
    "latent": "#e6d2ff,stroke:#5b1fa6,stroke-width:2px", "decoder": "#dfe4ff,stroke:#3a45b5", "network": "#e8edf2,stroke:#57606a",
    "loss": "#fff1cc,stroke:#8a5a00", "total": "#ffd98a,stroke:#6b4300,stroke-width:3px", "other": "#f6f6f6,stroke:#8c959f",
    "failed": "#ffdcd7,stroke:#b3261e,stroke-width:3px",
}  # fmt: skip


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One flowchart. Raises UsageError for several targets, or one without a trail."""
    if len(results) != 1:
        raise UsageError("a flowchart shows one target", "name one, or write --output-format html")
    if results[0].trail is None:
        text = results[0].findings[0].message if results[0].findings else "it could not be analysed"
        raise UsageError(f"cannot draw the trail: {text}", "vaelint trace without --output-format says more")
    drawn = picture(results[0], view.depth, view.everything)
    lines = ["flowchart TD"]
    for i, box in enumerate(drawn.boxes):
        opened, closed = _FORMS.get(box.kind, ("[", "]"))
        lines.append(f'    s{i}{opened}"{_label(box)}"{closed}:::{box.kind}')
    lines += [f"    s{a} {'-.->' if drawn.boxes[a].kind == 'noise' else '-->'} s{b}" for a, b in drawn.arrows]
    used = dict.fromkeys(b.kind for b in drawn.boxes)
    lines += [f"    classDef {kind} fill:{_COLOURS[kind]},color:#1b1f24" for kind in used]
    return "\n".join(lines) + "\n"


def _label(box: Box) -> str:
    codes = " ".join(dict.fromkeys(f.code for f in box.findings))
    return "<br/>".join(_x(clip(t, 48)) for t in (box.word, box.title, box.shape, codes) if t)


def _x(text: str) -> str:
    """Characters with a meaning in a label are written by their numbers, which Mermaid reads as `#35;`."""
    return "".join(c if c.isalnum() or c in " _.,:+-*/=()'" or ord(c) > 127 else f"#{ord(c)};" for c in visible(text))
