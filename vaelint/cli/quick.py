"""The words of a plain `vaelint check`, read without the command line's library, which takes longer to import than all the rest.

For a run that is answered by kept results. It reads what it is sure of, as that library would, and leaves everything else to it:
abbreviations, mistakes, help, options from variables. tests/cli/test_quick.py holds the two against each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaelint.cli.checking import Words
from vaelint.core.finding import Severity


def _count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) < 1:
        raise ValueError(text)
    return int(text)


_FLAGS = {
    "--perturb": ("perturb", True), "--no-perturb": ("perturb", False), "--color": ("color", True), "--no-color": ("color", False),
    "--exit-zero": ("exit_zero", True), "--update-baseline": ("update_baseline", True), "--prune-baseline": ("prune_baseline", True),
    "--show-refuted": ("show_refuted", True), "--verbose": ("verbose", True), "-v": ("verbose", True), "--no-cache": ("no_cache", True),
    "--allow-no-loss": ("allow_no_loss", True), "--no-allow-no-loss": ("allow_no_loss", False),
    "--timings": ("timings", True), "--isolated": ("isolated", True),
}  # fmt: skip
_SEVERAL = {
    "--input": "input", "--init": "init", "--select": "select", "--ignore": "ignore", "--extend-select": "extend_select",
    "--output-format": "output_format",
}  # fmt: skip
_ONE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--loss": ("loss", str), "--step": ("step", str), "--device": ("device", str), "--shard": ("shard", str),
    "--max-memory": ("max_memory", str),
    "--timeout": ("timeout", float), "--output-file": ("output_file", lambda text: str(Path(text))),
    "--fail-on": ("fail_on", lambda text: Severity(text).value), "--baseline": ("baseline", lambda text: str(Path(text))),
    "--jobs": ("jobs", _count), "-j": ("jobs", _count),
}  # fmt: skip


def words_of(args: Sequence[str]) -> Words | None:
    """What stands behind `vaelint check`; None where the library has to read it."""
    if any(name.startswith(("_VAELINT", "VAELINT_OUTPUT_FORMAT")) for name in os.environ):
        return None  # a shell completes a line; an option is given by a variable
    said: dict[str, Any] = {}
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            said.setdefault("targets", []).append(word)
            continue
        option, equals, value = word.partition("=")
        if option in _FLAGS and not equals:
            name, said_by_it = _FLAGS[option]
            said[name] = said_by_it
            continue
        if (option not in _SEVERAL and option not in _ONE) or (equals and not option.startswith("--")):
            return None
        if not equals:
            if not waiting or waiting[0].startswith("-"):
                return None
            value = waiting.pop(0)
        if option in _SEVERAL:
            said.setdefault(_SEVERAL[option], []).append(value)
            continue
        name, read = _ONE[option]
        try:
            said[name] = read(value)
        except ValueError:
            return None
    return Words(**said)
