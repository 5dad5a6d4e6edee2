"""The command line. Imports no torch; the worker imports it while this module reads options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vaelint.cli import cache
from vaelint.cli.annotate import annotate
from vaelint.cli.checking import check
from vaelint.cli.commands import EXAMPLES, command
from vaelint.cli.completion import behind_colons
from vaelint.cli.config import config
from vaelint.cli.discover import discover
from vaelint.cli.ends import ended
from vaelint.cli.merge_sarif import merge_sarif
from vaelint.cli.observed_run import run
from vaelint.cli.rules import explain, known, rules
from vaelint.cli.server import server
from vaelint.cli.trace import trace
from vaelint.core.errors import UsageError
from vaelint.core.version import __version__
from vaelint.process.front import Worker

_FIRST = f"""Example: {EXAMPLES["check"]}

For a training script: {EXAMPLES["run"]}"""

app = typer.Typer(
    name="vaelint", epilog=_FIRST, add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


def main(args: Sequence[str], early: Worker | None = None) -> NoReturn:
    """Runs a command line. `early` is a worker that was started before this module was imported."""
    command = next((a for a in args if not a.startswith("-")), "check")

    def act() -> int | None:
        _no_target(args)
        behind_colons()
        said: int | None = app(list(args), prog_name="vaelint", standalone_mode=False, obj=early)
        return said

    ended(act, early, command)


def _no_target(args: Sequence[str]) -> None:
    """Holds that the first word is no target or file: the command before it was forgotten.

    Raises:
        UsageError: it is one.
    """
    first = args[0] if args else ""
    if not first or first.startswith("-") or first in (*EXAMPLES, "cache"):
        return
    file = re.sub(r"(\.py|\.ipynb):.*", r"\1", first, flags=re.DOTALL)
    if file.endswith((".py", ".ipynb")) or ":" in first or Path(first).exists():
        line = shlex.join(args)
        runs = file == first and file.endswith(".py") and not any(a.startswith("--input") for a in args)
        other = f", or vaelint run {line} to observe the training in it" if runs else ""
        raise UsageError(f"{first} is a target and no command", f"write vaelint check {line}{other}")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Tells whether a PyTorch variational autoencoder is wired correctly."""
    if version:
        print(f"vaelint {__version__}")
        raise typer.Exit


for act in (check, discover, trace, annotate, config, rules, explain, merge_sarif, server):
    command(app, act.__name__.replace("_", "-"), act, known)
command(app, "run", run, known, allow_interspersed_args=False)
kept = typer.Typer(help="Results of earlier runs, kept in your own cache folder.", no_args_is_help=True)
for of_cache in (cache.dir, cache.clear):
    kept.command()(of_cache)
app.add_typer(kept, name="cache")
