"""Sizes that remember where they came from.

`x.size(0)` gives user code a `TracedInt`: an int in every respect, whose arithmetic builds an expression beside the number. So
`kl / x.size(0)` reaches the record as a division by *the size of that dimension*, not by 32, while the Python that runs is the
user's own, with concrete numbers. This is what makes sizes symbols without sympy and without torch's guards.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from vaelint.late import dataclass


class NeedsValue(Exception):
    """User code branched on the value of a tensor that has none (a fake tensor): the trace must be redone on real tensors."""


@dataclass(frozen=True, eq=False)
class Expr:
    """`fn(*args)`, where args are numbers, `Expr`s or record nodes; `owner` is the recorder it belongs to."""

    owner: object
    fn: Callable[..., Any]
    args: tuple[Any, ...]


def _operand(value: Any) -> Any:
    return value.expr if isinstance(value, TracedInt | TracedFloat) else value


def _owner(*values: Any) -> object:
    return next(v.expr.owner for v in values if isinstance(v, TracedInt | TracedFloat))


def _binary(fn: Callable[[Any, Any], Any], base: type, reflected: bool) -> Callable[[Any, Any], Any]:
    plain = getattr(base, f"__{'r' if reflected else ''}{fn.__name__.strip('_')}__")

    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        value = plain(self, other)
        if value is NotImplemented:  # int with float: let the number types sort it out
            a, b = float(self), other
            value = fn(b, a) if reflected else fn(a, b)
        operands = (other, self) if reflected else (self, other)
        expr = Expr(_owner(self), fn, tuple(_operand(o) for o in operands))
        return traced(value, expr)

    return method


def _unary(fn: Callable[[Any], Any], base: type) -> Callable[[Any], Any]:
    plain = getattr(base, f"__{fn.__name__}__")

    def method(self: Any) -> Any:
        return traced(plain(self), Expr(self.expr.owner, fn, (self.expr,)))

    return method


class TracedInt(int):
    """An int that knows the expression it was computed by."""

    expr: Expr

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, (int(self),))


class TracedFloat(float):
    """A float that knows the expression it was computed by; NaN where a fake tensor had no value to give."""

    expr: Expr

    def __reduce__(self) -> tuple[Any, ...]:
        return (float, (float(self),))


for _kind, _plain in ((TracedInt, int), (TracedFloat, float)):  # what Python says of them in the user's tracebacks
    _kind.__name__ = _kind.__qualname__ = _plain.__name__


def _array_ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """numpy takes a plain number for one of the array's own type; a subclass of it would make float64 of a float32 array."""
    return getattr(ufunc, method)(*(plain(x) for x in inputs), **kwargs)


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(float, f"__{name}__")

    def method(self: Any, other: Any) -> Any:
        if self != self:
            raise NeedsValue("a comparison with the value of a tensor")
        return plain(self, other)

    return method


for _base, _cls in ((int, TracedInt), (float, TracedFloat)):
    for _fn in (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow):
        setattr(_cls, f"__{_fn.__name__}__", _binary(_fn, _base, reflected=False))
        setattr(_cls, f"__r{_fn.__name__}__", _binary(_fn, _base, reflected=True))
    setattr(_cls, "__array_ufunc__", _array_ufunc)  # noqa: B010 - as the operators above
    for _fn1 in (operator.neg, operator.abs):
        setattr(_cls, f"__{_fn1.__name__}__", _unary(_fn1, _base))
for _name in ("lt", "le", "gt", "ge"):
    setattr(TracedFloat, f"__{_name}__", _comparison(_name))


def traced(value: Any, expr: Expr) -> Any:
    """`value` with its expression, for ints and floats; anything else (bool, complex) as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number: Any = TracedInt(value) if isinstance(value, int) else TracedFloat(value)
    number.expr = expr
    return number


def plain(value: Any) -> Any:
    """`value` without its expression: what torch itself is given."""
    if isinstance(value, TracedInt):
        return int.__int__(value)
    if isinstance(value, TracedFloat):
        return float.__float__(value)
    return value
