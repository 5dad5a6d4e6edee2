"""The command line. Imports no torch; the worker imports it while this module reads options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vaelint.cli import cache
from vaelint.cli.annotate import annotate
from vaelint.cli.checking import check
from vaelint.cli.commands import command
from vaelint.cli.config import config
from vaelint.cli.discover import discover
from vaelint.cli.ends import ended
from vaelint.cli.merge_sarif import merge_sarif
from vaelint.cli.observed_run import run
from vaelint.cli.rules import explain, rules
from vaelint.cli.trace import trace
from vaelint.core.version import __version__
from vaelint.process.front import Worker

app = typer.Typer(name="vaelint", add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def main(args: Sequence[str], early: Worker | None = None) -> NoReturn:
    """Runs a command line. `early` is a worker that was started before this module was imported."""
    command = next((a for a in args if not a.startswith("-")), "check")
    ended(lambda: app(list(args), prog_name="vaelint", standalone_mode=False, obj=early), early, command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Tells whether a PyTorch variational autoencoder is wired correctly."""
    if version:
        print(f"vaelint {__version__}")
        raise typer.Exit


for act in (check, discover, trace, annotate, config, rules, explain, merge_sarif):
    command(app, act.__name__.replace("_", "-"), act)
command(app, "run", run, allow_interspersed_args=False)
kept = typer.Typer(help="Results of earlier runs, kept in your own cache folder.", no_args_is_help=True)
for of_cache in (cache.dir, cache.clear):
    kept.command()(of_cache)
app.add_typer(kept, name="cache")
