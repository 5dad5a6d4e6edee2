"""Importing this puts the package under its types: every call of the functions imported after it is checked.

By beartype alone where a signature has no shapes, which costs a tenth of what jaxtyping's own import hook does around each call (it
binds the arguments anew and checks them twice); by jaxtyping where it has. An annotation whose names are known to type checkers only
is left out, as jaxtyping does.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib.util
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import WRAPPER_ASSIGNMENTS
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin
from unittest.mock import patch

from beartype import beartype
from jaxtyping import jaxtyped

BUSY = frozenset(
    {
        "vaelint.record.ops",
        "vaelint.replay.replay",
        "vaelint.record.record",
        "vaelint.trace.recorder",
        "vaelint.trace.spans",
        "vaelint.trace.standin",
        "vaelint.trace.keras_places",
        "vaelint.record.selections",
        "vaelint.observe.held.files",
    }
)
"""Called for every node and every frame: nine in ten of all calls."""

BY_FRAME = frozenset({"vaelint.trace.modules"})
"""Looks at the frame that called it, which a check would stand in front of."""

_TAG = f"typed{zlib.crc32(Path(__file__).read_bytes())}"  # compiled files of another version of this file are not used
_cached_at = importlib.util.cache_from_source


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and its result checked.

    A function inside another is made anew at each call of that one. Its annotations stay what they are, so its checks are written once.
    """
    if "<locals>" not in function.__qualname__:
        return _checks_of(function)
    key = (function.__module__, function.__code__)
    if key not in _inner:
        _inner[key] = _checks_of(function)
    around = _inner[key]
    return around if getattr(around, "__wrapped__", around) is function else _checks_moved(around, function)


_inner: dict[tuple[str, CodeType], Callable[..., Any]] = {}


def _checks_moved(around: Any, function: Any) -> Callable[..., Any]:
    """The same checks around another function of the same code: beartype keeps the function that it calls as a default."""
    if not hasattr(around, "__wrapped__"):
        return function  # type: ignore[no-any-return]
    made = FunctionType(around.__code__, around.__globals__, around.__name__, around.__defaults__, around.__closure__)
    made.__kwdefaults__ = around.__kwdefaults__ | {"__beartype_func": function}
    vars(made).update(vars(around) | vars(function), __wrapped__=function)
    for name in WRAPPER_ASSIGNMENTS:
        setattr(made, name, getattr(function, name))
    return made


def _checks_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with checks that beartype writes for it."""
    written = function.__annotations__
    function.__annotations__ = _known(written, function.__globals__)
    try:
        found: Callable[..., Any] = beartype(function)
    finally:
        function.__annotations__ = written
    if found is not function:
        found.__annotations__ = written
    return found


def checked_fields(cls: type[Any]) -> type[Any]:
    """The class; if it is a dataclass, with the values of its fields checked when one is made."""
    if dataclasses.is_dataclass(cls) and "__init__" in vars(cls):
        make: Any = cls.__init__
        make.__annotations__ = _known(make.__annotations__, vars(sys.modules[cls.__module__]))
        cls.__init__ = beartype(make)  # type: ignore[method-assign]
    return cls


def _known(written: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """The annotations as values; without those that cannot be evaluated, and those that name themselves."""
    known = {}
    for name, annotation in written.items():
        try:
            value = eval(annotation, names) if isinstance(annotation, str) else annotation
        except Exception:  # noqa: BLE001, S112 - names for type checkers only, and what only they can subscribe
            continue
        if not _has_a_name(value):
            known[name] = value
    return known


def _has_a_name(annotation: Any) -> bool:
    """Whether a part of an annotation is still a name: beartype follows no alias that is part of itself."""
    if get_origin(annotation) in (Literal, Annotated):
        return False
    return isinstance(annotation, str | ForwardRef) or any(_has_a_name(a) for a in get_args(annotation) if not isinstance(a, list))


class _Decorated(ast.NodeTransformer):
    """Puts the decorators on."""

    def __init__(self, shapes: set[str]) -> None:
        self._shapes = shapes  # names that come from jaxtyping

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        a = node.args
        arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(extra for extra in (a.vararg, a.kwarg) if extra)]
        said = [x for x in (node.returns, *(argument.annotation for argument in arguments)) if x is not None]
        if said:
            shaped = any(isinstance(n, ast.Name) and n.id in self._shapes for x in said for n in ast.walk(x))
            node.decorator_list.append(ast.copy_location(ast.Name("__shapes_checked__" if shaped else "__checked__", ast.Load()), node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.decorator_list.insert(0, ast.copy_location(ast.Name("__checked_fields__", ast.Load()), node))
        return node


class _Loader(SourceFileLoader):
    """Compiles a module with the decorators on."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]
        tree = ast.parse(importlib.util.decode_source(data), path)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "jaxtyping"]
        _Decorated({a.asname or a.name for n in imports for a in n.names}).visit(tree)
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        with patch("importlib._bootstrap_external.cache_from_source", lambda path, *_: _cached_at(path, optimization=_TAG)):
            super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the package's modules as all others do, and has them loaded so."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in ("vaelint", "vaelint_rules") or fullname in BUSY | BY_FRAME:
            return None
        for other in (f for f in sys.meta_path if f is not self):  # pytest's own, which rewrites assertions, gives no plain loader
            spec = other.find_spec(fullname, path, target)
            if spec is not None and isinstance(spec.loader, SourceFileLoader):
                spec.loader = _Loader(spec.loader.name, spec.loader.path)
                return spec
        return None


vars(builtins).update(__checked__=checked, __checked_fields__=checked_fields, __shapes_checked__=jaxtyped(typechecker=beartype))
sys.meta_path.insert(0, _Finder())
