"""Packages that draw, log and show progress, where they are not installed: imported as things that do nothing, and said.

So are those that would send all of it to a server, installed or not.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

NOTHING = frozenset({
    "matplotlib", "seaborn", "plotly", "bokeh", "visdom", "tqdm", "wandb", "mlflow", "tensorboard", "tensorboardX", "comet_ml", "neptune",
    "clearml", "imageio", "IPython", "termcolor", "colorama", "progressbar", "pudb", "ipdb", "torchsummary", "torchinfo", "torchviz",
    "livelossplot", "prettytable", "tabulate", "loguru", "coloredlogs", "tensorboard_logger", "hiddenlayer", "aim", "swanlab", "dvclive",
    "GPUtil", "memory_profiler", "line_profiler", "graphviz", "mlxtend", "watermark", "coolname", "icecream", "torchsummaryX", "umap",
})  # fmt: skip
"""What a model is wired like does not depend on."""


_SERVERS = frozenset({"clearml", "neptune", "comet_ml"})
"""What sends all it is told to a server, and asks there before it begins: held back where it is installed, too."""

_BOARD = "torch.utils.tensorboard"


class _Kind(type):
    """Does nothing either where the class is asked: `tqdm.pandas()`."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class Nothing(metaclass=_Kind):
    """Does nothing, whatever is asked of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Nothing()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(self, _: Any) -> Any:
        return Nothing()

    def __setitem__(self, *_: Any) -> None:
        return

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        return

    def __iter__(self) -> Iterator[Any]:
        return iter([Nothing() for _ in range(_unpacked(sys._getframe(1)))])

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return ""


class _Through(Nothing):
    """A progress bar: the values pass."""

    def __init__(self, iterable: Any = (), *_: Any, **__: Any) -> None:
        self._values = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


for _kind in (Nothing, _Through):  # as Python names it in the user's tracebacks
    _kind.__name__ = _kind.__qualname__ = "absent package"


def _range(*args: int, **_: Any) -> _Through:
    return _Through(range(*args))


def _unpacked(frame: FrameType) -> int:
    """How many names a frame is about to give values to, as in `figure, (left, right) = ...`; 0 where it only goes through."""
    while frame.f_code.co_name == "__iter__" and frame.f_back is not None:  # a decorated one
        frame = frame.f_back
    code = frame.f_code.co_code
    there = frame.f_lasti if 0 <= frame.f_lasti < len(code) - 1 else 0
    return code[there + 1] if code[there] == dis.opmap["UNPACK_SEQUENCE"] else 0


_NAMES: dict[str, Any] = {
    "tqdm": _Through, "trange": _range, "tqdm_notebook": _Through, "progressbar": _Through, "__version__": "99.0",
}  # fmt: skip


def importing_file(frame: FrameType) -> str:
    """The file whose import led to a frame."""
    return _importing(frame)[0].f_code.co_filename


def needs_it(frame: FrameType) -> bool:
    """Whether the import that led to a frame is a statement outside of `try`: its file cannot do without."""
    found, asked = _importing(frame)
    if asked:
        return False
    try:
        tree = ast.parse(Path(found.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    guarded = [n for t in ast.walk(tree) if isinstance(t, ast.Try) for part in t.body for n in ast.walk(part)]
    return not any(isinstance(n, ast.Import | ast.ImportFrom) and n.lineno <= found.f_lineno <= (n.end_lineno or 0) for n in guarded)


def _importing(frame: FrameType) -> tuple[FrameType, bool]:
    """The frame whose import led to another one, and whether it only asks what there is."""
    asked = False
    while frame.f_back is not None and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    while frame.f_back is not None and "importlib" in frame.f_code.co_filename:
        asked = "util" in frame.f_code.co_filename
        frame = frame.f_back
    return frame, asked


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last: what is installed is found before; of what is held back, first."""

    def __init__(self, note: Callable[[str], None], own: Callable[[str], bool], names: frozenset[str] = NOTHING) -> None:
        self._note, self._own, self._names = note, own, names

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """A module of a package that does nothing."""
        top = name.partition(".")[0]
        if not self._own(importing_file(sys._getframe(1))):
            return None  # a package asks whether another one is there
        if top not in self._names or (top != name and not getattr(sys.modules.get(top), "__dict__", {}).get("does_nothing")):
            return None
        if top == name:
            self._note(f"{top} {'is held back' if self._names is _SERVERS else 'is not installed'}, and does nothing here")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module that has whatever is asked of it."""
        made = ModuleType(spec.name)
        made.__dict__.update(_NAMES, does_nothing=True, __getattr__=_of_lightning if "lightning" in spec.name else _anything)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """There is no code."""


def _anything(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Nothing()


def _of_lightning(name: str) -> Any:
    """A logger that a package has for Lightning is one of Lightning's own, which logs nothing: the trainer asks it for more than a call."""
    loaded = (sys.modules.get(f"{package}.loggers.logger") for package in ("pytorch_lightning", "lightning.pytorch"))
    own = next((m.__dict__["DummyLogger"] for m in loaded if m is not None and "DummyLogger" in m.__dict__), None)
    if not name.endswith("Logger") or own is None:
        return _anything(name)
    return type(name, (own,), {"__init__": lambda self, *_, **__: own.__init__(self)})


@contextlib.contextmanager
def absent_packages(note: Callable[[str], None], own: Callable[[str], bool] = lambda file: True) -> Iterator[None]:
    """Within the block, packages of `NOTHING` that are not installed can be imported by the files that are the script's `own`."""
    finder, board = _Finder(note, own), importlib.util.find_spec("tensorboard")
    first = _Finder(note, own, _SERVERS) if not _SERVERS & set(sys.modules) else None
    sys.meta_path[:] = [*([first] if first is not None else []), *sys.meta_path, finder]
    if board is None and _BOARD not in sys.modules:  # torch's own imports parts of it

        def writer(*_: Any, **__: Any) -> Nothing:
            note("tensorboard is not installed, and does nothing here")
            return Nothing()

        sys.modules[_BOARD] = finder.create_module(importlib.machinery.ModuleSpec(_BOARD, finder))
        sys.modules[_BOARD].__dict__["SummaryWriter"] = writer
    try:
        yield
    finally:
        sys.meta_path[:] = [f for f in sys.meta_path if f is not finder and f is not first]
        for name in [n for n, m in sys.modules.items() if getattr(m, "__dict__", {}).get("does_nothing")]:
            del sys.modules[name]
