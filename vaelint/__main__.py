"""The command `vaelint`, also as `python -m vaelint`."""

from __future__ import annotations

import sys
from typing import NoReturn

from vaelint.cache.early import untouched


def main() -> NoReturn:
    """Starts the worker first: importing torch there takes a second, and what is imported here fits into it."""
    early = None
    if sys.argv[1:2] in (["check"], ["trace"]) and "--help" not in sys.argv and ("--no-cache" in sys.argv or not untouched(sys.argv[1:])):
        from vaelint.errors import UsageError
        from vaelint.process.front import Worker

        try:
            early = Worker()
        except UsageError:
            early = None  # `check` runs into it again, where it is reported
    from vaelint import cli

    cli.main(sys.argv[1:], early)


if __name__ == "__main__":
    main()
