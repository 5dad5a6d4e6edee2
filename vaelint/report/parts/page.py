"""A rule's Markdown page on a terminal with colours."""

from __future__ import annotations

import io


def render_page(markdown: str, width: int) -> str:
    """The page as ANSI text, at most `width` columns."""
    from rich.console import Console
    from rich.markdown import Markdown

    out = io.StringIO()
    Console(file=out, force_terminal=True, force_jupyter=False, width=width).print(Markdown(markdown))
    return out.getvalue()
