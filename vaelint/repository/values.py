"""What an expression in a user's file stands for, as far as the code itself tells. Runs no user code, imports no torch.

Names are followed to what they are given, through tuples, imports, parameters and their callers, `self`, command-line options,
configuration files and the user's own small functions. Classes and functions that would have to be run stay as code.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import math
from pathlib import Path
from typing import Any

from vaelint.repository.configuration import ENDS, load
from vaelint.repository.expressions import Expressions
from vaelint.repository.lookups import PURE
from vaelint.repository.objects import Definition, Instance, Opened, Unknown, holds_code, last_name, returns_of, written
from vaelint.repository.scopes import Function, Given, Scope
from vaelint.repository.script_options import options_of
from vaelint.source.target import Expression

_READERS = ("load", "safe_load", "full_load", "unsafe_load", "loads", "read")
_LIBRARIES = ("torch", "numpy", "math", "functools")


class Reader(Expressions):
    """Reads values. One reader serves many questions about one repository."""

    def read(self, node: ast.expr, scope: Scope) -> Any:
        """The value of an expression: plain data, a Namespace, or an Expression. Raises Unknown."""
        self._steps = 0
        return self._finished(self._value(node, scope))

    def peek(self, node: ast.expr, scope: Scope) -> Any:
        """The same as part of reading something else."""
        return self._value(node, scope)

    def given(self, given: Given, scope: Scope) -> Any:
        """The value that a statement gives. Raises Unknown."""
        self._steps = 0
        return self._finished(self._given(given, scope))

    def definition(self, node: ast.expr, scope: Scope) -> tuple[Path, str] | None:
        """The file and name of the user's class or function that an expression is, None for a value. Raises Unknown."""
        self._steps = 0
        value = self._value(node, scope)
        if not isinstance(value, Definition):
            return None
        if value.file is None or value.node is None:
            raise Unknown
        return value.file.path, value.name

    def instance(self, node: ast.expr, scope: Scope) -> tuple[Path, str]:
        """The file and name of the user's class that an expression is an object of. Raises Unknown."""
        self._steps = 0
        value = self._value(node, scope)
        if isinstance(value, Instance) and value.definition.file is not None:
            return value.definition.file.path, value.definition.name
        raise Unknown

    def call_arguments(self, call: ast.Call, names: list[str], scope: Scope) -> dict[str, Any]:
        """The known arguments of a call by name, as others may have them. Raises Unknown."""
        self._steps = 0
        found: dict[str, Any] = {}
        for name, value in self.arguments_by_name(call, names, scope).items():
            try:
                done = self._finished(value)
                found[name] = Expression(*written(done)) if holds_code(done) else done
            except Unknown:
                continue
        return found

    def _finished(self, value: Any) -> Any:
        """A value as others may have it: definitions become code."""
        if isinstance(value, Instance):
            if value.code is None:
                raise Unknown
            return value.code
        if isinstance(value, Definition):
            return self._named(value)
        if isinstance(value, Opened):
            raise Unknown
        if isinstance(value, list | tuple):
            parts = [self._finished(v) for v in value]
            return parts if isinstance(value, list) else tuple(parts)
        if isinstance(value, dict):
            return {k: self._finished(v) for k, v in value.items()}
        return value

    def _named(self, value: Definition) -> Expression:
        if value.file is None:
            if value.name.partition(".")[0] not in _LIBRARIES:
                raise Unknown
            first = value.name.partition(".")[0]
            return Expression(value.name, ((first, "", first),))
        if value.node is None:
            raise Unknown
        return Expression(value.name, ((value.name, str(value.file.path), value.name),))

    def _read_call(self, node: ast.Call, scope: Scope) -> Any:
        called = last_name(node.func)
        if called in ("parse_args", "parse_known_args") and isinstance(node.func, ast.Attribute):
            options = options_of(self, node, scope)
            return options if called == "parse_args" else (options, [])
        if isinstance(node.func, ast.Name) and node.func.id in ("open", "eval", "getattr", "globals", "vars"):
            return self._builtin(node, scope)
        if isinstance(node.func, ast.Attribute) and not self._is_module(node.func.value, scope):
            return self._of_method(node, node.func, scope)
        function = self._value(node.func, scope)
        if not isinstance(function, Definition):
            raise Unknown
        if function.file is None:
            return self._of_library(function.name, node, scope)
        if isinstance(function.node, ast.ClassDef):
            return self._instance(function, node, scope)
        if isinstance(function.node, Function):
            return self._of_function(function, node, scope)
        raise Unknown

    def _is_module(self, node: ast.expr, scope: Scope) -> bool:
        """Whether an expression is a module: `torch.nn` is, `args` and `Encoder(3)` are not."""
        if not isinstance(node, ast.Name | ast.Attribute):
            return False
        try:
            value = self._value(node, scope)
        except Unknown:
            return False
        return isinstance(value, Definition) and not isinstance(value.node, ast.ClassDef | Function)

    def _builtin(self, node: ast.Call, scope: Scope) -> Any:
        assert isinstance(node.func, ast.Name)
        if node.func.id == "globals":
            return {n: Definition(scope.file, d, n) for n, d in scope.file.definitions.items()}
        first = self._value(node.args[0], scope)
        if node.func.id == "vars":
            return dict(vars(first)) if isinstance(first, argparse.Namespace) else dict(first.bound)  # of what else, an Unknown
        if node.func.id == "open":
            return self._opened(first, scope)
        if node.func.id == "eval":
            return self._value(ast.parse(str(first).strip(), mode="eval").body, scope)
        name = self._value(node.args[1], scope)
        if isinstance(first, argparse.Namespace):
            return getattr(first, name) if hasattr(first, name) else self._value(node.args[2], scope)
        if isinstance(first, Definition):
            return self._member(first, name)
        raise Unknown

    def _opened(self, name: Any, scope: Scope) -> Opened:
        """The file of the repository that a path names, as seen from its root, from the working directory or from the file itself."""
        if isinstance(name, Opened):
            return name
        path = Path(str(name))
        for base in (self.repository.root, scope.file.path.parent, Path.cwd()):
            there = (base / path).resolve()
            if there.suffix in ENDS and there.is_file() and there.is_relative_to(self.repository.root.resolve()):
                return Opened(there)
        raise Unknown

    def _of_method(self, node: ast.Call, func: ast.Attribute, scope: Scope) -> Any:
        """A method of plain data, or one that leaves a model as it is."""
        if isinstance(func.value, ast.Name) and func.value.id == "self":
            return self._own_method(node, func.attr, scope)
        owner = self._value(func.value, scope)
        if func.attr in ("to", "cuda", "cpu", "eval", "train", "float", "double", "half") and isinstance(owner, Instance | Expression):
            return owner
        arguments = list(self._items(node.args, scope))
        if isinstance(owner, Opened) and func.attr == "read":
            return owner
        if isinstance(owner, dict) and func.attr in ("get", "copy", "keys", "values", "items"):
            return getattr(owner, func.attr)(*arguments)
        if isinstance(owner, str) and func.attr in ("format", "lower", "upper", "strip", "split", "replace", "join", "capitalize", "title"):
            keywords = {k.arg: self._value(k.value, scope) for k in node.keywords if k.arg}
            return getattr(owner, func.attr)(*arguments, **keywords)
        if isinstance(owner, Instance) and isinstance(owner.definition.node, ast.ClassDef):
            return self._method_of(owner.definition, func.attr, node, scope)
        raise Unknown

    def _own_method(self, node: ast.Call, name: str, scope: Scope) -> Any:
        owner = next((n for n in reversed(scope.chain) if isinstance(n, ast.ClassDef)), None)
        if owner is None:
            raise Unknown
        return self._method_of(Definition(scope.file, owner, owner.name), name, node, scope)

    def _method_of(self, owner: Definition, name: str, call: ast.Call, scope: Scope) -> Any:
        assert isinstance(owner.node, ast.ClassDef) and owner.file is not None
        method = next((n for n in owner.node.body if isinstance(n, Function) and n.name == name), None)
        if method is None:
            raise Unknown
        static = any(last_name(d) == "staticmethod" for d in method.decorator_list)
        bound = self.arguments(call, method, scope, bound_self=not static)
        return self._returned(method, bound, Scope(owner.file, (owner.node, method), method.end_lineno or method.lineno))

    def _part(self, node: ast.expr, place: tuple[int, ...], scope: Scope) -> Any:
        if place and isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            function = self._value(node.func, scope)
            if isinstance(function, Definition) and isinstance(function.node, Function) and function.file is not None:
                bound = self.arguments(node, function.node, scope, bound_self=False)
                chain = (*function.scope.chain, function.node) if function.scope is not None else (function.node,)
                return self._returned(function.node, bound, Scope(function.file, chain, function.node.end_lineno or 0), place)
        return super()._part(node, place, scope)

    def _of_function(self, function: Definition, call: ast.Call, scope: Scope) -> Any:
        """What a function of the user's returns, read from its code; else the call of it, if all that it is given is known."""
        assert isinstance(function.node, Function) and function.file is not None
        bound = self.arguments(call, function.node, scope, bound_self=False)
        chain = (*function.scope.chain, function.node) if function.scope is not None else (function.node,)
        try:
            return self._returned(function.node, bound, Scope(function.file, chain, function.node.end_lineno or 0))
        except Unknown:
            if len(chain) > 1:
                raise
            return self._called(function, call, scope)

    def _returned(self, function: ast.AST, bound: dict[str, Any], scope: Scope, place: tuple[int, ...] = ()) -> Any:
        with self._reading(function, bound):
            for guards, value in reversed(list(returns_of(getattr(function, "body", []), ()))):
                here = scope.at(value.lineno)
                if self.holds(guards, here):
                    return self._part(value, place, here)
        raise Unknown

    def _instance(self, definition: Definition, call: ast.Call, scope: Scope) -> Any:
        """An object of a user's class; a class that holds nothing but values is as good as a namespace."""
        assert isinstance(definition.node, ast.ClassDef)
        init = next((n for n in definition.node.body if isinstance(n, Function) and n.name == "__init__"), None)
        names = [a.arg for a in init.args.args][1:] if init is not None else list(definition.file.given(definition.node))  # type: ignore[union-attr]
        try:
            code = self._called(definition, call, scope)
        except Unknown:
            code = None
        return Instance(definition, code, self.arguments_by_name(call, names, scope))

    def _called(self, function: Definition, call: ast.Call, scope: Scope) -> Expression:
        """The call as code. Raises Unknown if an argument is not known."""
        texts: list[str] = []
        names: dict[tuple[str, str, str], None] = dict.fromkeys(self._named(function).names)

        def add(value: Any, before: str = "") -> None:
            text, more = written(self._finished(value))
            texts.append(before + text)
            names.update(dict.fromkeys(more))

        for node in call.args:
            inner = node.value if isinstance(node, ast.Starred) else node
            add(self._value(inner, scope), "*" if isinstance(node, ast.Starred) else "")
        for keyword in call.keywords:
            add(self._value(keyword.value, scope), f"{keyword.arg}=" if keyword.arg else "**")
        return Expression(f"{self._named(function).text}({', '.join(texts)})", tuple(names))

    def _of_library(self, dotted: str, node: ast.Call, scope: Scope) -> Any:
        """A call of something that is not the user's: readers of files, containers, arithmetic; a torch module stays as code."""
        name = dotted.rpartition(".")[2]
        if name in ("is_available", "device_count"):
            return False  # whoever asks is answered as on a machine without a GPU
        arguments = list(self._items(node.args, scope))
        if name in _READERS and arguments:
            content = load(self._opened(arguments[0], scope).path)
            if content is None:
                raise Unknown
            return content
        if arguments and isinstance(arguments[0], Instance) and not hasattr(builtins, dotted):  # its length, say, is another thing
            return arguments[0]  # wrapped, compiled or copied, it is the same model
        keywords = self.arguments_by_name(ast.Call(node.func, [], node.keywords), [], scope)
        if dotted in PURE:
            return PURE[dotted](*arguments, **keywords)
        if (found := arithmetic(dotted, arguments)) is not None:
            return found
        if name == "device" and arguments:
            return str(arguments[0])
        if name in ("Path", "join", "abspath", "expanduser") and arguments:
            return str(Path(*map(str, arguments)))
        if name in ("Namespace", "SimpleNamespace"):
            return argparse.Namespace(**keywords)
        if dotted.partition(".")[0] in _LIBRARIES and "." in dotted:
            return self._called(Definition(None, None, dotted), node, scope)
        if len(arguments) == 1 and isinstance(arguments[0], dict | argparse.Namespace) and not keywords:
            return arguments[0]  # a dict with attributes, whatever its class is called
        if not arguments and keywords and len(keywords) >= len(node.keywords):
            return argparse.Namespace(**keywords)
        raise Unknown


def arithmetic(dotted: str, arguments: list[Any]) -> Any:
    """`math.sqrt(4)`, `np.prod(shape)`; None for what is no such thing."""
    library, _, name = dotted.rpartition(".")
    if library not in ("math", "numpy", "np") or not arguments:
        return None
    if name == "prod":
        return math.prod(arguments[0])
    function = getattr(math, name, None)
    return function(*arguments) if callable(function) and all(isinstance(a, int | float) for a in arguments) else None
