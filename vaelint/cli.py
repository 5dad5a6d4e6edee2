"""The command line. Imports no torch; the worker imports it while this module reads options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from vaelint import __version__, options
from vaelint.commands import cache
from vaelint.commands.annotate import annotate
from vaelint.commands.check import check
from vaelint.commands.config import config
from vaelint.commands.discover import discover
from vaelint.commands.merge_sarif import merge_sarif
from vaelint.commands.outcome import EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_TROUBLE
from vaelint.commands.rules import explain, rules
from vaelint.commands.terminal import say
from vaelint.commands.trace import trace
from vaelint.errors import UsageError
from vaelint.process.front import Worker

if TYPE_CHECKING:
    from click import Context

app = typer.Typer(name="vaelint", add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def main(args: Sequence[str], early: Worker | None = None) -> NoReturn:
    """Runs a command line. Every way out is an exit code and, if something is wrong, one message.

    `early` is a worker that was started before this module was imported; it is closed here.
    """
    code: Any = EXIT_TROUBLE
    try:
        code = app(list(args), prog_name="vaelint", standalone_mode=False, obj=early) or EXIT_CLEAN
    except UsageError as e:
        say(e.message, e.help or "vaelint check --help shows the options")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except Exception as e:  # noqa: BLE001 - the last stop: no traceback of ours reaches a user
        code = _last_stop(e)
    finally:
        if early is not None:
            early.close()
    sys.exit(code)


def _last_stop(error: Exception) -> int:
    """Exit code for what typer raises to end a run, and for faults of our own."""
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's usage errors
        context: Context | None = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help shows the options" if context else "vaelint --help shows the commands"
        say(error.format_message(), hint)
        return EXIT_TROUBLE
    if type(error).__name__ == "Abort":  # click's name for Ctrl-C
        return EXIT_INTERRUPTED
    say(f"internal error: {type(error).__name__}: {error}", "please report it; VAELINT_TRACEBACK=1 shows where")
    if os.environ.get("VAELINT_TRACEBACK"):
        raise error
    return EXIT_TROUBLE


@app.callback(invoke_without_command=True)
def _root(version: options.Version = False) -> None:
    """Tells whether a PyTorch variational autoencoder is wired correctly."""
    if version:
        print(f"vaelint {__version__}")
        raise typer.Exit


for command in (check, discover, trace, annotate, config, rules, explain, merge_sarif):
    app.command()(command)
kept = typer.Typer(help="Results of earlier runs, kept in .vaelint_cache.", no_args_is_help=True)
for of_cache in (cache.dir, cache.clear):
    kept.command()(of_cache)
app.add_typer(kept, name="cache")
