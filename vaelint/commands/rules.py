"""`vaelint rules` and `vaelint explain`."""

from __future__ import annotations

import sys

from vaelint import catalogue, config, options
from vaelint.commands import terminal
from vaelint.pages import HOME


def rules(output_format: options.AsList = options.ListFormat.full) -> None:
    """List all rules."""
    found = catalogue.all_rules()
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json(found, _docs()))
    else:
        sys.stdout.write(catalogue.as_markdown(found) if output_format is options.ListFormat.markdown else catalogue.listing(found))


def explain(
    code: options.Rule,
    output_format: options.AsList = options.ListFormat.full,
    color: options.Color = None,
) -> None:
    """Explain a rule: what it finds, why that is bad, wrong and right code, when to ignore it."""
    rule = catalogue.find(code)
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json([rule], _docs(), whole=True))
    elif output_format is options.ListFormat.full and terminal.colour(color, to_file=False):
        from vaelint.report.page import render_page

        sys.stdout.write(render_page(catalogue.explain(rule), terminal.width()))
    else:
        sys.stdout.write(catalogue.explain(rule))


def _docs() -> str:
    """Where the pages are, as the configuration here has it."""
    return config.load().docs_url or HOME
