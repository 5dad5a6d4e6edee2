"""Dictionaries whose entries are attributes too, of packages that hold nothing else: easydict, addict, munch, attrdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any


class AttributeDict(dict[str, Any]):
    """A dictionary, whose entries are its attributes too, and those of dictionaries within."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for given in (*args, kwargs):
            for key, value in attributes_of(given).items():
                self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, Mapping) and not isinstance(value, AttributeDict):
            value = type(self)(value)
        elif type(value) in (list, tuple):
            value = type(value)(type(self)(v) if type(v) is dict else v for v in value)
        super().__setitem__(key, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As a dictionary does."""
        for given in (*args, kwargs):
            for key, value in attributes_of(given).items():
                self[key] = value

    def as_dict(self) -> dict[str, Any]:
        """The entries."""
        return dict(self)

    toDict = to_dict = as_dict  # noqa: N815 - as these packages name it


AttributeDict.__name__ = AttributeDict.__qualname__ = "dict"


def attributes_of(given: Any) -> dict[str, Any]:
    """The entries of a dictionary, of pairs, or of what argparse gives."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, Iterable):
        return dict(given)
    return dict(vars(given)) if given is not None else {}


def package(name: str, kind: str) -> Callable[[], dict[str, ModuleType]]:
    """What makes the module of such a package, whose class is called `kind`."""

    def make() -> dict[str, ModuleType]:
        made = ModuleType(name, "stands in for a package that is not installed")
        made.__dict__.update({kind: type(kind, (AttributeDict,), {}), "munchify": AttributeDict, "__version__": "99.0"})
        return {name: made}

    return make
