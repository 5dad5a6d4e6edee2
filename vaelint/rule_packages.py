"""Finds rule packages by the entry point group `vaelint.rules`. The only module that knows where rules live."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import pkgutil
import sys

from vaelint.core.errors import UsageError
from vaelint.core.pages import OWN
from vaelint.entry_points import EntryPoint, entry_points
from vaelint.rule import Rule, RuleError, declared

GROUP = "vaelint.rules"
BUILTIN = "builtin"  # the name of our own entry there
OWN_PACKAGE = "vaelint_rules"


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


def own_rule(word: str) -> Rule | None:
    """The rule of vaelint's own with that code or name, found by the name of its file; none but that is imported. None if there is none."""
    code, name = f"{word.lower()}_", f"_{word.lower().replace('-', '_')}"
    for module in _own_modules():
        if module.startswith(code) or module.endswith(name):
            importlib.import_module(f"{OWN_PACKAGE}.{module}")
    return next((r for r in declared() if word.upper() == r.code or word.lower() == r.name), None)


@functools.cache
def _own_modules() -> tuple[str, ...]:
    spec = importlib.util.find_spec(OWN_PACKAGE)
    return tuple(info.name for info in pkgutil.iter_modules(spec.submodule_search_locations)) if spec is not None else ()


@functools.cache
def _import_packages() -> None:
    """Once a process: what is installed is read from a file of each distribution. Ours come first: the others must fit to them."""
    for point in sorted(entry_points(GROUP), key=lambda p: (p.name != BUILTIN, p.value)):
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
    if point.name == BUILTIN:
        return "reinstall vaelint, or run `pip install -e .` in a checkout"
    return f"fix it, or uninstall it: pip uninstall {(point.dist or point.name).replace('_', '-')}"
