"""`vaelint rules` and `vaelint explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vaelint import catalogue
from vaelint.cli import terminal
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.core.errors import UsageError
from vaelint.core.pages import HOME, address, leads_somewhere

if TYPE_CHECKING:
    from vaelint.process.front import Worker


def rules(said: Options, early: Worker | None = None) -> None:
    """List all rules."""
    found = catalogue.all_rules()
    if said.form == "json":
        sys.stdout.write(catalogue.as_json(found, _docs()))
    else:
        sys.stdout.write(catalogue.as_markdown(found) if said.form == "markdown" else catalogue.listing(found, terminal.room()))


def known() -> list[tuple[str, str]]:
    """Code and name of each rule, for a shell that completes a line."""
    return [(rule.code, rule.name) for rule in catalogue.all_rules()]


def explain(said: Options, early: Worker | None = None) -> None:
    """Explain a rule: what it finds, why that is bad, wrong and right code, when to ignore it."""
    try:
        rule = catalogue.find(said.code)
    except UsageError:
        if not (told := catalogue.explain_part(said.code)):
            raise
        sys.stdout.write(told)
        return
    if said.form == "json":
        sys.stdout.write(catalogue.as_json([rule], _docs(), whole=True))
        return
    page = address(rule.code, rule.url, _docs())
    text = catalogue.explain(rule) + (f"\n{page}\n" if leads_somewhere(page) else "")
    if said.form == "full" and terminal.colour(said.color, to_file=False):
        from vaelint.report.parts.page import render_page

        text = render_page(text, terminal.width())
    sys.stdout.write(text)


def _docs() -> str:
    """Where the pages are, as the configuration here has it."""
    return config.load().top.docs_url or HOME
