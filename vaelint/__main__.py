"""The command `vaelint`, also as `python -m vaelint`.

`python -m` looks for modules in the working directory first, where a repository may have a `random.py` or a `typer.py`. So `sys` alone
is imported before `main` has taken that folder out of the way.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from vaelint.process.front import Worker


def main() -> "NoReturn":
    """Runs the command line and ends the program: whatever happens, with an exit code that says so and at most one message."""
    if not sys.flags.safe_path:
        del sys.path[:1]  # the working directory, or the folder of the script
    try:
        _said_again(sys.argv[1:])
        from vaelint.cli.interrupts import leave_at_once

        leave_at_once()
        _start(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the command line itself could not be imported
        sys.stderr.write(f"vaelint: internal error: {type(error).__name__}: {error}\nhelp: install vaelint again, with what it needs\n")
    sys.exit(3)


def _said_again(args: list[str]) -> None:
    """Ends the program where it is known what it would print: before anything else is imported, and without taking anything down."""
    if args[:1] == ["check"]:
        from vaelint.cache.said import said_again

        if (code := said_again(args)) is not None:
            import os

            os._exit(code)


def _start(args: list[str]) -> "NoReturn":
    """Starts the worker first: importing torch there takes a second, and what is imported here fits into it."""
    from vaelint.cli.streams import made_ready

    if wrong := made_ready():
        from vaelint.cli.terminal import say

        say(wrong, "cd to a folder that is there")
        sys.exit(2)
    early = None
    if args == ["--version"] or args[:1] in (["rules"], ["explain"]):
        _told(args)
    from vaelint.cache.early import untouched

    if args[:1] in (["check"], ["trace"], ["run"]) and "--help" not in args:
        if args[0] == "run" or {"--no-cache", "--isolated"} & set(args) or not untouched(args):
            early = _worker()
        if args[0] == "check":
            _watch()
    _plain(args, early)
    from vaelint.cli import app

    app.main(args, early)


def _watch() -> None:
    """From here on it is known where this process looks."""
    from vaelint.cache.looked import watch

    watch()


def _worker() -> "Worker | None":
    from vaelint.core.errors import UsageError
    from vaelint.process.front import Worker

    try:
        return Worker()
    except UsageError:
        return None  # `check` runs into it again, where it is reported


def _told(args: list[str]) -> None:
    """What only tells something, where its words are plain: typer takes longer to import than all the rest."""
    from vaelint.cli.ends import ended
    from vaelint.cli.quick import words_of

    if args == ["--version"]:
        from vaelint.core.version import __version__

        ended(lambda: print(f"vaelint {__version__}"))
    if (said := words_of(args[1:], args[0])) is not None:
        from vaelint.cli.rules import explain, rules

        act = rules if args[0] == "rules" else explain
        ended(lambda: act(said), command=args[0])


_PLAIN = {"check": "checking", "trace": "trace", "annotate": "annotate", "config": "config", "discover": "discover"}
"""Commands that are run without the command line's library where their words are plain, and their modules."""


def _plain(args: list[str], early: "Worker | None") -> None:
    """Runs a command whose words are plain; returns if the command line has to be read with care."""
    if not args or args[0] not in _PLAIN:
        return
    from vaelint.cli.quick import words_of

    command = args[0]
    if (said := words_of(args[1:], command)) is not None:
        import importlib

        from vaelint.cli.ends import ended

        act = getattr(importlib.import_module(f"vaelint.cli.{_PLAIN[command]}"), command)
        ended(lambda: act(said, early), early, command)


if __name__ == "__main__":
    main()
