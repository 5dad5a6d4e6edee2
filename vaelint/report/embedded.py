"""A report as one output of a notebook: findings, picture, loss and what was checked, with colours of their own, without a script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from uuid import uuid4

from vaelint.core.result import TargetResult
from vaelint.report.html import article
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.view import PLAIN, View
from vaelint.report.parts.window import Sources
from vaelint.report.svg import style

_COLOURS = re.compile(r"(:root|\.picture)\{(--[^}]*)\}")
_DARK = re.compile(r"@media \(prefers-color-scheme:dark\)\{(:root|\.picture)\{(--[^}]*)\}\}")
_LIGHT_THEMES, _DARK_THEMES = '[data-jp-theme-light="true"] &,.vscode-light &', '[data-jp-theme-light="false"] &,.vscode-dark &'


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """A piece of HTML. Its identifiers are its own, so that a page may hold many."""
    sources, name = Sources(), f"v{uuid4().hex[:8]}"
    bodies = [article(r, f"{name}-{i}", view, sources, brief=True) for i, r in enumerate(results)]
    return element("div", join(E(f"<style>{_style()}</style>"), *bodies), class_="vaelint")


@cache
def _style() -> str:
    """The page's style below our own element only, twice as specific as a notebook's; the notebook's theme wins over the system's."""
    css = style() + files("vaelint.report").joinpath("page.css").read_text(encoding="utf-8")
    said = ((_LIGHT_THEMES, _COLOURS.findall(_DARK.sub("", css))), (_DARK_THEMES, _DARK.findall(css)))
    themes = [f"{_below(theme, where)}{{{colours}}}" for theme, blocks in said for where, colours in blocks]
    own = css.replace(":root{", "&{").replace("body{margin:0;", "&{padding:.2rem 1rem;").replace("body{", "&{")
    return f".vaelint.vaelint{{{own}{''.join(themes)}}}"


def _below(themes: str, where: str) -> str:
    return themes if where == ":root" else ",".join(f"{theme} {where}" for theme in themes.split(","))
