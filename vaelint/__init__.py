"""Tells whether a PyTorch variational autoencoder is wired correctly.

Public names: `check`, `observe`, `run`, `Report`, `UsageError`, `TargetResult`, `Finding`, `rule`. They load on first use, so that
importing vaelint costs nothing and needs no torch.
"""

import sys  # and no other module but ours: `python -m vaelint` is here before it has taken the working directory out of the way

from vaelint.core.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from vaelint.api import Report as Report
    from vaelint.api import check as check
    from vaelint.api import observe as observe
    from vaelint.api import run as run
    from vaelint.core.errors import UsageError as UsageError
    from vaelint.core.finding import Finding as Finding
    from vaelint.core.result import TargetResult as TargetResult
    from vaelint.rule import rule as rule

__all__ = ["Finding", "Report", "TargetResult", "UsageError", "__version__", "check", "observe", "rule", "run"]

_HOME = {
    "check": ("vaelint.api", "check"),
    "observe": ("vaelint.api", "observe"),
    "run": ("vaelint.api", "run"),
    "Finding": ("vaelint.core.finding", "Finding"),
    "UsageError": ("vaelint.core.errors", "UsageError"),
    "Report": ("vaelint.api", "Report"),
    "TargetResult": ("vaelint.core.result", "TargetResult"),
    "rule": ("vaelint.rule", "rule"),
    "load_ipython_extension": ("vaelint.jupyter", "load_ipython_extension"),  # what `%load_ext vaelint` looks for
}


if not TYPE_CHECKING:
    ModuleType = type(sys)


class _Package(ModuleType):
    """`vaelint.rule` is the decorator, also once the module of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return  # the import system binds a submodule to its package; `sys.modules` still has it
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """Loads a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'vaelint' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
