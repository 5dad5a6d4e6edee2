"""A module that stands in for tensorflow where it is not installed: `tf.keras` and the functions beside it are Keras 3 on torch.

It is found only by the user's own imports, and by Keras' functions of old that call tensorflow. What it lacks is a placeholder, which
accepts everything while modules are imported, and says what is missing, with its line, once the model depends on it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from vaelint.core.paths import user_file
from vaelint.loading.placeholder import Placeholder, PlaceholderModule

_KERAS = "keras._tf_keras.keras"  # with the functions of Keras 2's backend, as tensorflow 2.16 has it
_PROBABILITY = "tensorflow_probability"
_FUNCTIONS, _NAMES = "vaelint.loading.tensorflow_functions", "vaelint.loading.keras_names"


class _Tensorflow(ModuleType):
    """tensorflow, or a part of it. Keras is imported once something is asked of it."""

    __path__: list[str] = []  # noqa: RUF012  (a module attribute: submodules are looked for)
    __version__ = "2.16"
    stands_in = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        part = self.__name__.removeprefix("tensorflow").removeprefix(".")
        return _looked_up(part, name)


def _looked_up(part: str, name: str) -> Any:
    importlib.import_module("keras")  # before what is made of it
    functions: Any = importlib.import_module(_FUNCTIONS)
    if part in ("compat", "compat.v1", "compat.v2", "python", "experimental"):
        part = ""  # older names of the same
    if name == "keras" and not part:
        return importlib.import_module(_KERAS)
    known = functions.PARTS.get(part) if part else functions.NAMES
    if known is not None and name in known:
        return known[name]
    if not part and (name in functions.PARTS or name in ("compat", "python")):
        return sys.modules.setdefault(f"tensorflow.{name}", _Tensorflow(f"tensorflow.{name}"))
    return Placeholder(f"tensorflow.{part}.{name}" if part else f"tensorflow.{name}")


class _Loader(importlib.abc.Loader):
    def __init__(self, alias: str = "") -> None:
        self._alias = alias

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        if self._alias:
            return importlib.import_module(self._alias)
        return _Tensorflow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


_OLDER = frozenset({"layers", "engine", "preprocessing", "utils", "callbacks", "optimizers", "legacy", "backend"})
"""Parts of Keras 2 whose modules Keras 3 has put together, or elsewhere."""


def _was_there(name: str) -> bool:
    return name.split(".")[1] in _OLDER


class _Older(ModuleType):
    """A module that Keras 2 had, with what Keras 3 has under the same names."""

    __path__: list[str] = []  # noqa: RUF012  (a module attribute: submodules are looked for)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            same, part = f"{_KERAS}{self.__name__.removeprefix('keras')}", f"keras.{self.__name__.split('.')[1]}"
            for home in (same, part, "keras.layers", "keras.models", "keras.utils", "keras"):
                found = importlib.import_module(home) if _there(home) else None
                if found is not None and not isinstance(found, _Older) and hasattr(found, name):
                    return getattr(found, name)
        raise AttributeError(f"Keras 3 has no {self.__name__}.{name}")


class _AbsentLoader(importlib.abc.Loader):
    """tensorflow-probability is not stood in for: it may be imported, and is asked for once the code uses it."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return PlaceholderModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class _OlderLoader(importlib.abc.Loader):
    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Older(self._name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class _Finder(importlib.abc.MetaPathFinder):
    """Comes first: Keras runs on torch here, whatever the file asks for; tensorflow is stood in for where it is absent and Keras is not."""

    def __init__(self, note: Callable[[str], None], trains: bool) -> None:
        self._note, self._said, self._trains = note, False, trains

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if name == "keras":
            return self._on_torch()
        if (
            top == "keras"
            and _was_there(name)
            and _wanted(sys._getframe(1))
            and importlib.machinery.PathFinder.find_spec(name, list(path or ())) is None
        ):
            self._note(f"Keras 3 has no {name}: the names are taken from where it has them now")
            return importlib.machinery.ModuleSpec(name, _OlderLoader(name), is_package=True)
        if top == _PROBABILITY and _stood_in_for() and importlib.machinery.PathFinder.find_spec(top) is None and _wanted(sys._getframe(1)):
            return importlib.machinery.ModuleSpec(name, _AbsentLoader(), is_package=True)
        if top != "tensorflow" or (name == top and not _wanted(sys._getframe(1))) or not _stood_in_for():
            return None
        if name == top and not self._said:
            self._said = True
            self._note("tensorflow is not installed; its code is analysed with Keras 3 on torch")
        for prefix in ("tensorflow.keras", "tensorflow.python.keras"):
            if name == prefix or name.startswith(f"{prefix}."):
                rest = name.removeprefix(prefix)
                if alias := next((a for a in (_KERAS + rest, f"keras{rest}") if _there(a)), ""):
                    return importlib.machinery.ModuleSpec(name, _Loader(alias), is_package=True)
                if rest and _was_there(f"keras{rest}"):
                    return importlib.machinery.ModuleSpec(name, _OlderLoader(f"keras{rest}"), is_package=True)
        return importlib.machinery.ModuleSpec(name, _Loader(), is_package=True)

    def _on_torch(self) -> importlib.machinery.ModuleSpec | None:
        """Keras as it is, on torch, and put right for files of its earlier versions once it is imported."""
        asked = os.environ.get("KERAS_BACKEND", "torch")
        os.environ["KERAS_BACKEND"] = "torch"
        if asked != "torch":
            self._note(f"the file asks for Keras on {asked}; it is analysed on torch")
        spec = importlib.machinery.PathFinder.find_spec("keras")
        if spec is None or spec.loader is None or not _is_keras_itself(spec):
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            names: Any = importlib.import_module(_NAMES)
            names.put_right(self._note, lambda: _Tensorflow("tensorflow"), self._trains)

        loader.exec_module = exec_module
        return spec


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _stood_in_for() -> bool:
    """Whether there is Keras, and no tensorflow."""
    find = importlib.machinery.PathFinder.find_spec
    keras = find("keras")
    return find("tensorflow") is None and keras is not None and _is_keras_itself(keras)


def _is_keras_itself(spec: importlib.machinery.ModuleSpec) -> bool:
    """Whether it is Keras 3, and not a folder of that name."""
    return spec.origin is not None and (Path(spec.origin).parent / "src" / "layers").is_dir()


def _wanted(frame: FrameType | None) -> bool:
    """Whether the user's code imports it, or Keras' functions of old do."""
    while frame is not None:
        file = frame.f_code.co_filename
        if "importlib" not in file and file != __file__:
            return user_file(file) or f"{os.sep}keras{os.sep}src{os.sep}utils{os.sep}" in file
        frame = frame.f_back
    return False


def spared(name: str | None, module: ModuleType) -> str:
    """Gives a module what Keras has under a name that it uses and does not define, and says so; "" where that is not the case."""
    if not name or "keras" not in sys.modules or name in vars(module):
        return ""
    names: Any = importlib.import_module(_NAMES)
    if (value := names.spare(name)) is None:
        return ""
    vars(module)[name] = value
    return f"{name} is not imported; Keras' {name} is used"


@contextlib.contextmanager
def keras_on_torch(note: Callable[[str], None], *, trains: bool = False) -> Iterator[None]:
    """Within the block Keras is imported on torch, and tensorflow is stood in for. `note` is told of both; with `trains` its `fit` runs."""
    finder = _Finder(note, trains)
    sys.meta_path.insert(0, finder)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
