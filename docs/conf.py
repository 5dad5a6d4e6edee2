"""Sphinx: how the pages are built. `make docs`, or `sphinx-build --fail-on-warning --nitpicky docs docs/_build/html`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import generated
from code_links import linked

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "vaelint"
author = copyright = _PROJECT["authors"][0]["name"]
version = release = _PROJECT["version"]
html_baseurl = _PROJECT["urls"]["Documentation"]
html_title = f"vaelint {version}"
html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["wide.css"]
html_copy_source = False
extensions = ["myst_parser"]
myst_heading_anchors = 3  # a link to a heading that is not there is a warning, and a warning is an error
highlight_language = "default"  # Python where it is some: a step of a training loop need not be
exclude_patterns = ["_build"]
nitpicky = True


def _link_rules(app: Sphinx, name: str, source: list[str]) -> None:
    room, _, page = name.rpartition("/")
    folder, own = ("", page) if room == "rules" else ("../rules/" if room else "rules/", "")
    source[0] = linked(source[0], folder, {r.code for r in generated.own_rules()} - {own})
    if name == "laws":
        source[0] = re.sub(r"^\| `([\w-]+)` \|", r"| [`\1`](laws/\1.md) |", source[0], flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Has the pages that follow from the code written anew before each build, and codes linked in all."""
    app.add_config_value("made_pages", True, "env", [bool])  # -D made_pages=0: for a folder of other pages
    app.connect("builder-inited", lambda app: generated.write(Path(app.srcdir)) if app.config.made_pages else None)
    app.connect("source-read", _link_rules)
