"""`vaelint rules` and `vaelint explain`."""

from __future__ import annotations

import sys

from vaelint import catalogue
from vaelint.cli import options, terminal
from vaelint.config import file as config
from vaelint.core.pages import HOME, address, leads_somewhere


def rules(output_format: options.AsList = options.ListFormat.full) -> None:
    """List all rules."""
    found = catalogue.all_rules()
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json(found, _docs()))
    else:
        sys.stdout.write(
            catalogue.as_markdown(found) if output_format is options.ListFormat.markdown else catalogue.listing(found, terminal.room())
        )


def explain(
    code: options.Rule,
    output_format: options.AsList = options.ListFormat.full,
    color: options.Color = None,
) -> None:
    """Explain a rule: what it finds, why that is bad, wrong and right code, when to ignore it."""
    rule = catalogue.find(code)
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json([rule], _docs(), whole=True))
        return
    page = address(rule.code, rule.url, _docs())
    text = catalogue.explain(rule) + (f"\n{page}\n" if leads_somewhere(page) else "")
    if output_format is options.ListFormat.full and terminal.colour(color, to_file=False):
        from vaelint.report.parts.page import render_page

        text = render_page(text, terminal.width())
    sys.stdout.write(text)


def _docs() -> str:
    """Where the pages are, as the configuration here has it."""
    return config.load().docs_url or HOME
