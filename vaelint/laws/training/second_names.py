"""Where a network is given a second name: an attribute that is bound to what exists already, with its own weights."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.source.written import Source

_STILL_THE_SAME = frozenset({"eval", "train", "requires_grad_", "to", "cpu", "cuda", "float", "double"})
_SHALLOW = ("copy.copy", "copy")


@dataclass(frozen=True)
class SecondName:
    """One binding: the attribute as it is written, what it is bound to, the value's place, and the names bound to the same beside it."""

    target: str
    what: str
    place: Span
    beside: frozenset[str]
    is_copied: bool  # shallowly: the weights are those of the original

    def is_called(self, name: str) -> bool:
        """Whether it goes by the last part of a name, of whichever object."""
        return "." in self.target and self.target.rpartition(".")[2] == name.rpartition(".")[2]


def second_names(source: Source, files: Iterable[str]) -> Iterator[SecondName]:
    """All bindings of names to something that is not made anew, function by function."""
    for file in files:
        for function in source.file(file).functions():
            made = [n for n in ast.walk(function) if isinstance(n, ast.Assign)]
            sets = [(ast.unparse(t), v) for n in made for target in n.targets for t, v in _pairs(target, n.value)]
            for target, value in sets:
                if what := _itself(value):
                    beside = frozenset({what, *(t for t, v in sets if _itself(v) == what)})
                    yield SecondName(target, what, source.file(file).place(file, value), beside, _is_copy(value))


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What an assignment binds to what, `a, b = c, d` taken apart."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _is_copy(value: ast.expr) -> bool:
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) in _SHALLOW for n in ast.walk(value))


def _itself(value: ast.expr) -> str:
    """The name of a network that an expression gives, with its own weights; "" for anything that is made anew."""
    while isinstance(value, ast.Call):
        if isinstance(value.func, ast.Attribute) and value.func.attr in _STILL_THE_SAME:
            value = value.func.value
        elif ast.unparse(value.func) in _SHALLOW and len(value.args) == 1:
            value = value.args[0]
        else:
            return ""
    return ast.unparse(value) if isinstance(value, ast.Name | ast.Attribute) else ""
