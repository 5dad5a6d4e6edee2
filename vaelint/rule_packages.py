"""Finds rule packages by the entry point group `vaelint.rules`. The only module that knows where rules live."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import sys
from importlib.metadata import EntryPoint, entry_points

from vaelint.core.errors import UsageError
from vaelint.core.pages import OWN
from vaelint.rule import Rule, RuleError, declared

GROUP = "vaelint.rules"
BUILTIN = "builtin"  # the name of our own entry there


def load_rules() -> list[Rule]:
    """Imports every module of every rule package and returns the rules they declare, by code.

    Raises `UsageError` if a package or a rule cannot be loaded, naming it, and if no rule is found at all: an empty
    catalogue would find every model clean.
    """
    _import_packages()
    rules = declared()
    if not rules:
        raise UsageError("no rules are installed: nothing would be checked", "run `pip install -e .` in the checkout, or reinstall vaelint")
    return rules


@functools.cache
def _import_packages() -> None:
    """Once a process: what is installed is read from a file of each distribution. Ours come first: the others must fit to them."""
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name != BUILTIN, p.value)):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is the report's
                package = importlib.import_module(point.value)
                for info in pkgutil.iter_modules(getattr(package, "__path__", ())):
                    importlib.import_module(f"{package.__name__}.{info.name}")
        except RuleError as error:
            raise UsageError(f"rule package {point.value!r}: {error}", _help(point)) from error
        except (Exception, SystemExit) as error:  # a broken rule package must be named, whatever it raises
            raise UsageError(
                f"rule package {point.value!r} cannot be loaded: {type(error).__name__}: {_first_line(error)}", _help(point)
            ) from error
        codes = [r.code for r in declared() if f"{r.module}.".startswith(f"{package.__name__}.")]
        foreign = [code for code in codes if code.startswith(OWN)] if point.name != BUILTIN else []
        if foreign:
            raise UsageError(f"rule package {point.value!r}: {foreign[0]}: codes that begin with {OWN} are vaelint's own", _help(point))
        if not codes:
            raise UsageError(f"rule package {point.value!r} declares no rule", _help(point))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or "without a word"


def _help(point: EntryPoint) -> str:
    name = point.dist.name if point.dist else point.name
    if point.name == BUILTIN:
        return "reinstall vaelint, or run `pip install -e .` in a checkout"
    return f"fix it, or uninstall it: pip uninstall {name}"
