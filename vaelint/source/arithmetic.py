"""What an expression of numbers comes to at other values of its variables. It is read from the source: no user code runs."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

_DEEPEST = 6  # functions of the script that call each other
_TWO: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_ONE: dict[type[ast.AST], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_NUMPY: dict[str, Callable[..., Any]] = {
    "exp": math.exp, "expm1": math.expm1, "log": math.log, "log10": math.log10, "log1p": math.log1p, "sqrt": math.sqrt, "sin": math.sin,
    "cos": math.cos, "tanh": math.tanh, "floor": math.floor, "ceil": math.ceil, "minimum": min, "maximum": max, "abs": abs,
    "float64": float, "float32": float, "mod": operator.mod,
    "clip": lambda value, low, high: min(max(value, low), high), "power": operator.pow,
}  # fmt: skip
"""What functions of numpy do with one number, which people write as those of math."""

_BUILTINS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "float": float, "int": int, "abs": abs, "round": round, "pow": pow, "len": len, "range": range
}  # fmt: skip


class NotArithmetic(Exception):
    """Something else than arithmetic on numbers, or no value."""


class _Returned(Exception):
    def __init__(self, value: Any, statement: ast.Return) -> None:
        self.value, self.statement = value, statement


_AS_IT_IS = ("item", "float", "double", "detach", "clone", "cpu")
"""Methods of tensors that leave the number as it is."""


class _Same:
    """A method of a tensor of one number that gives this number."""

    def __init__(self, number: int | float) -> None:
        self.number = number


Bounds = list[tuple[str, tuple[float, ...]]]
"""The calls of `min` on the way to a value: how each is written, and what it was given."""

Returns = list[tuple[FunctionType, ast.Return]]
"""The returns of functions of the script on the way to a value, with lines that count from the function's first; inner calls come first."""


def value_of(
    node: ast.expr,
    local: Mapping[str, Any],
    outer: Mapping[str, Any],
    bounds: Bounds | None = None,
    *,
    uncut: str = "",
    returns: Returns | None = None,
) -> Any:
    """The value of an expression.

    Args:
        local, outer: what its names stand for: variables of the function, then those of the module.
        bounds: gets the calls of `min`, those in functions of the script too.
        returns: gets where functions of the script returned.
        uncut: how a `//`, `int` or `round` is written that leaves numbers as they are, with their rest.

    Raises:
        NotArithmetic: it is no arithmetic, or has no value there.
    """
    try:
        told = ([] if bounds is None else bounds, [] if returns is None else returns)
        return _Reader(local, outer, 0, told, uncut=uncut).read(node)
    except (ArithmeticError, TypeError, ValueError, OSError, SyntaxError, RecursionError) as error:
        raise NotArithmetic(str(error)) from None


class _Reader:
    def __init__(self, local: Mapping[str, Any], outer: Mapping[str, Any], depth: int, told: tuple[Bounds, Returns], *, uncut: str) -> None:
        self._local, self._outer, self._depth, self._told, self._uncut = dict(local), outer, depth, told, uncut
        self._bounds, self._returns = told

    def read(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute(value=of, attr=name):
                return _held(self.read(of), name)
            case ast.Subscript(value=of, slice=ast.Constant(value=str() | int() as key)):
                return _kept(self.read(of), key)
            case ast.UnaryOp(op=op, operand=of) if type(op) in _ONE:
                return _ONE[type(op)](self.read(of))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _TWO:
                uncut = isinstance(op, ast.FloorDiv) and self._keeps(node)
                return self._of_two(ast.Div() if uncut else op, self.read(left), self.read(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compared(self.read(left), ops, others)
            case ast.IfExp(test=test, body=yes, orelse=no):
                return self.read(yes if self._true(test) else no)
            case ast.BoolOp(op=op, values=values):
                return self._joined(isinstance(op, ast.And), values)
            case ast.Call(func=func, args=args, keywords=keywords):
                return self._called(node, self.read(func), args, keywords)
            case _:
                raise NotArithmetic(ast.unparse(node))

    def _keeps(self, node: ast.expr) -> bool:
        return bool(self._uncut) and ast.unparse(node) == self._uncut

    def _of_two(self, op: ast.operator, left: Any, right: Any) -> Any:
        if not all(isinstance(v, int | float) for v in (left, right)):
            raise NotArithmetic("no numbers")
        if isinstance(op, ast.Pow) and (abs(left) > 1e6 or abs(right) > 64):
            raise NotArithmetic("a large power")
        return _TWO[type(op)](left, right)

    def _compared(self, left: Any, ops: Sequence[ast.cmpop], others: Sequence[ast.expr]) -> bool:
        for op, other in zip(ops, others, strict=True):
            right = self.read(other)
            words = type(op) in (ast.Eq, ast.NotEq) and all(isinstance(v, str | None) for v in (left, right))  # the kind of a schedule
            if isinstance(op, ast.Is | ast.IsNot) and (left is None or right is None):
                if (left is right) is not isinstance(op, ast.Is):
                    return False
                left = right
                continue
            if type(op) not in _TWO or not (words or all(isinstance(v, int | float) for v in (left, right))):
                raise NotArithmetic("a comparison of something else than numbers")
            if not _TWO[type(op)](left, right):
                return False
            left = right
        return True

    def _joined(self, every: bool, values: Sequence[ast.expr]) -> Any:
        found: Any = every
        for value in values:
            found = self._number(value)
            if bool(found) is not every:
                break
        return found

    def _true(self, test: ast.expr) -> bool:
        return bool(self._number(test))

    def _number(self, node: ast.expr) -> int | float:
        """Only numbers are asked whether they are true: another object would answer by code of its own."""
        found = self.read(node)
        if not isinstance(found, int | float):
            raise NotArithmetic("no number")
        return found

    def _named(self, name: str) -> Any:
        for names in (self._local, self._outer, _BUILTINS):
            if name in names:
                return names[name]
        raise NotArithmetic(name)

    def _called(self, node: ast.Call, what: Any, args: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> Any:
        if isinstance(what, _Same):
            return what.number
        given = [self.read(a) for a in args]
        named = {k.arg: self.read(k.value) for k in keywords if k.arg is not None}
        if len(named) < len(keywords) or any(isinstance(a, ast.Starred) for a in args):
            raise NotArithmetic("unpacked arguments")
        if what is len and type(given[0]).__module__.startswith("torch."):
            return len(given[0])
        if any(what is b for b in (*_BUILTINS.values(), *_NUMPY.values())) or getattr(math, getattr(what, "__name__", ""), None) is what:
            if not all(isinstance(v, int | float) for v in (*given, *named.values())):
                raise NotArithmetic("no numbers")
            if what in (int, round, math.floor) and len(given) == 1 and self._keeps(node):
                return given[0]
            self._bounds += [(ast.unparse(node), tuple(map(float, given)))] if what is min else []
            return what(*given, **named)
        if isinstance(what, MethodType):
            what, given = what.__func__, [what.__self__, *given]
        elif not isinstance(what, FunctionType) and isinstance(own := vars(type(what)).get("__call__"), FunctionType):
            what, given = own, [what, *given]
        if not isinstance(what, FunctionType) or self._depth >= _DEEPEST:
            raise NotArithmetic("a call")
        return self._through(what, given, named)

    def _through(self, function: FunctionType, given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """What a function of the script returns, if it does nothing but reckon."""
        tree = _written(function)
        if not isinstance(tree, ast.FunctionDef) or tree.decorator_list:
            raise NotArithmetic(function.__name__)
        bound = inspect.signature(function).bind(*given, **named)
        bound.apply_defaults()
        around = inspect.getclosurevars(function).nonlocals
        inside = _Reader({**around, **bound.arguments}, function.__globals__, self._depth + 1, self._told, uncut=self._uncut)
        try:
            inside.run(tree.body)
        except _Returned as end:
            self._returns.append((function, end.statement))
            return end.value
        raise NotArithmetic(function.__name__)

    def run(self, body: Sequence[ast.stmt]) -> None:
        """Statements that give values to local names and return. Raises _Returned at a return."""
        for statement in body:
            match statement:
                case ast.Return(value=ast.expr() as value):
                    raise _Returned(self.read(value), statement)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._local[name] = self.read(value)
                case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                    self._local[name] = self._of_two(op, self._named(name), self.read(value))
                case ast.If(test=test, body=yes, orelse=no):
                    self.run(yes if self._true(test) else no)
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case _:
                    raise NotArithmetic(ast.unparse(statement))


@functools.lru_cache(maxsize=64)
def _written(function: FunctionType) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]


def _kept(of: Any, key: str | int) -> Any:
    """An entry of a plain dictionary or sequence, as settings are kept in."""
    if type(of) not in (dict, list, tuple):
        raise NotArithmetic("an entry of something else than a plain collection")
    try:
        return of[key]
    except LookupError:
        raise NotArithmetic(f"no entry {key!r}") from None


def held_by(of: Any) -> dict[str, Any]:
    """The attributes of an object; of a module of torch its buffers and parts too."""
    held = dict(vars(of)) if hasattr(of, "__dict__") else {}
    for kind in ("_buffers", "_modules"):
        held = {**kept, **held} if type(kept := held.get(kind)) is dict else held
    return held


def number_in(value: Any) -> Any:
    """The number in a plain tensor of torch that holds one, a counter; anything else as it is."""
    plain = type(value).__module__ == "torch" and type(value).__name__ == "Tensor"
    return value.item() if plain and value.numel() == 1 and not value.requires_grad and not value.is_complex() else value


def _held(of: Any, name: str) -> Any:
    """An attribute that an object simply holds: no property is called."""
    if isinstance(of, int | float) and name in _AS_IT_IS:
        return _Same(of)
    if isinstance(of, ModuleType):
        if of is math:
            return getattr(of, name)
        if of.__name__ == "numpy" and (name in _NUMPY or name in ("pi", "e")):
            return _NUMPY.get(name) or getattr(math, name)
        raise NotArithmetic(name)
    held = held_by(of)
    if name in held:
        return number_in(held[name])
    found = inspect.getattr_static(type(of), name, None)
    if isinstance(found, FunctionType):
        return MethodType(found, of)
    if isinstance(found, int | float):
        return found
    raise NotArithmetic(name)
