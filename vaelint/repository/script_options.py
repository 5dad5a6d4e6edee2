"""The command-line options of a script, with their defaults: what `parser.parse_args()` gives when nothing is said."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vaelint.repository.scopes import Function, Scope, Site

if TYPE_CHECKING:
    from vaelint.repository.values import Reader

_CONVERTS = {"int": int, "float": float, "str": str}


def options_of(reader: Reader, parse: ast.Call, scope: Scope) -> argparse.Namespace:
    """The options of the parser whose `parse_args` is called. Those that must be given, or whose default is not known, are left out."""
    values: dict[str, Any] = {}
    for site in _declared(reader, parse, scope):
        keywords = {k.arg: k.value for k in site.call.keywords if k.arg}
        if site.call.func.attr == "set_defaults":  # type: ignore[attr-defined]
            values.update(reader.arguments_by_name(site.call, [], site.scope))
            continue
        name = _name(site.call, keywords)
        if not name:
            continue
        try:
            values[name] = _default(reader, site, keywords, name)
        except LookupError:
            continue
    return argparse.Namespace(**values)


def _declared(reader: Reader, parse: ast.Call, scope: Scope) -> Iterator[Site]:
    """The calls that add options: beside the call of `parse_args`, and in the functions that the parser is handed to."""
    parser = ast.unparse(parse.func.value)  # type: ignore[attr-defined]
    calls = [s for s in scope.file.calls if _adds(s.call)]
    home = _function(scope)
    beside = [s for s in calls if _function(s.scope) is home]
    handed = [
        s.call.func
        for s in scope.file.calls
        if _function(s.scope) is home and any(ast.unparse(a) == parser for a in (*s.call.args, *(k.value for k in s.call.keywords)))
    ]
    yield from beside or calls
    for func in handed:
        name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
        for file in reader.repository.holding(f"def {name}(", "add_argument") if name else ():
            for site in file.calls:
                inside = _function(site.scope)
                if _adds(site.call) and isinstance(inside, Function) and inside.name == name:
                    yield site


def _adds(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("add_argument", "set_defaults")


def _function(scope: Scope) -> ast.AST | None:
    return next((n for n in reversed(scope.chain) if isinstance(n, Function)), None)


def _name(call: ast.Call, keywords: dict[str, ast.expr]) -> str:
    """What the option is called in the result: `dest`, else the first long name, else the first name."""
    if isinstance(dest := keywords.get("dest"), ast.Constant):
        return str(dest.value)
    names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    long = next((n for n in names if n.startswith("--")), names[0] if names else "")
    return long.lstrip("-").replace("-", "_")


def _default(reader: Reader, site: Site, keywords: dict[str, ast.expr], name: str) -> Any:
    """The default of an option. Raises LookupError where it must be given, or its default is not known."""
    from vaelint.repository.objects import Unknown

    action = keywords.get("action")
    flag = action.value if isinstance(action, ast.Constant) else ""
    if "default" not in keywords:
        if flag in ("store_true", "store_false"):
            return flag == "store_false"
        required = keywords.get("required")
        positional = all(isinstance(a, ast.Constant) and not str(a.value).startswith("-") for a in site.call.args)
        if positional or (isinstance(required, ast.Constant) and required.value):
            raise LookupError(name)
        return None
    try:
        value = reader.peek(keywords["default"], site.scope)
    except Unknown:
        return _first_choice(reader, site, keywords, name)
    kind = keywords.get("type")
    if isinstance(value, str) and isinstance(kind, ast.Name) and kind.id in _CONVERTS:
        return _CONVERTS[kind.id](value)  # argparse converts the defaults that are text
    return value


def _first_choice(reader: Reader, site: Site, keywords: dict[str, ast.expr], name: str) -> Any:
    """The first of the values that an option may have, where its default is not known. Raises LookupError."""
    from vaelint.repository.objects import Unknown

    try:
        return reader.peek(keywords["choices"], site.scope)[0]
    except (Unknown, TypeError):
        raise LookupError(name) from None
