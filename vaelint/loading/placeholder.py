"""Inert stand-ins for packages that are not installed. Imports no torch until a Lightning base class is asked for.

While modules are imported a placeholder accepts everything and does nothing, so that `torchvision.transforms.Compose([...])` at
the top of a file hurts nobody. Once the model is built or run, a call of one is remembered and gives another one: a logger or a
container for reports hurts nobody either. What makes the model depend on it is an error that names the package: a torch operation
on it, arithmetic, a loop over it, or any exception after such a call.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType, ModuleType
from typing import Any, NoReturn

from vaelint.core.errors import TargetError
from vaelint.core.paths import user_file
from vaelint.source.blame import span_at

DISTRIBUTIONS = {
    "cv2": "opencv-python-headless", "skimage": "scikit-image", "sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml",
    "attr": "attrs", "Bio": "biopython", "pl_bolts": "lightning-bolts", "mpl_toolkits": "matplotlib", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "umap": "umap-learn", "skbio": "scikit-bio", "git": "GitPython", "hydra": "hydra-core",
    "pyro": "pyro-ppl", "scvi": "scvi-tools",
}  # fmt: skip
"""What pip calls a package that is imported under another name."""

_LIGHTNING = ("lightning", "pytorch_lightning")
_importing = 0
_wanting: dict[str, str] = {}  # the package that is missing, by what is there and needs it
_calls: list[TargetError] = []  # what to say, once something turns out to depend on a placeholder that was called


def installing(package: str) -> str:
    """What to do about a package that is not there. Code for tensorflow is analysed with Keras."""
    if package == "tensorflow":
        return "install Keras, which stands in for it on torch: pip install keras"
    return f"install it: pip install {DISTRIBUTIONS.get(package, package)}"


_LACKS = re.compile(r"module '(\w+)[\w.]*' has no attribute '(\w+)'")


def of_another_version(error: BaseException) -> str:
    """What to do about a name that an installed package does not have; empty for any other error."""
    lacks = _LACKS.search(str(error)) if isinstance(error, AttributeError) else None
    if lacks is None:
        return ""
    return f"install the version of {lacks[1]} that the code is written for, or write this line without {lacks[1]}.{lacks[2]}"


def for_want_of(dotted: str, missing: str) -> None:
    """Notes that what is known by a dotted name is there, and a package that it needs is not."""
    _wanting[dotted] = missing


def needed() -> TargetError | None:
    """The first call of a placeholder since `forget`, as the error to raise when the model needed it; None when there was none."""
    return _calls[0] if _calls else None


def forget() -> None:
    """Starts over, for another target."""
    _calls.clear()


@contextmanager
def importing() -> Iterator[None]:
    """While inside, placeholders are inert."""
    global _importing
    _importing += 1
    try:
        yield
    finally:
        _importing -= 1


def _refuse(dotted: str) -> NoReturn:
    raise _calls[0] if _calls else _needs(dotted)


def _needs(dotted: str) -> TargetError:
    package = next((m for d, m in _wanting.items() if dotted == d or dotted.startswith(f"{d}.")), dotted.partition(".")[0])
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not user_file(frame.f_code.co_filename):
        frame = frame.f_back
    if getattr(sys.modules.get(package), "stands_in", False):
        place = span_at(frame.f_code, frame.f_lasti, frame.f_lineno) if frame is not None else None
        return TargetError(
            "VAE001",
            f"{dotted} is used: {package} is not installed, and Keras 3 on torch, which takes its place, has no such function",
            "write this line with keras.ops or keras.random, which run on torch",
            place,
        )
    return TargetError(
        "VAE001",
        f"the model needs the package {package}, which is not installed ({dotted} is used)",
        installing(package),
        span_at(frame.f_code, frame.f_lasti, frame.f_lineno) if frame is not None else None,
    )


class Placeholder:
    """Something out of a package that is not installed, known by its dotted name only."""

    def __init__(self, dotted: str) -> None:
        self.__dict__["_dotted"] = dotted

    def __repr__(self) -> str:
        return f"<{self._dotted}, of a package that is not installed>"

    def __getattr__(self, name: str) -> Any:
        return _member(self.__dict__["_dotted"], name)

    def __setattr__(self, name: str, value: object) -> None:
        if not _importing:
            _refuse(self._dotted)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and isinstance(args[0], FunctionType | type):
            return args[0]  # a decorator: leave what it decorates as it is
        if not _importing:
            _calls.append(_needs(self._dotted))
        return Placeholder(self._dotted)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (_base_class(self._dotted),)

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __subclasscheck__(self, subclass: type) -> bool:
        return False

    @classmethod
    def __torch_function__(cls, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None) -> NoReturn:
        """A torch operation got one: the model cannot do without it."""
        given = args if not isinstance(kwargs, dict) else (*args, *kwargs.values())
        parts = [p for a in given for p in (a if isinstance(a, list | tuple) else (a,))]
        used = next((p for p in parts if isinstance(p, Placeholder)), None)
        if used is None:
            raise TypeError("a value of a package that is not installed is handed to torch")
        _refuse(used._dotted)

    def __enter__(self) -> Placeholder:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def _same(self, *args: object) -> Placeholder:
        if not _importing:
            _refuse(self._dotted)
        return self

    def _no(self, *args: object) -> bool:
        if not _importing:
            _refuse(self._dotted)
        return False

    __getitem__ = __or__ = __ror__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _same
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __neg__ = _same
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _no

    def __setitem__(self, key: object, value: object) -> None:
        self._same()

    def __iter__(self) -> Iterator[object]:
        self._same()
        return iter(())

    def __len__(self) -> int:
        self._same()
        return 0


Placeholder.__name__ = Placeholder.__qualname__ = "absent package"  # as Python names it in the user's tracebacks


class PlaceholderModule(ModuleType):
    """A package that is not installed; every name in it is a Placeholder."""

    __path__: list[str] = []  # noqa: RUF012  (a module attribute: submodules are looked for)

    def __getattr__(self, name: str) -> Any:
        return _member(self.__name__, name)


def _member(dotted: str, name: str) -> Any:
    if name.startswith("__") and name.endswith("__"):
        if name == "__version__":
            return "0"
        raise AttributeError(f"{dotted} is not installed, and has no {name}")
    if name == "LightningModule" and dotted.partition(".")[0] in _LIGHTNING:
        from vaelint.loading.lightning_modules import LightningModule

        return LightningModule
    return Placeholder(f"{dotted}.{name}")


_bases: dict[str, type] = {}


def _base_class(dotted: str) -> type:
    """A class to inherit from where the real one is not installed: it cannot be instantiated."""
    if dotted not in _bases:

        def refuse(cls: type, /, *args: object, **kwargs: object) -> object:
            # beside nn.Module it is a mixin, and the model may do without; alone it would be the model
            if not _importing and not any(base.__module__ == "torch.nn.modules.module" for base in cls.__mro__):
                _refuse(dotted)
            return object.__new__(cls)

        def accept(cls: type, /, **kwargs: object) -> None:
            """Class keywords of the real base mean nothing here."""

        _bases[dotted] = type(dotted.rpartition(".")[2], (), {"__new__": refuse, "__init_subclass__": classmethod(accept)})
    return _bases[dotted]


def holds_placeholder(value: object, depth: int = 3) -> bool:
    """Whether a placeholder stands somewhere in what user code returned."""
    if isinstance(value, Placeholder) or depth == 0:
        return isinstance(value, Placeholder)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(holds_placeholder(part, depth - 1) for part in parts)


def package_of(value: object) -> str | None:
    """The missing package that `value` comes from, None for anything else."""
    if isinstance(value, PlaceholderModule):
        return str(value.__name__).partition(".")[0]
    return str(value._dotted).partition(".")[0] if isinstance(value, Placeholder) else None
