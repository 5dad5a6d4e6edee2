"""The numbers that weigh a KL, as the expressions that the user's code reckons them by, at any value of what they are reckoned from.

The step runs once more, and what its functions held is kept. The expression is then read from the source and evaluated by
source/arithmetic.py: no user code runs for another value.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.source.arithmetic import Bounds, NotArithmetic, Returns, held_by, number_in, value_of
from vaelint.source.blame import one_line
from vaelint.step.step import STEP_FILE

_CLOSE = 1e-6  # relative


@dataclass(frozen=True)
class Scope:
    """What a function of the user's held when it last returned."""

    file: str  # as spans have it; "" for the text of the step
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
    local: Mapping[str, Any]
    outer: Mapping[str, Any]
    code: CodeType


@dataclass(frozen=True)
class Reckoned:
    """A weight of a KL, the expression it is reckoned by, and the function that does so."""

    name: str
    value: float  # in the run
    expression: ast.expr
    place: Span
    scope: Scope
    scopes: tuple[Scope, ...]

    def counters(self) -> Iterator[tuple[str, float]]:
        """The numbers that it may be reckoned from, as they are written, with their values: local names and attributes of objects."""
        for name, value in self.scope.local.items():
            if _is_number(value):
                yield name, float(value)
            yield from _held(name, value, 2)

    def at(
        self, counter: str, value: int | float, bounds: Bounds | None = None, *, uncut: str = "", returns: Returns | None = None
    ) -> float:
        """The weight where a counter has another value, as `value_of` reckons it. Raises NotArithmetic."""
        whole = int(value) if float(value).is_integer() else value
        owner, _, attributes = counter.partition(".")
        changed = _with(self.scope.local[owner], attributes, whole) if attributes else whole
        found = value_of(self.expression, {**self.scope.local, owner: changed}, self.scope.outer, bounds, uncut=uncut, returns=returns)
        if not _is_number(found):
            raise NotArithmetic("no number")
        return float(found)

    def written_at(self, counter: str, value: int | float) -> Span:
        """Where it is worked out for a value of a counter: where the function returns that it is the value of, else its own place."""
        returns: Returns = []
        self.at(counter, value, returns=returns)
        if not isinstance(self.expression, ast.Call) or not returns:
            return self.place
        function, statement = returns.pop()
        while returns and isinstance(statement.value, ast.Call) and ast.unparse(statement.value.func).endswith(returns[-1][0].__name__):
            function, statement = returns.pop()
        own = next((s for s in self.scopes if s.code is function.__code__), None)
        line = statement.lineno + function.__code__.co_firstlineno - 1
        written = (n for n in ast.walk(own.function) if isinstance(n, ast.Return) and n.lineno == line) if own is not None else ()
        return next((_span(own, n) for n in written if own is not None), self.place)

    def divisors(self) -> Iterator[float]:
        """The numbers that the expression, and the functions of the user's that it calls, divide by."""
        for scope, node in self.parts():
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and (by := _number_of(node.right, scope)) is not None:
                yield by

    def parts(self) -> Iterator[tuple[Scope, ast.AST]]:
        """All that it is reckoned by: its expression, the names in it, the functions of the user's that it calls."""
        seen: list[Scope] = []
        waiting: list[tuple[Scope, ast.AST]] = [(self.scope, self.expression)]
        while waiting:
            scope, tree = waiting.pop()
            for node in ast.walk(tree):
                yield scope, node
                code = getattr(called_function(node, scope), "__code__", None)
                own = next((s for s in self.scopes if s.code is code and s not in seen), None) if code is not None else None
                if own is not None:
                    seen.append(own)
                    waiting.append((own, own.function))
                if isinstance(node, ast.Name) and tree is self.expression:
                    waiting += [(scope, s.value) for s in ast.walk(scope.function) if isinstance(s, ast.Assign) and _makes(s, node.id)]

    def follows(self, counter: str, now: float) -> bool:
        """Whether it has its value of the run at the counter's own value, and another one elsewhere."""
        try:
            if not math.isclose(self.at(counter, now), self.value, rel_tol=_CLOSE, abs_tol=_CLOSE):
                return False
            return any(not math.isclose(self.at(counter, now + far), self.value, rel_tol=_CLOSE) for far in (1.0, 1e3, 1e6))
        except NotArithmetic:
            return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number_of(expression: ast.expr, scope: Scope) -> float | None:
    try:
        found = value_of(expression, scope.local, scope.outer)
    except NotArithmetic:
        return None
    return float(found) if _is_number(found) else None


def _held(path: str, value: object, depth: int) -> Iterator[tuple[str, float]]:
    """The numbers among the attributes of an object, and of the objects that it holds; layers of torch's own count nothing."""
    if not hasattr(value, "__dict__") or isinstance(value, type | ModuleType | FunctionType) or type(value).__module__.startswith("torch."):
        return
    for name, one in held_by(value).items():
        if _is_number(number := number_in(one)):
            yield f"{path}.{name}", float(number)
        elif depth > 1 and not name.startswith("_"):
            yield from _held(f"{path}.{name}", one, depth - 1)


def _with(owner: Any, attributes: str, value: int | float) -> Any:
    """An object with the same attributes but one; none of its code runs."""
    first, _, rest = attributes.partition(".")
    made = object.__new__(type(owner))
    made.__dict__.update({**vars(owner), first: _with(held_by(owner)[first], rest, value) if rest else value})
    return made


def reckoned_weights(bench: Bench) -> list[Reckoned]:
    """Every weight of a KL that is a number of the user's code and no literal. Raises CannotMeasureError where the step does not run."""
    factors = [f for k in bench.model.kls for f in k.factors if f.origin == "named" and f.value is not None and f.text]
    if not factors:
        return []
    shared = bench.base.shared
    if "reckoned" not in shared:
        scopes = _scopes(bench)
        found: dict[tuple[str, int], Reckoned] = {}
        for factor in factors:
            for one in _of_text(factor.text, factor.value or 0.0, list(factor.node.meta.get("stack") or ()), scopes):
                found[one.place.file, one.place.line] = one
        shared["reckoned"] = list(found.values())
    known: list[Reckoned] = shared["reckoned"]
    return known


def _scopes(bench: Bench) -> list[Scope]:
    """What each function of the user's held when it last returned, in one more run of the step."""
    if bench.is_observed:
        return _of_files(bench, bench.model.record.held)
    held: dict[CodeType, tuple[dict[str, Any], dict[str, Any]]] = {}
    spans = bench.model.tracer.spans

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and (spans.is_user(frame.f_code.co_filename) or frame.f_code.co_filename == STEP_FILE):
            held[frame.f_code] = (dict(frame.f_locals), frame.f_globals)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run = bench.base.again(as_is=True)
    finally:
        sys.setprofile(before)
    if run.record.failure is not None:
        raise CannotMeasureError(f"the step does not run again: {one_line(run.record.failure.error)}")
    own = [
        Scope("", ast.parse(bench.model.step.code), local, outer, code)
        for code, (local, outer) in held.items()
        if code.co_filename == STEP_FILE and code.co_name == "<module>"
    ]
    return own + _of_files(bench, {code: names for code, names in held.items() if code.co_filename != STEP_FILE})


def _of_files(bench: Bench, held: Mapping[CodeType, tuple[dict[str, Any], dict[str, Any]]]) -> list[Scope]:
    """The functions that the user's files have for these codes, and of a training script its top level."""
    found = []
    for code, (local, outer) in held.items():
        place = bench.model.tracer.spans.span(code, 0)
        tree = bench.model.source.file(place.file).tree if place is not None else None
        if code.co_name == "<module>" and tree is not None and place is not None:
            found.append(Scope(place.file, tree, local, outer, code))
        for function in ast.walk(tree) if tree is not None else ():
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name == code.co_name and place is not None:
                first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
                if first == code.co_firstlineno or function.lineno == code.co_firstlineno:
                    found.append(Scope(place.file, function, local, outer, code))
    return found


def _of_text(text: str, value: int | float, stack: list[Span], scopes: list[Scope]) -> Iterator[Reckoned]:
    """How a weight is reckoned that is written `text` at the innermost place of a stack of calls."""
    scope = next((s for s in scopes if (_is_within(s, stack[0]) if stack else not s.file)), None)
    if scope is None:
        return
    made = [(s, a) for s in scopes if s is scope or "." in text for a in ast.walk(s.function) if _makes(a, text)]
    if made:
        for where, statement in made:
            assert isinstance(statement, ast.Assign | ast.AnnAssign)
            if statement.value is not None:
                yield Reckoned(text, value, statement.value, _span(where, statement), where, tuple(scopes))
        return
    if isinstance(scope.function, ast.Module):
        return
    parameters = [a.arg for a in (*scope.function.args.posonlyargs, *scope.function.args.args)]
    everywhere = [*parameters, *(a.arg for a in scope.function.args.kwonlyargs)]
    if text in everywhere:
        outer = next((s for s in scopes if (_is_within(s, stack[1]) if len(stack) > 1 else not s.file)), None)
        for given in _given(outer, stack[1:], scope.function.name, text, parameters) if outer is not None else ():
            yield from _of_expression(given, value, stack[1:], scopes, outer)
        return
    try:
        expression = ast.parse(text, mode="eval").body
    except SyntaxError:
        return
    yield Reckoned(text, value, expression, _returned(expression, scope, scopes) or stack[0], scope, tuple(scopes))


def _of_expression(given: ast.expr, value: int | float, stack: list[Span], scopes: list[Scope], scope: Scope | None) -> Iterator[Reckoned]:
    if isinstance(given, ast.Name | ast.Attribute):
        yield from _of_text(ast.unparse(given), value, stack, scopes)
    elif scope is not None and (place := _returned(given, scope, scopes) or (_span(scope, given) if scope.file else None)) is not None:
        given, scope = _named(given, scope)
        yield Reckoned(ast.unparse(given), value, given, place, scope, tuple(scopes))


def _named(expression: ast.expr, scope: Scope) -> tuple[ast.expr, Scope]:
    """A call with names for the numbers that it is given: those of the function's parameters."""
    function = called_function(expression, scope)
    if not isinstance(expression, ast.Call) or not isinstance(function, FunctionType):
        return expression, scope
    names = [n for n in function.__code__.co_varnames[: function.__code__.co_argcount] if n != "self"]
    written = [*zip(names, expression.args, strict=False), *((k.arg, k.value) for k in expression.keywords if k.arg is not None)]
    given = {n: a.value for n, a in written if isinstance(a, ast.Constant) and _is_number(a.value)}
    args = [ast.Name(n) if n in given else a for n, a in itertools.zip_longest(names, expression.args) if a is not None]
    named = [ast.keyword(k.arg, ast.Name(k.arg)) if k.arg is not None and k.arg in given else k for k in expression.keywords]
    return ast.Call(expression.func, args, named), replace(scope, local={**scope.local, **given})


def _returned(expression: ast.expr, scope: Scope, scopes: list[Scope]) -> Span | None:
    """Where a call's function of the user's returns, if it does so once."""
    code = getattr(called_function(expression, scope), "__code__", None)
    own = next((s for s in scopes if code is not None and s.code is code), None)
    returns = [n for n in ast.walk(own.function) if isinstance(n, ast.Return)] if own is not None else []
    return _span(own, returns[0]) if own is not None and len(returns) == 1 else None


def called_function(node: ast.AST, scope: Scope) -> Any:
    """The function that is called, by a name, as a method, or as an object that can be called."""
    if not isinstance(node, ast.Call):
        return None
    called = _object(node.func, scope)
    if called is None and isinstance(node.func, ast.Attribute):
        called = inspect.getattr_static(type(_object(node.func.value, scope)), node.func.attr, None)
    return called if isinstance(called, FunctionType) else inspect.getattr_static(type(called), "__call__", None)


def _object(expression: ast.expr, scope: Scope) -> Any:
    """What a name, or an attribute of what is held, stands for; None where it is not held."""
    if isinstance(expression, ast.Name):
        return scope.local.get(expression.id, scope.outer.get(expression.id))
    if isinstance(expression, ast.Attribute):
        owner = _object(expression.value, scope)
        return vars(owner).get(expression.attr) if hasattr(owner, "__dict__") else None
    return None


def _given(scope: Scope, stack: list[Span], function: str, name: str, parameters: list[str]) -> Iterator[ast.expr]:
    """What a call on a line gives to a parameter of a function."""
    for call in (n for n in ast.walk(scope.function) if isinstance(n, ast.Call)):
        if stack and not call.lineno <= stack[0].line <= (call.end_lineno or 0):
            continue
        called = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
        if called != function:
            continue
        yield from (k.value for k in call.keywords if k.arg == name)
        shift = 1 if isinstance(call.func, ast.Attribute) and parameters[:1] == ["self"] else 0
        at = parameters.index(name) - shift if name in parameters else -1
        if 0 <= at < len(call.args) and not any(isinstance(a, ast.Starred) for a in call.args):
            yield call.args[at]


def _is_within(scope: Scope, place: Span) -> bool:
    """Whether a place is of the function; of a script's top level, what is in none of its functions."""
    if scope.file != place.file:
        return False
    if not isinstance(scope.function, ast.Module):
        return _holds(scope.function, place.line)
    return bool(scope.file) and not any(isinstance(n, ast.FunctionDef) and _holds(n, place.line) for n in ast.walk(scope.function))


def _holds(function: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    return function.lineno <= line <= (function.end_lineno or 0)


def _makes(statement: ast.AST, name: str) -> bool:
    """Whether a statement gives a name, or an attribute, its value."""
    if isinstance(statement, ast.Assign):
        return any(ast.unparse(t) == name for t in statement.targets)
    return isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name


def _span(scope: Scope, node: ast.stmt | ast.expr) -> Span:
    return Span(scope.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
