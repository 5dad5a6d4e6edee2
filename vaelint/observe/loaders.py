"""Where batches come from: `DataLoader`, and the loaders that libraries put around one. All is put back afterwards."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch.utils.data import DataLoader

from vaelint.observe.logged import aside
from vaelint.observe.session import Session
from vaelint.trace.when_imported import when_imported


class _Batches:
    """A loader's iterator, whose batches pass the session."""

    def __init__(self, session: Session, loader: Any, inner: Any, within: _Within) -> None:
        self._session, self._loader, self._inner, self._within = session, loader, inner, within
        self._given = False

    def __iter__(self) -> _Batches:
        return self

    def __len__(self) -> int:
        return len(self._inner)

    def __next__(self) -> Any:
        if self._given and self._session.passes_over:
            raise StopIteration
        self._given = True
        with aside(self._session), self._within:
            batch = next(self._inner)
        return self._session.on_batch(self._loader, batch, sys._getframe(1))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Within:
    """Whether a loader is at work: what it takes from loaders inside of it, a batch ahead for instance, is its own business."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


@contextlib.contextmanager
def loaders_watched(session: Session) -> Iterator[None]:
    """Loaders work in this process, and the batches of the outermost ones pass the session.

    Classes that inherit from `DataLoader` and iterate in a way of their own are watched too, also those defined within the block.
    """
    kind: Any = DataLoader
    within, kept = _Within(), list[tuple[Any, str, Any]]()

    def put(owner: Any, name: str, new: Any) -> None:
        kept.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, new)

    def watch(owner: Any) -> None:
        if "__iter__" in vars(owner):
            put(owner, "__iter__", _iterated(session, vars(owner)["__iter__"], within))

    def adapters(module: ModuleType) -> None:
        for owner in vars(module).values():  # say that they are loaders, and do not inherit from them
            if isinstance(owner, type) and owner.__module__ == module.__name__ and owner.__name__.startswith("DataLoader"):
                watch(owner)

    def defined(cls: Any, /, **kwargs: Any) -> None:
        super(kind, cls).__init_subclass__(**kwargs)
        watch(cls)

    for owner in _kinds(kind):
        watch(owner)
    put(kind, "__init__", _in_this_process(kind.__init__))
    put(kind, "__init_subclass__", classmethod(defined))
    try:
        with when_imported("accelerate.data_loader", adapters):
            yield
    finally:
        for owner, name, old in reversed(kept):
            if old is None:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _iterated(session: Session, original: Callable[[Any], Any], within: _Within) -> Callable[[Any], Any]:
    def iterate(self: Any) -> Any:
        if within.depth:
            return original(self)
        with aside(session), within:
            inner = iter(original(self))
        return _Batches(session, self, inner, within)

    return iterate


def _in_this_process(made: Callable[..., None]) -> Callable[..., None]:
    """`DataLoader.__init__` without workers."""
    signature = inspect.signature(made)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        if bound.arguments.get("num_workers"):
            bound.arguments["num_workers"] = 0
            for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "timeout"):
                bound.arguments.pop(name, None)
        made(*bound.args, **bound.kwargs)

    return init


def _kinds(of: Any) -> list[Any]:
    """A class and all that inherit from it, each once."""
    found: dict[Any, None] = {of: None}
    for kind in of.__subclasses__():
        found.update(dict.fromkeys(_kinds(kind)))
    return list(found)
