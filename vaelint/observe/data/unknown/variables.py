"""Environment variables that a script wants and that are not set: projects, tokens, places, ranks."""

from __future__ import annotations

import os
import re
import traceback

from vaelint.observe.data.unknown.wishes import Wishes

_FIRST = re.compile(r"RANK|_ID$|SEED|GPU|DEVICE")
_COUNT = re.compile(r"WORLD|SIZE|NUM|COUNT|WORKERS|STEPS|EPOCHS")
_PORT = re.compile(r"PORT$")


def wanted_variable(error: BaseException) -> str | None:
    """The variable that an error is about, where `os.environ[...]` raised it."""
    last = next(reversed([frame for frame, _ in traceback.walk_tb(error.__traceback__)]), None)
    asked = isinstance(error, KeyError) and bool(error.args) and last is not None and last.f_locals.get("self") is os.environ
    return str(error.args[0]) if asked else None


def variable_wanted(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Gives a variable that is not set a value: a number where it is called like one, else its own name."""
    name = wanted_variable(error)
    if name is None or name in wishes.variables:
        return False
    number = "0" if _FIRST.search(name) else "1" if _COUNT.search(name) else "29500" if _PORT.search(name) else ""
    wishes.variables[name] = number or name.lower()
    return True
