"""What a shell offers where it completes a line: values of options, rules, targets. Imports no torch and runs no user code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from vaelint import catalogue
from vaelint.config.declared import Option
from vaelint.core.families import FAMILIES
from vaelint.source.target import module_classes

_SHOWN = 40  # files of a folder that are looked into for classes


def completer(option: Option) -> Callable[[typer.Context, str], list[str]] | None:
    """What completes an option, called with what was read of the line and the word that was begun; None where its values are not known."""
    words = option.completes

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        if words == ("RULES",):
            return rules(incomplete)
        if words == ("TARGETS",):
            read = (ctx.params.get("names") or [], [ctx.params.get("target")], ctx.args)
            return targets([w for some in read for w in some if w], incomplete)
        return [w for w in words if w.startswith(incomplete)]

    return offered if words else None


def rules(begun: str) -> list[str]:
    """Codes, families and names of rules; of a list with commas the last word is completed."""
    before, comma, last = begun.rpartition(",")
    known = catalogue.all_rules()
    words = [*(f for f in FAMILIES if len(last) <= len(f)), *(r.code for r in known)]
    found = [w for w in words if w.startswith(last.upper())] if last else list(FAMILIES)
    return [before + comma + w for w in [*found, *(r.name for r in known if last and r.name.startswith(last.lower()))]]


def targets(words: Sequence[str], begun: str) -> list[str]:
    """Folders, Python files and notebooks, and the modules of a file after its colon.

    bash ends a word at a colon, and puts what is offered behind it (from the first letter on); other shells hand the whole word over.
    """
    if words[-1:] == [":"] and len(words) > 1:
        return [c for c in module_classes(words[-2]) if c.startswith(begun)]
    file, colon, name = begun.rpartition(":")
    if colon:
        return [f"{file}:{c}" for c in module_classes(file) if c.startswith(name)]
    folder, _, start = begun.rpartition("/")
    base = Path(folder or ("/" if begun.startswith("/") else "."))
    try:
        there = sorted(p for p in base.iterdir() if p.name.startswith(start) and not p.name.startswith("."))
    except OSError:
        return []
    shown = begun[: len(begun) - len(start)]
    files = [p for p in there if p.suffix in (".py", ".ipynb")]
    named = [f"{shown}{p.name}:{c}" for p in files for c in module_classes(str(p))] if len(files) <= _SHOWN else []
    return [*(f"{shown}{p.name}/" for p in there if p.is_dir()), *(shown + p.name for p in files), *named]
