"""One page a law, out of what the code says of it: statement, intervention, exemptions, the rules that speak for it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaelint.rule import Rule

if TYPE_CHECKING:
    from vaelint.laws.law import Law

_COST = {
    "replay": "slices of the recorded step, run again; no device is needed",
    "fast": "one real run, of which parts run again",
    "all": "further whole runs of the step (`--laws all`, the default)",
}


def laws() -> list[Law]:
    """All laws, by name."""
    importlib.import_module("vaelint.laws.every")
    return sorted(importlib.import_module("vaelint.laws.law").LAWS, key=lambda law: law.name)


def law_pages(rules: Sequence[Rule]) -> dict[str, str]:
    """The pages, by their files."""
    return {f"laws/{law.name}.md": _page(law, rules) for law in laws()}


def _page(law: Law, rules: Sequence[Rule]) -> str:
    module = sys.modules[law.broken.__module__]
    names = set(_names(Path(module.__file__ or "")))
    codes = [r.code for r in rules if r.name in names]
    covered = ", ".join(c if len(c) == 6 else f"{c}.." for c in law.covered)
    lines = [
        "---\norphan: true\n---\n",  # the table of laws leads here: the sidebar of each page would hold them all
        f"# {law.name}\n",
        f"{law.says[0].upper()}{law.says[1:]}.\n",
        _prose(_intervention(module.__doc__ or "")),
        "## What is asked, and what is exempt\n",
        _prose(law.broken.__doc__),
        f"- Speaks as {', '.join(codes)}.",
        f"- Costs {_COST[law.cost]}.",
    ]
    lines += [f"- Adds nothing where {covered} has spoken of the same place."] if covered else []
    return "\n".join(lines) + "\n\n[All laws](../laws.md)\n"


def _intervention(text: str) -> str:
    """A module's docstring without its first paragraph, where that says the law again."""
    first, _, rest = inspect.cleandoc(text).partition("\n\n")
    return rest or re.sub(r"^Laws? [A-D]\d*(,[^:]*)?: *", "", first)


def _prose(text: str | None) -> str:
    """A docstring as paragraphs; a star of a formula is no emphasis."""
    cleaned = inspect.cleandoc(text or "")
    shown = (part if part.startswith("`") else re.sub(r"([*_<>])", r"\\\1", part) for part in re.split(r"(`[^`]*`)", cleaned))
    text = "".join(shown)
    return text[:1].upper() + text[1:] + "\n"


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
