"""What reads data: for a file that was made up it gives what that holds, whatever name the script has for it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from vaelint.observe.data.stand_ins import lending, stood_in
from vaelint.observe.data.unknown.blanks import Blanks
from vaelint.observe.data.unknown.undecided import MadeMapping, Undecided, real
from vaelint.trace.when_imported import when_imported

Read = Callable[..., Any]
_READS: dict[str, dict[str, tuple[str, str]]] = {
    "numpy": {
        "load": ("", "numpy"), "loadtxt": ("array", "numpy"), "genfromtxt": ("array", "numpy"), "fromfile": ("array", "numpy"),
        "memmap": ("array", "numpy"),
    },
    "pickle": {"load": ("", "")},
    "dill": {"load": ("", "")},
    "cloudpickle": {"load": ("", "")},
    "joblib": {"load": ("", "")},
    "json": {"load": ("", "")},
    "torch": {"load": ("", "torch")},
    "scipy.io": {"loadmat": ("mapping", "numpy")},
    "scipy.sparse": {"load_npz": ("sparse", "numpy")},
    "pandas": dict.fromkeys(
        ("read_pickle", "read_parquet", "read_excel", "read_feather", "read_hdf", "read_json", "read_stata"), ("table", "")
    ),
}  # fmt: skip
"""The functions that read a file, by their modules: what the file can only be, and what its arrays are."""


@contextlib.contextmanager
def reading_blanks(blanks: Blanks, note: Callable[[str], None], own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block, these functions know the files that were made up."""
    with contextlib.ExitStack() as stack:
        for name in _READS:
            stack.enter_context(when_imported(name, lambda module: _changed(module, blanks, stack)))
        stack.enter_context(when_imported("json", lambda module: _lines(module, blanks, stack)))
        stack.enter_context(when_imported("h5py", lambda module: _hdf5(module, blanks, stack)))
        if importlib.machinery.PathFinder.find_spec("h5py") is None:
            stack.enter_context(stood_in({"h5py": lending("h5py", {"File": _closed(blanks)})}, own, note))
        stack.enter_context(_weights(blanks))
        yield


def _is_blank(file: Any, blanks: Blanks) -> str | None:
    """The path of a file that was made up; it is, if it is asked for by its name for the first time, and not there."""
    if isinstance(file, str | os.PathLike):
        with contextlib.suppress(OSError, TypeError), open(file, "rb"):  # noqa: PTH123 - the script's own `open` makes it up
            pass
    return blanks.path_of(file)


def _changed(module: ModuleType, blanks: Blanks, stack: contextlib.ExitStack) -> None:
    for name, (kind, library) in _READS[module.__name__].items():
        original = module.__dict__.get(name)
        if original is not None and not module.__dict__.get("is_lent"):
            stack.callback(setattr, module, name, original)
            setattr(module, name, _knowing(original, kind, library, blanks))


def _knowing(original: Read, kind: str, library: str, blanks: Blanks) -> Read:
    def read(*args: Any, **kwargs: Any) -> Any:
        file = args[0] if args else next((kwargs[k] for k in ("file", "fname", "f", "fp", "filename", "path", "io") if k in kwargs), None)
        path = _is_blank(file, blanks)
        if path is None:
            return original(*args, **kwargs)
        if kind == "sparse":
            return importlib.import_module("scipy.sparse").csr_matrix(blanks.content(path, "array", library))
        sure = kind or ("array" if library == "numpy" and path.endswith(".npy") and not kwargs.get("allow_pickle") else "")
        sure = sure or ("mapping" if library == "numpy" and path.endswith(".npz") else "")
        return blanks.content(path, sure, library)

    read.__name__ = getattr(original, "__name__", "read")
    return read


def _lines(module: ModuleType, blanks: Blanks, stack: contextlib.ExitStack) -> None:
    """`json.loads` of a line, or of all lines, that were made up."""
    original = module.__dict__["loads"]

    def loads(text: Any, *args: Any, **kwargs: Any) -> Any:
        found = blanks.of_line(text)
        if found is None and isinstance(text, str) and text.count("\n") > 1:
            first = blanks.of_line(text.partition("\n")[0])
            found = first
        if found is None:
            return original(text, *args, **kwargs)
        return real(found[0], blanks.wishes, found[1])

    stack.callback(setattr, module, "loads", original)
    module.__dict__["loads"] = loads


def _closed(blanks: Blanks) -> Any:
    """`h5py.File` of a file that was made up."""

    def opened(name: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
        path = _is_blank(name, blanks) if mode == "r" else None
        if path is None:
            raise ModuleNotFoundError("No module named 'h5py'", name="h5py")
        return Groups(blanks, path)

    return opened


class Groups:
    """An HDF5 file."""

    def __init__(self, blanks: Blanks, path: str) -> None:
        self._held = blanks.content(path, "mapping", "numpy")

    def __getitem__(self, key: str) -> Any:
        held = self._held
        for part in str(key).strip("/").split("/"):
            held = held[part]
        return held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    def __contains__(self, key: str) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        """There is nothing to close."""


Groups.__name__ = Groups.__qualname__ = "made-up data"


def _hdf5(module: ModuleType, blanks: Blanks, stack: contextlib.ExitStack) -> None:
    kind: Any = module.__dict__.get("File")
    if not isinstance(kind, type):
        return

    def new(cls: Any, name: Any = None, mode: str = "r", *_: Any, **__: Any) -> Any:
        path = _is_blank(name, blanks) if mode == "r" else None
        return object.__new__(cls) if path is None else Groups(blanks, path)

    setattr(kind, "__new__", new)  # noqa: B010 - a method that a type checker holds against the class
    stack.callback(setattr, kind, "__new__", lambda cls, *_, **__: object.__new__(cls))


@contextlib.contextmanager
def _weights(blanks: Blanks) -> Iterator[None]:
    """Weights that are not there leave a network, or an optimizer, as it was made."""
    owners: list[Any] = [torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]
    kept = [(owner, owner.load_state_dict) for owner in owners]

    def knowing(original: Any) -> Any:
        def load_state_dict(self: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_of_blank(state, blanks):
                return original(self, state, *args, **kwargs)
            blanks.keeps_weights(state)
            return original(self, {}, strict=False) if isinstance(self, torch.nn.Module) else None

        return load_state_dict

    for owner, original in kept:
        owner.load_state_dict = knowing(original)
    try:
        yield
    finally:
        for owner, original in kept:
            owner.load_state_dict = original


def _is_of_blank(state: Any, blanks: Blanks) -> bool:
    """Whether a state is, or was made of, what a file holds that is not there."""
    if isinstance(state, Undecided | MadeMapping):
        return True
    if isinstance(state, dict):
        return any(isinstance(v, Undecided | MadeMapping) for v in state.values()) or (not state and blanks.has_torch())
    return False
