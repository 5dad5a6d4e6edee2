"""The ways out of a command: each is an exit code and, if something is wrong, one message."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from vaelint.cli import interrupts
from vaelint.cli.exits import EXIT_CLEAN, EXIT_INTERNAL, EXIT_TROUBLE
from vaelint.cli.interrupts import EXIT_INTERRUPTED
from vaelint.cli.streams import flushed, to_nowhere
from vaelint.cli.terminal import say
from vaelint.core.errors import UsageError

if TYPE_CHECKING:
    from click import Context

    from vaelint.process.front import Worker

_OUTPUT = (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT)
"""What writing to a stream may end in; an error of a file names the file."""


def ended(act: Callable[[], int | None], early: Worker | None = None, command: str = "check") -> NoReturn:
    """Acts, and ends the program. `early` is a worker that was started before; it is closed here. `command` is whose help is named."""
    code: Any = EXIT_TROUBLE
    try:
        with interrupts.as_exception():
            code = act() or EXIT_CLEAN
        if (fault := flushed()) is not None:
            raise fault
    except UsageError as e:
        say(e.message, e.help or f"vaelint {command} --help shows the options")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        to_nowhere(1)
    except SystemExit as e:
        if not isinstance(e.__context__, BrokenPipeError):
            raise
        to_nowhere(1)  # click ends such a run with 1, which would say that something was found
    except OSError as e:
        code = _not_written(e) if flushed() is not None or (e.filename is None and e.errno in _OUTPUT) else _last_stop(e)
    except Exception as e:  # noqa: BLE001 - the last stop: no traceback of ours reaches a user
        code = _last_stop(e)
    finally:
        if early is not None:
            early.close()
    interrupts.ignore()
    sys.exit(code if interrupts.heard() is None else interrupts.heard())


def _not_written(error: OSError) -> int:
    """Of standard output: a closed one, a full disk. A report that nobody can read is no check."""
    say("cannot write standard output: " + ("it is closed" if error.errno == errno.EBADF else error.strerror or str(error)))
    return EXIT_TROUBLE


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
        traceback.print_exception(error)
    return EXIT_INTERNAL
