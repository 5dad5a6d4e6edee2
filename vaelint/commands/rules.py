"""`vaelint rules` and `vaelint explain`."""

from __future__ import annotations

import sys

from vaelint import catalogue, options
from vaelint.commands import terminal


def rules(output_format: options.AsList = options.ListFormat.full) -> None:
    """List all rules."""
    found = catalogue.all_rules()
    form = {
        options.ListFormat.full: catalogue.listing,
        options.ListFormat.json: catalogue.as_json,
        options.ListFormat.markdown: catalogue.as_markdown,
    }[output_format]
    sys.stdout.write(form(found))


def explain(
    code: options.Rule,
    output_format: options.AsList = options.ListFormat.full,
    color: options.Color = None,
) -> None:
    """Explain a rule: what it finds, why that is bad, wrong and right code, when to ignore it."""
    rule = catalogue.find(code)
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json([rule], whole=True))
    elif output_format is options.ListFormat.full and terminal.colour(color, to_file=False):
        from vaelint.report.page import render_page

        sys.stdout.write(render_page(catalogue.explain(rule), terminal.width()))
    else:
        sys.stdout.write(catalogue.explain(rule))
