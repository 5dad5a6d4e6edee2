"""What a shell offers where it completes a line: values of options, rules, targets. Imports no torch and runs no user code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vaelint.config.declared import Option
from vaelint.core.families import FAMILIES
from vaelint.source.target import module_classes

_SHOWN = 40  # files of a folder that are looked into for classes


Rules = Callable[[], Sequence[tuple[str, str]]]
"""Code and name of each rule; asked for only where they are offered."""


def behind_colons() -> None:
    """Where bash asks for what follows a colon, the word that is begun is an empty one behind it.

    bash hands the colon over as the word at hand, although it puts what is offered behind it.
    """
    words, at = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if os.environ.get("_VAELINT_COMPLETE") == "complete_bash" and at.isdecimal() and words[int(at) : int(at) + 1] == [":"]:
        os.environ["COMP_CWORD"] = str(int(at) + 1)


def offered(option: Option, known: Rules, words: Sequence[str], begun: str) -> list[str]:
    """What completes the word that was begun; `words` are the targets before it."""
    if option.completes == ("RULES",):
        return rules(known(), begun)
    if option.completes == ("TARGETS",):
        return targets(words, begun)
    return [w for w in option.completes if w.startswith(begun)]


def rules(known: Sequence[tuple[str, str]], begun: str) -> list[str]:
    """Codes, families and names of rules; of a list with commas the last word is completed."""
    before, comma, last = begun.rpartition(",")
    words = [*(f for f in FAMILIES if len(last) <= len(f)), *(code for code, _ in known)]
    found = [w for w in words if w.startswith(last.upper())] if last else list(FAMILIES)
    return [before + comma + w for w in [*found, *(name for _, name in known if last and name.startswith(last.lower()))]]


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
