"""The command `vaelint`, also as `python -m vaelint`."""

from __future__ import annotations

import sys
from typing import NoReturn

from vaelint.cache.early import recalled
from vaelint.commands.streams import made_ready


def main() -> NoReturn:
    """Starts the worker first: importing torch there takes a second, and what is imported here fits into it."""
    if wrong := made_ready():
        from vaelint.commands.terminal import say

        say(wrong, "cd to a folder that is there")
        sys.exit(2)
    args, early = sys.argv[1:], None
    if args[:1] in (["check"], ["trace"]) and "--help" not in args:
        told = recalled(args) if not {"--no-cache", "--isolated"} & set(args) else None
        if told:
            _again(told)
        if told is None:
            from vaelint.errors import UsageError
            from vaelint.process.front import Worker

            try:
                early = Worker()
            except UsageError:
                early = None  # `check` runs into it again, where it is reported
    from vaelint import cli

    cli.main(args, early)


def _again(told: dict[str, object]) -> None:
    """A check whose words are known from an earlier run of the same line; returns if they are not of a form that is known."""
    from vaelint.commands.checking import Words, check_all
    from vaelint.commands.ends import ended

    if (words := Words.from_json(told)) is not None:
        ended(lambda: check_all(words, None))


if __name__ == "__main__":
    main()
