"""Something out of a file that is not there: it becomes what the script uses it as, and that is remembered."""

from __future__ import annotations

import ast
import dis
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any, NoReturn

from vaelint.observe.data.unknown import values
from vaelint.observe.data.unknown.wishes import Node, Wishes, become_array
from vaelint.source.notebook import source_of_file

_MAPPING = frozenset({"items", "keys", "values", "get", "pop", "setdefault", "update"})
_TABLE = frozenset({"iloc", "loc", "columns", "drop", "dropna", "fillna", "to_numpy", "groupby", "iterrows", "head", "describe", "iat"})
_TENSOR = frozenset({
    "size", "dim", "numel", "to", "cuda", "cpu", "float", "double", "long", "int", "view", "unsqueeze", "permute", "numpy", "detach",
    "contiguous", "requires_grad", "device", "type", "clone", "is_cuda", "div", "sub", "add", "mul",
})  # fmt: skip
_ARRAY = frozenset({
    "shape", "ndim", "reshape", "astype", "dtype", "T", "transpose", "mean", "std", "min", "max", "sum", "flatten", "squeeze", "tolist",
    "copy", "swapaxes", "argmax", "ravel", "nbytes", "any", "all", "clip",
})  # fmt: skip
_SPARSE = frozenset({"todense", "toarray", "tocsr", "tocoo", "tocsc", "nnz"})
_LIST = frozenset({"append", "extend", "sort", "insert", "index", "reverse", "count"})
_MANY = 24
_WORD = frozenset({"split", "strip", "lower", "upper", "replace", "startswith", "endswith", "encode", "rstrip", "lstrip", "join"})


class Lost(FileNotFoundError):
    """Something is asked of a file that is not there, and nothing tells what that is."""


Lost.__name__ = Lost.__qualname__ = "FileNotFoundError"


class MadeMapping(dict[Any, Any]):
    """A mapping out of a file that is not there: it has whatever is asked of it."""

    def __init__(self, node: Node, wishes: Wishes, row: int | None = None) -> None:
        super().__init__()
        self.made_of = (node, wishes, row)
        for key in node.parts:
            super().__setitem__(key, real(node.parts[key], wishes, row))

    def __missing__(self, key: Any) -> Any:
        node, wishes, row = self.made_of
        if not isinstance(key, str):
            raise KeyError(key)
        if not wishes.names(key):  # a word of a text, as a vocabulary has it
            return len(key) % 30
        self[key] = made = real(node.part(key), wishes, row)
        return made

    def _fill(self) -> None:
        """Where all of it is asked for, it has what the code around names."""
        for key in () if len(self) else keys_near(sys._getframe(2)):
            self[key]

    def __iter__(self) -> Iterator[Any]:
        self._fill()
        return super().__iter__()

    def keys(self) -> Any:
        """As a mapping has them."""
        self._fill()
        return super().keys()

    def items(self) -> Any:
        """As a mapping has them."""
        self._fill()
        return super().items()

    def values(self) -> Any:
        """As a mapping has them."""
        self._fill()
        return super().values()

    def __contains__(self, key: object) -> bool:
        node, wishes, _ = self.made_of
        return super().__contains__(key) or (isinstance(key, str) and wishes.names(key) and bool(node.part(key)))

    @property
    def files(self) -> MadeMapping:
        """As an archive of NumPy names its arrays."""
        return self

    def __enter__(self) -> MadeMapping:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        """There is nothing to close."""

    def get(self, key: Any, default: Any = None) -> Any:
        """As a mapping has it that holds the key, where code names one."""
        return self[key] if key in self or isinstance(key, str) else default


def real(node: Node, wishes: Wishes, row: int | None = None) -> Any:
    """What is known of a node as an object of its kind; undecided where nothing is."""
    kind = node.kind
    if kind == "array":
        return values.array(node, wishes, row)
    if kind == "mapping":
        return MadeMapping(node, wishes, row)
    if kind == "items":
        return tuple(real(part, wishes, row) for part in node.parts.values())
    if kind == "rows":
        count = wishes.rows if row is None and not node.whole else 20 + (row or 0) % 5
        return [real(node.part("[]", whole=True), wishes, i) for i in range(count)]
    if kind == "number":
        return values.number(node, row)
    if kind == "word":
        return values.word(row)
    if kind == "table":
        return _table(wishes)
    return Undecided(node, wishes, row)


def _table(wishes: Wishes) -> Any:
    import io
    from importlib import import_module

    from vaelint.observe.data.made_tables import made_table

    text, _ = made_table("", ",", other=wishes.other, wishes=wishes)
    return import_module("pandas").read_csv(io.StringIO(text))


class Undecided:
    """What nothing is known of yet."""

    def __init__(self, node: Node, wishes: Wishes, row: int | None = None) -> None:
        self.__dict__.update(made_of=(node, wishes, row), _it=None)

    def _become(self, kind: str, library: str = "", axes: int = 1) -> Any:
        """The object of a kind in its place, from now on."""
        node, wishes, row = self.__dict__["made_of"]
        if not node.kind:
            node.kind = kind
            node.library = library or node.library
            if kind == "array":
                become_array(node, library=library, axes=2 if library == "sparse" and node.whole else axes)
        if self.__dict__["_it"] is None:
            self.__dict__["_it"] = real(node, wishes, row)
        return self.__dict__["_it"]

    def _lost(self, what: str) -> NoReturn:
        node, wishes, _ = self.__dict__["made_of"]
        path = next((p for p, root in wishes.files.items() if any(node is part for part in root.walk())), node.name)
        raise Lost(2, f"nothing tells what it holds, of which {what} is asked", path)

    def __getattr__(self, name: str) -> Any:
        if self.__dict__["made_of"][0].kind:
            return getattr(self._become(""), name)
        for names, kind, library in _KINDS:
            if name in names and not (name == "values" and not _is_called(sys._getframe(1), name)):
                return getattr(self._become(kind, library), name)
        if name == "values":
            return getattr(self._become("table"), name)
        if name.startswith("__"):
            raise AttributeError(name)
        return self._lost(name)

    def __getitem__(self, key: Any) -> Any:
        if not self.__dict__["made_of"][0].kind:
            if isinstance(key, str):
                self._become("mapping")
            elif isinstance(key, int) and key >= _MANY:  # an example out of many
                self._become("rows")
            elif isinstance(key, int) and _by_constants(sys._getframe(1)):
                for number in range(max(key + 1, 2)):
                    self.__dict__["made_of"][0].part(str(number))
                self._become("items")
            else:
                self._become("array", axes=max(len(key) - 1, 1) if isinstance(key, tuple) else 1)
        return self._become("")[key]

    def __iter__(self) -> Iterator[Any]:
        if not self.__dict__["made_of"][0].kind:
            if count := _unpacked(sys._getframe(1)):
                for number in range(count):
                    self.__dict__["made_of"][0].part(str(number))
                return iter(self._become("items"))
            self._become("rows")
        return iter(self._become(""))

    def __len__(self) -> int:
        node, wishes, row = self.__dict__["made_of"]
        if not node.kind and row is None:
            return int(wishes.rows)
        held: Any = self._become("") if node.kind else self._become("array", axes=1)  # one of many: as long as what is read of it next
        return len(held)

    def __contains__(self, key: Any) -> bool:
        node = self.__dict__["made_of"][0]
        if not node.kind and isinstance(key, str):
            self._become("mapping")
            node.part(key)
            self.__dict__["_it"] = None
        return key in self._become("")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        import numpy

        return numpy.asarray(self._become("array", "numpy"), *args[:1])

    def __index__(self) -> int:
        return int(self._become("number"))

    def __int__(self) -> int:
        return int(self._become("number"))

    def __float__(self) -> float:
        return float(self._become("number"))

    def __str__(self) -> str:
        return str(self._become("word")) if not self.__dict__["made_of"][0].kind else str(self._become(""))

    def __bool__(self) -> bool:
        return True

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        self._lost("a call")

    @classmethod
    def __torch_function__(cls, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        """Where torch gets one it is a tensor."""

        def given(value: Any) -> Any:
            if isinstance(value, Undecided):
                return value._become("array", "torch")
            return type(value)(map(given, value)) if type(value) in (list, tuple) else value

        return func(*map(given, args), **{k: given(v) for k, v in (kwargs or {}).items()})


_KINDS: tuple[tuple[frozenset[str], str, str], ...] = (
    (_MAPPING, "mapping", ""), (_TABLE, "table", ""), (_TENSOR, "array", "torch"), (_SPARSE, "array", "sparse"),
    (_ARRAY, "array", ""), (_LIST, "rows", ""),
    (_WORD, "word", ""),
)  # fmt: skip


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: Undecided, *others: Any) -> Any:
        if not self.__dict__["made_of"][0].kind:
            plain = all(isinstance(o, int | float) for o in others) and self.__dict__["made_of"][0].library == "torch"
            self._become("number" if plain else "array")
        return getattr(self._become(""), name)(*others)

    return apply


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "neg", "matmul"):
    setattr(Undecided, f"__{_name}__", _operator(f"__{_name}__"))
for _kind in (Undecided, MadeMapping):
    _kind.__name__ = _kind.__qualname__ = "made-up data"  # as Python names it in the user's tracebacks


def _unpacked(frame: FrameType) -> int:
    """How many names a frame is about to give values to."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at + 1] if 0 <= at < len(code) - 1 and code[at] == dis.opmap["UNPACK_SEQUENCE"] else 0


@cache
def _tree(file: str) -> ast.Module | None:
    try:
        return ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return None


def written_at(frame: FrameType, line: int) -> list[ast.AST]:
    """What is written on a line of a frame's file."""
    tree = _tree(frame.f_code.co_filename)
    if tree is None:
        return []
    return [n for n in ast.walk(tree) if getattr(n, "lineno", 0) <= line <= (getattr(n, "end_lineno", 0) or 0)]


def keys_near(frame: FrameType | None) -> list[str]:
    """The keys that the function which runs takes things out by, or asks for."""
    while frame is not None and _tree(frame.f_code.co_filename) is None:
        frame = frame.f_back
    if frame is None:
        return []
    inside = [n for n in written_at(frame, frame.f_lineno) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    home = max(inside, key=lambda n: n.lineno) if inside else _tree(frame.f_code.co_filename)
    parts = list(ast.walk(home)) if home is not None else []
    keys = [n.slice for n in parts if isinstance(n, ast.Subscript)]
    keys += [n.left for n in parts if isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.In | ast.NotIn)]
    return list(dict.fromkeys(k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str)))


def _by_constants(frame: FrameType) -> bool:
    """Whether the line takes things out by numbers that it writes out."""
    return any(
        isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant) and isinstance(n.slice.value, int)
        for n in written_at(frame, frame.f_lineno)
    )


def _is_called(frame: FrameType, name: str) -> bool:
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == name for n in written_at(frame, frame.f_lineno)
    )
