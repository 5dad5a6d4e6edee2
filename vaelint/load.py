"""Finds rule packages by the entry point group `vaelint.rules`. The only module that knows where rules live."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points

from vaelint.errors import UsageError
from vaelint.rule import Rule, RuleError, declared

GROUP = "vaelint.rules"


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
    """Once a process: what is installed is read from a file of each distribution."""
    for point in entry_points(group=GROUP):
        try:
            package = point.load()
            for info in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{info.name}")
        except RuleError as error:
            raise UsageError(str(error)) from error
        except Exception as error:  # a broken rule package must be named, whatever it raises
            raise UsageError(
                f"rule package {point.value!r} cannot be loaded: {type(error).__name__}: {error}",
                "reinstall it, or run `pip install -e .` in a checkout",
            ) from error
