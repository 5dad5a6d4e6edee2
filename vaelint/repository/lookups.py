"""What the names of a user's file stand for: given values, imports, parameters and their callers, attributes of `self`.

Runs no user code, imports no torch.
"""

from __future__ import annotations

import argparse
import ast
import builtins
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

from vaelint.repository.objects import Definition, Instance, Unknown, defaults, has_parameter, last_name
from vaelint.repository.scopes import File, Function, Given, Guards, Repository, Scope

_MOST_STEPS, _DEEPEST = 20_000, 40
PURE: dict[str, Callable[..., Any]] = {
    name: getattr(builtins, name)
    for name in ("int", "float", "str", "bool", "len", "tuple", "list", "dict", "max", "min", "sum", "abs", "round", "range", "sorted")
}
_NOTHING = object()


class Names:
    """Follows names. `_value` hands each kind of expression to the method `_read_KIND` of a class below."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._steps = 0
        self._active: set[tuple[int, int]] = set()
        self.assumed: set[tuple[int, bool]] = set()  # tests that lead to the place that is read
        self._handed: dict[tuple[int, str], Any] = {}  # what callers hand to a parameter, once that was looked up
        self._bound: list[tuple[ast.AST, dict[str, Any]]] = []  # functions being read, with their arguments

    def _value(self, node: ast.AST, scope: Scope) -> Any:
        self._steps += 1
        if self._steps > _MOST_STEPS or len(self._active) > _DEEPEST:
            raise Unknown
        key = (id(node), len(self._bound))
        if key in self._active:
            raise Unknown
        self._active.add(key)
        try:
            method = getattr(self, f"_read_{type(node).__name__.lower()}", None)
            if method is None:
                raise Unknown
            return method(node, scope)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError, RecursionError):
            raise Unknown from None
        finally:
            self._active.discard(key)

    def holds(self, guards: Guards, scope: Scope) -> bool:
        """Whether nothing says that the tests around a statement come out otherwise."""
        for test, outcome in guards:
            if (id(test), outcome) in self.assumed:
                continue
            try:
                if bool(self._value(test, scope.at(test.lineno))) is not outcome:
                    return False
            except Unknown:
                continue
        return True

    def _stored(self, text: str, scope: Scope) -> Any:
        """What the file itself stores in `args.size` or `config["size"]`, None where it does not, or not that can be told."""
        owners = [n for n in reversed(scope.chain) if isinstance(n, Function)]
        for owner in (*owners, None):
            for given in reversed(scope.file.given(owner).get(text, [])):
                inside = owner is not None and owner is owners[0]
                if (inside or owner is None) and given.line >= scope.line and (inside or not scope.chain):
                    continue
                try:
                    return self._given(given, self._where(owner, scope, given.line))
                except Unknown:
                    continue
        return None

    @staticmethod
    def _where(owner: ast.AST | None, scope: Scope, line: int) -> Scope:
        depth = 0 if owner is None else scope.chain.index(owner) + 1
        return scope.at(line, depth)

    def lookup(self, name: str, scope: Scope) -> Any:
        """What a name stands for at a place. Raises Unknown."""
        functions = [n for n in reversed(scope.chain) if isinstance(n, Function)]
        for place, function in enumerate(functions):
            depth = scope.chain.index(function) + 1
            givens = scope.file.given(function).get(name, [])
            before = [g for g in givens if g.line < scope.line] if place == 0 else givens
            for given in reversed(before):
                if self.holds(given.guards, scope.at(given.line, depth)):
                    return self._given(given, scope.at(given.line, depth))
            if givens and not before and place == 0 and not has_parameter(function, name):
                raise Unknown
            if has_parameter(function, name):
                return self._parameter(function, name, scope.at(function.lineno, depth))
        if scope.chain and isinstance(scope.chain[-1], ast.ClassDef):
            for given in reversed(scope.file.given(scope.chain[-1]).get(name, [])):
                if given.line < scope.line:
                    return self._given(given, scope.at(given.line))
        return self._of_file(scope.file, name, None if functions else scope.line)

    def _of_file(self, file: File, name: str, before: int | None = None) -> Any:
        """A name of a file's top level."""
        here = Scope(file)
        for given in reversed(file.given().get(name, [])):
            if (before is None or given.line < before) and self.holds(given.guards, here.at(given.line)):
                return self._given(given, here.at(given.line))
        for node in file.tree.body:  # `from x import *`
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                other = self.repository.imported(file, node.module or "", node.level)
                if other is not None and other is not file and name in {*other.given(), *other.definitions}:
                    return self._of_file(other, name)
        if name in PURE or name in ("True", "False", "None"):
            return Definition(None, None, name)
        raise Unknown

    def _given(self, given: Given, scope: Scope) -> Any:
        node = given.node
        if given.how == "filled":
            return self._filled(given, scope)
        if given.how == "definition":
            return Definition(scope.file, node, node.name, scope)  # type: ignore[attr-defined]
        if given.how == "import":
            return self._imported(given, scope)
        if given.how == "changed" or not isinstance(node, ast.expr):
            raise Unknown
        if given.how == "part":
            return self._part(node, given.place, scope)
        value = self._value(node, scope)
        if given.how != "item":
            return value
        if (first := next(iter(value), _NOTHING)) is _NOTHING:
            raise Unknown
        return first

    def _filled(self, given: Given, scope: Scope) -> Any:
        """A list, dict or set with what methods did to it since it was written out."""
        calls: list[ast.Call] = []
        last: Given | None = given
        while last is not None and (last.how == "filled" or not self.holds(last.guards, scope.at(last.line))):
            if self.holds(last.guards, scope.at(last.line)):
                calls.append(last.node)  # type: ignore[arg-type]
            last = last.earlier
        value = copy(self._given(last, scope.at(last.line))) if last is not None else None
        for call in reversed(calls):
            name, here = call.func.attr, scope.at(call.lineno)  # type: ignore[attr-defined]
            if type(value) not in (list, dict, set) or (name.startswith("_") and name != "__setitem__"):
                raise Unknown
            try:
                keywords = {k.arg: self._value(k.value, here) for k in call.keywords if k.arg is not None}
                getattr(value, name)(*(self._value(a, here) for a in call.args), **keywords)
            except Unknown:
                if name != "__setitem__":
                    raise  # of a dict the other keys are known all the same
            except (TypeError, ValueError, LookupError, AttributeError, MemoryError):
                raise Unknown from None
        return value

    def _part(self, node: ast.expr, place: tuple[int, ...], scope: Scope) -> Any:
        """One part of a tuple; the others need not be known."""
        if place and isinstance(node, ast.Tuple | ast.List):
            return self._part(node.elts[place[0]], place[1:], scope)
        value = self._value(node, scope)
        for i in place:
            value = value[i]
        return value

    def _imported(self, given: Given, scope: Scope) -> Any:
        node = given.node
        assert isinstance(node, ast.Import | ast.ImportFrom)
        alias = node.names[given.place[0]]
        if isinstance(node, ast.Import):
            dotted = alias.name if alias.asname else alias.name.partition(".")[0]
            file = self.repository.imported(scope.file, dotted)
            return Definition(file, None, dotted)
        module = node.module or ""
        file = self.repository.imported(scope.file, module, node.level)
        if file is not None and (file is not scope.file or module):
            try:
                return self._of_file(file, alias.name)
            except Unknown:
                pass  # it may be a file of the package
        part = self.repository.imported(scope.file, f"{module}.{alias.name}".strip("."), node.level)
        if part is None and file is not None:
            raise Unknown
        return Definition(part, None, f"{module}.{alias.name}".strip("."))

    def _parameter(self, function: Any, name: str, scope: Scope) -> Any:
        """The argument of the call that is being read; else what the repository's calls of the function hand over; else its default."""
        for node, bound in reversed(self._bound):
            if node is function:
                if name in bound:
                    return bound[name]
                return self._default(function, name, scope)
        key = (id(function), name)
        if key not in self._handed:
            self._handed[key] = next(self._from_callers(function, name, scope), _NOTHING)
        handed = self._handed[key]
        return handed if handed is not _NOTHING else self._default(function, name, scope)

    def _default(self, function: Any, name: str, scope: Scope) -> Any:
        node = defaults(function).get(name)
        if node is None:
            raise Unknown
        return self._value(node, scope.at(function.lineno, len(scope.chain) - 1))

    def _from_callers(self, function: Any, name: str, scope: Scope) -> Iterator[Any]:
        owner = scope.chain[-2] if len(scope.chain) > 1 else None
        called = owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
        method = isinstance(owner, ast.ClassDef)
        for file in self.repository.holding(str(called)):
            for site in file.calls:
                callee = last_name(site.call.func)
                if file.renamed.get(callee, callee) != called or not (method or self._means(site.call.func, function, site.scope)):
                    continue
                try:
                    yield self._argument(site.call, function, name, site.scope, method)
                except (Unknown, LookupError):
                    continue

    def _means(self, node: ast.expr, function: Any, scope: Scope) -> bool:
        """Whether nothing says that an expression is another function of the same name."""
        try:
            value = self._value(node, scope)
        except Unknown:
            return True
        return not isinstance(value, Definition) or value.node is function

    def _argument(self, call: ast.Call, function: Any, name: str, scope: Scope, method: bool) -> Any:
        """One argument of a call."""
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)][1 if method else 0 :]
        if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
            return self.arguments_by_name(call, names, scope)[name]
        node = next((k.value for k in call.keywords if k.arg == name), None)
        place = names.index(name) if name in names else len(call.args)
        if node is None and place >= len(call.args):
            raise Unknown
        return self._value(node if node is not None else call.args[place], scope)

    def arguments(self, call: ast.Call, function: Any, scope: Scope, *, bound_self: bool) -> dict[str, Any]:
        """The arguments of a call by the names of the function's parameters, as far as they are known; `**kwargs` as they are called."""
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)][1 if bound_self else 0 :]
        return self.arguments_by_name(call, names, scope)

    def arguments_by_name(self, call: ast.Call, names: list[str], scope: Scope) -> dict[str, Any]:
        """The known arguments of a call, by name."""
        found: dict[str, Any] = {}
        place = 0
        for node in call.args:
            if isinstance(node, ast.Starred):
                values = list(self._value(node.value, scope))
                found.update(zip(names[place:], values, strict=False))
                place += len(values)
                continue
            if place < len(names):
                self._put(found, names[place], node, scope)
            place += 1
        for keyword in call.keywords:
            if keyword.arg is not None:
                self._put(found, keyword.arg, keyword.value, scope)
                continue
            try:
                spread = self._value(keyword.value, scope)
            except Unknown:
                continue
            spread = vars(spread) if isinstance(spread, argparse.Namespace) else spread
            found.update({k: v for k, v in spread.items() if isinstance(k, str)} if isinstance(spread, Mapping) else {})
        return found

    def _put(self, found: dict[str, Any], name: str, node: ast.expr, scope: Scope) -> None:
        try:
            found[name] = self._value(node, scope)
        except Unknown:
            return

    def _of_self(self, name: str, scope: Scope) -> Any:
        owner = next((n for n in reversed(scope.chain) if isinstance(n, ast.ClassDef)), None)
        if owner is None:
            raise Unknown
        depth = scope.chain.index(owner) + 1
        return self._attribute(owner, name, Scope(scope.file, scope.chain[:depth], owner.lineno))

    def _attribute(self, owner: ast.ClassDef, name: str, scope: Scope) -> Any:
        """An attribute of an object of a class, as its methods and its body say; `scope` is that of the body."""
        methods = [n for n in owner.body if isinstance(n, Function)]
        for method in sorted(methods, key=lambda m: m.name != "__init__"):
            inner = Scope(scope.file, (*scope.chain, method), method.lineno)
            for given in reversed(scope.file.given(method).get(f"self.{name}", [])):
                here = inner.at(given.line)
                if self.holds(given.guards, here):
                    return self._given(given, here)
        for given in reversed(scope.file.given(owner).get(name, [])):
            return self._given(given, scope.at(given.line))
        for base in owner.bases:
            found = self._value(base, scope.at(owner.lineno, len(scope.chain) - 1))
            if isinstance(found, Definition) and isinstance(found.node, ast.ClassDef) and found.file is not None:
                return self._attribute(found.node, name, Scope(found.file, (found.node,), found.node.lineno))
        raise Unknown

    def _of_instance(self, instance: Instance, name: str) -> Any:
        definition = instance.definition
        if name in instance.bound:
            return instance.bound[name]
        assert isinstance(definition.node, ast.ClassDef) and definition.file is not None
        scope = Scope(definition.file, (definition.node,), definition.node.lineno)
        init = next((n for n in definition.node.body if isinstance(n, Function) and n.name == "__init__"), None)
        with self._reading(init, instance.bound):
            return self._attribute(definition.node, name, scope)

    @contextmanager
    def _reading(self, function: ast.AST | None, bound: dict[str, Any]) -> Iterator[None]:
        if function is None:
            yield
            return
        if len(self._bound) > 8:
            raise Unknown
        self._bound.append((function, bound))
        try:
            yield
        finally:
            self._bound.pop()

    def _member(self, owner: Definition, name: str) -> Any:
        if owner.file is None:
            return Definition(None, None, f"{owner.name}.{name}")
        if owner.node is None:
            return self._of_file(owner.file, name)
        if isinstance(owner.node, ast.ClassDef):
            return self._attribute(owner.node, name, Scope(owner.file, (owner.node,), owner.node.lineno))
        raise Unknown
