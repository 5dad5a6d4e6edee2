"""Names that older releases of NumPy, SciPy, pandas, PyYAML, Matplotlib and PyTorch had, given to scripts that were written for them.

https://numpy.org/doc/stable/release/1.24.0-notes.html and 2.0.0, https://docs.scipy.org/doc/scipy/release/1.3.0-notes.html
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.observe.data.absent import Nothing
from vaelint.observe.data.after_import import changed_when_imported
from vaelint.trace.torch_private import DataLoaderIterator

Note = Callable[[str], None]
_BUILTINS = {"int": int, "float": float, "bool": bool, "object": object, "str": str, "complex": complex, "long": int, "unicode": str}
_RENAMED = {
    "product": "prod", "cumproduct": "cumprod", "alltrue": "all", "sometrue": "any", "float_": "float64", "complex_": "complex128",
    "Inf": "inf", "Infinity": "inf", "NaN": "nan", "infty": "inf", "in1d": "isin", "trapz": "trapezoid", "row_stack": "vstack",
    "asfarray": "asarray", "string_": "bytes_", "unicode_": "str_",
}  # fmt: skip
_MOVED = {"logsumexp": "scipy.special", "comb": "scipy.special", "factorial": "scipy.special"}
_IMAGES = ("imread", "imsave", "imresize", "imshow", "imrotate", "toimage", "bytescale")


@contextlib.contextmanager
def older_names(note: Note, own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block the files that are the script's `own` find them; `note` is told what was given."""
    iterators: Any = DataLoaderIterator
    had = hasattr(iterators, "next")
    if not had:
        iterators.next = iterators.__next__
    changes = {
        "scipy.misc": functools.partial(_images, note=note, own=own),
        "yaml": functools.partial(_yaml, note=note),
        "matplotlib.backends.backend_agg": functools.partial(_canvas, note=note),
        "matplotlib": functools.partial(_backends, note=note),
        "pyro.util": functools.partial(_pyro, note=note),
        "torch.utils.data.dataset": functools.partial(_type_variables, note=note),
        "networkx": functools.partial(_networkx, note=note),
        "pandas": functools.partial(_pandas, note=note),
    }
    numpy = sys.modules.get("numpy")  # which torch imports where it is installed
    kept = dict(numpy.__dict__) if numpy is not None else {}
    if numpy is not None:
        _numpy(numpy, note, own)
    try:
        with changed_when_imported(changes), _FirstOfANumber(note, own):
            yield
    finally:
        if numpy is not None and "__getattr__" in kept:
            numpy.__dict__["__getattr__"] = kept["__getattr__"]
        if not had:
            del iterators.next


class _FirstOfANumber(TorchFunctionMode):
    """`loss.data[0]`, as a number was read before PyTorch 0.4 (https://pytorch.org/blog/pytorch-0_4_0-migration-guide/).

    Not by another `Tensor.__getitem__`: a function there makes each tensor a sequence, and `torch.tensor([a, b])` asks for its length.
    """

    def __init__(self, note: Note, own: Callable[[str], bool]) -> None:
        super().__init__()
        self._note, self._own = note, own

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return func(*args, **kwargs or {})
        except IndexError:
            if func is not torch.Tensor.__getitem__ or type(args[1]) is not int or args[1] != 0 or args[0].ndim or not _asks(self._own):
                raise
            self._note("this PyTorch has no loss.data[0]: the script got the number itself")
            return args[0]


def _asks(own: Callable[[str], bool]) -> bool:
    """Whether it is the script that asks a module for a name."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") == __name__
        or frame.f_code.co_filename.startswith("<")
        or frame.f_code.co_name == "__torch_function__"
    ):
        frame = frame.f_back
    return own(frame.f_code.co_filename)


def _numpy(module: types.ModuleType, note: Note, own: Callable[[str], bool]) -> None:
    before = module.__dict__.get("__getattr__")

    def older(name: str) -> Any:
        if (name in _BUILTINS or name in _RENAMED) and _asks(own):
            note(f"this NumPy has no numpy.{name}: the script got {_RENAMED.get(name) or _BUILTINS[name].__name__}")
            return _BUILTINS[name] if name in _BUILTINS else getattr(module, _RENAMED[name])
        if before is None:
            raise AttributeError(f"module 'numpy' has no attribute {name!r}")
        return before(name)

    module.__dict__["__getattr__"] = older


def _images(module: types.ModuleType, note: Note, own: Callable[[str], bool]) -> None:
    """Of SciPy's images what reads and resizes is Pillow's, and what draws does nothing."""

    def older(name: str) -> Any:
        if name in _MOVED and _asks(own):
            note(f"this SciPy has no scipy.misc.{name}: the script got {_MOVED[name]}.{name}")
            return getattr(importlib.import_module(_MOVED[name]), name)
        if name not in _IMAGES or not _asks(own):
            raise AttributeError(f"module 'scipy.misc' has no attribute {name!r}")
        note(f"this SciPy has no scipy.misc.{name}")
        return {"imread": _read, "imresize": _resized}.get(name, Nothing())

    module.__dict__["__getattr__"] = older


def _read(name: Any, flatten: bool = False, mode: str | None = None) -> Any:
    """An image as an array (H, W, C), or (H, W)."""
    pillow, numpy = importlib.import_module("PIL.Image"), importlib.import_module("numpy")
    image = pillow.open(name)
    return numpy.asarray(image.convert("F" if flatten else mode or image.mode))


def _resized(arr: Any, size: Any, interp: str = "bilinear", mode: str | None = None) -> Any:
    """An array of 8-bit values at another size: (H, W), a percentage, or a fraction."""
    pillow, numpy = importlib.import_module("PIL.Image"), importlib.import_module("numpy")
    image = pillow.fromarray(numpy.asarray(arr).astype("uint8"), mode)
    factor = size / 100 if isinstance(size, int) else size
    wanted = (size[1], size[0]) if isinstance(size, tuple | list) else tuple(int(n * factor) for n in image.size)
    return numpy.asarray(image.resize(wanted, getattr(pillow, interp.upper(), pillow.BILINEAR)))


def _yaml(module: types.ModuleType, note: Note) -> None:
    """`yaml.load` without a loader, as PyYAML before 6 had it."""
    original = module.__dict__.get("load")
    if original is None:
        return

    def load(stream: Any, Loader: Any = None) -> Any:  # noqa: N803 - PyYAML's name
        if Loader is None:
            note("this PyYAML's load wants a Loader: the script got SafeLoader")
        return original(stream, Loader or module.__dict__["SafeLoader"])

    module.__dict__["load"] = load


def _backends(module: types.ModuleType, note: Note) -> None:
    """`matplotlib.use` of a backend that is not installed: nothing is drawn here."""
    if (original := module.__dict__.get("use")) is None:
        return  # what stands in for a Matplotlib that is absent takes any

    def use(backend: Any, **kwargs: Any) -> None:
        try:
            original(backend, **kwargs)
        except (ValueError, ImportError):
            note(f"this Matplotlib has no backend {backend!r}, which the script asks for: it was left out")

    module.__dict__["use"] = use


def _pyro(module: types.ModuleType, note: Note) -> None:
    """Tensors without a gradient, which Pyro made itself before 0.2 (https://github.com/pyro-ppl/pyro/releases/tag/0.2.0)."""
    for name, new in (("ng_zeros", torch.zeros), ("ng_ones", torch.ones)):
        module.__dict__.setdefault(name, _noted(new, f"this Pyro has no pyro.util.{name}: the script got torch.{new.__name__}", note))


def _type_variables(module: types.ModuleType, note: Note) -> None:
    """`T_co` and `T`, of what a data set is of: PyTorch 2.7 gave them private names."""

    def older(name: str) -> Any:
        if name not in ("T_co", "T") or f"_{name}" not in module.__dict__:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        note(f"this PyTorch has no {module.__name__}.{name}: the script got _{name}")
        return module.__dict__[f"_{name}"]

    module.__dict__["__getattr__"] = older


def _networkx(module: types.ModuleType, note: Note) -> None:
    """Matrices of graphs, which NetworkX 3 has as arrays
    (https://networkx.org/documentation/stable/release/migration_guide_from_2.x_to_3.0.html)."""
    for name in ("to_scipy_sparse_matrix", "from_scipy_sparse_matrix", "to_numpy_matrix", "from_numpy_matrix"):
        new, said = module.__dict__.get(name.replace("matrix", "array")), f"this NetworkX has no {name}: the script got its array"
        if name in module.__dict__ or new is None:
            continue
        kind = {"to_scipy_sparse_matrix": ("scipy.sparse", "csr_matrix"), "to_numpy_matrix": ("numpy", "asmatrix")}.get(name)
        module.__dict__[name] = _noted(new if kind is None else functools.partial(_made_of, new, *kind), said, note)


def _pandas(module: types.ModuleType, note: Note) -> None:
    """`append` and `iteritems`, which pandas 2 removed (https://pandas.pydata.org/docs/whatsnew/v2.0.0.html)."""
    if "concat" not in module.__dict__:
        return  # what stands in for a pandas that is absent

    def append(self: Any, other: Any, ignore_index: bool = False, **_: Any) -> Any:
        note(f"this pandas has no {type(self).__name__}.append: the script got concat")
        rows = isinstance(self, module.__dict__["DataFrame"])
        other = module.__dict__["DataFrame"]([other]) if rows and isinstance(other, dict | module.__dict__["Series"]) else other
        return module.__dict__["concat"]([self, *(other if isinstance(other, list) else [other])], ignore_index=ignore_index)

    def iteritems(self: Any) -> Any:
        note(f"this pandas has no {type(self).__name__}.iteritems: the script got items")
        return self.items()

    for kind in (module.__dict__["DataFrame"], module.__dict__["Series"]):
        for older in (append, iteritems):
            if not hasattr(kind, older.__name__):
                setattr(kind, older.__name__, older)


def _made_of(function: Callable[..., Any], module: str, kind: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(importlib.import_module(module), kind)(function(*args, **kwargs))


def _noted(function: Callable[..., Any], text: str, note: Note) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        note(text)
        return function(*args, **kwargs)

    return called


def _canvas(module: types.ModuleType, note: Note) -> None:
    """`FigureCanvasAgg.tostring_rgb`, which Matplotlib 3.10 removed
    (https://matplotlib.org/stable/api/prev_api_changes/api_changes_3.10.0.html)."""
    kind: Any = module.__dict__["FigureCanvasAgg"]
    if hasattr(kind, "tostring_rgb"):
        return

    def tostring_rgb(self: Any) -> bytes:
        note("this Matplotlib has no tostring_rgb: the script got it of buffer_rgba")
        colours = torch.frombuffer(bytearray(self.buffer_rgba()), dtype=torch.uint8).view(-1, 4)
        return bytes(colours[:, :3].flatten().tolist())

    kind.tostring_rgb = tostring_rgb
