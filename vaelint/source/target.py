"""Target texts: `model.py:VAE(latent_dim=20)` -> TargetSpec. Runs no user code, imports no torch."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from vaelint.core.errors import UsageError
from vaelint.late import dataclass
from vaelint.source.notebook import source_of_file

_TARGET = re.compile(r"(?P<where>.+?):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(?P<call>\(.*\))?", re.DOTALL)
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_PYTHON_WORD = re.compile(r"(?P<name>inputs?|init|loss|step|device|select|ignore|output_format|laws)=(?P<value>.+)", re.DOTALL)
_EXAMPLE = "write FILE.py:NAME or package.module:NAME, for example model.py:VAE"


@dataclass(frozen=True)
class TargetSpec:
    """Where a model is and how it is named. Exactly one of `path` and `module` is set; `name` may be dotted."""

    text: str
    path: str | None
    module: str | None
    name: str
    init: dict[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Expression:
    """An argument that is not a literal, such as `nn.ReLU()` or `Encoder(784, 20)`: evaluated in the target's module when it is built.

    `names` says where names come from that the module may not have: name, file ("" for a library), what it is called there.
    """

    text: str
    names: tuple[tuple[str, str, str], ...] = ()

    def __repr__(self) -> str:
        return self.text


def parse_target(text: str) -> TargetSpec:
    """Reads `path.py:Name`, `package.module:Name` or `...:Name(key=literal, ...)`. Raises UsageError."""
    text = text.strip()
    match = _TARGET.fullmatch(text)
    if match is None:
        raise _without_name(text)
    where, name, call = match["where"], match["name"], match["call"]
    if where.endswith(":"):  # as pytest names a test
        raise UsageError(f"target {text!r} has two colons", f"write {where.rstrip(':')}:{name}{call or ''}")
    init = _read_call(text, call) if call else {}
    if where.endswith((".py", ".ipynb")) or "/" in where or os.sep in where or not _MODULE.fullmatch(where):
        return TargetSpec(text, where, None, name, init)
    return TargetSpec(text, None, where, name, init)


def _without_name(text: str) -> UsageError:
    """The error for a target that names no object; lists what the file offers where it can be read."""
    path = text.rstrip(":")
    found = module_classes(path) if path.endswith(".py") and Path(path).is_file() else []
    if found:
        return UsageError(f"target {text!r} names no model", f"{path} defines {', '.join(found)}: write {path}:{found[-1]}")
    if as_python := _PYTHON_WORD.fullmatch(text):
        return UsageError(
            f"{text!r} is not a target", f"write --{as_python['name'].replace('inputs', 'input').replace('_', '-')} {as_python['value']}"
        )
    return UsageError(f"target {text!r} does not name a model", _EXAMPLE)


def _read_call(text: str, call: str) -> dict[str, object]:
    """The keyword arguments of `(key=literal, ...)`."""
    try:
        node = ast.parse("f" + call, mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"target {text!r}: cannot read {call!r} as arguments: {error.msg}", "write Name(key=value, ...)") from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise UsageError(f"target {text!r}: cannot read {call!r} as one list of arguments", "write Name(key=value, ...)")
    if node.args:
        raise UsageError(f"target {text!r}: constructor arguments must be given by name", "write Name(key=value, ...)")
    init: dict[str, object] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise UsageError(f"target {text!r}: ** is not understood here", "write Name(key=value, ...)")
        init[keyword.arg] = _literal(keyword.value, keyword.arg, f"target {text!r}")
    return init


def parse_init(items: Sequence[str]) -> dict[str, object]:
    """Reads `key=literal` items; later ones win. `Namespace(a=1)`, `nn.ReLU` and `Encoder(3)` are understood as well. Raises UsageError."""
    init: dict[str, object] = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise UsageError(f"--init {item!r} is not KEY=VALUE", "for example --init latent_dim=20")
        try:
            node = ast.parse(value.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            raise _not_literal(key, value, "--init") from None
        init[key] = _literal(node, key, "--init")
    return init


def _literal(node: ast.expr, key: str, source: str) -> object:
    """The value of a literal expression, a Namespace of such values, or an Expression for a call or a dotted name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Namespace", "SimpleNamespace", "dict"):
        values = {str(k.arg): _literal(k.value, key, source) for k in node.keywords if k.arg}
        if not node.args and len(values) == len(node.keywords):
            return values if node.func.id == "dict" else argparse.Namespace(**values)
    if isinstance(node, ast.Call | ast.Attribute | ast.Subscript | ast.Lambda):
        return Expression(ast.unparse(node))
    if isinstance(node, ast.List | ast.Tuple | ast.Dict) and any(isinstance(n, ast.Call | ast.Attribute) for n in ast.walk(node)):
        return Expression(ast.unparse(node))
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise _not_literal(key, ast.unparse(node), source) from None
    return value


def _not_literal(key: str, value: str, source: str) -> UsageError:
    value = value.strip()
    is_word = value.replace("-", "_").isidentifier()
    help = f"for text write {key}={value!r}, quotes included" if is_word else "write a number, 'text', a list, a tuple or a dict"
    return UsageError(f"{source}: the value of {key} is not a Python literal: {value or 'nothing'}", help)


def module_classes(path: str) -> list[str]:
    """Names of the top-level classes of a file that look like an nn.Module (by their bases), in order; [] if it cannot be read."""
    try:
        tree = ast.parse(source_of_file(path))
    except (OSError, SyntaxError, ValueError):
        return []
    classes = {node.name: [ast.unparse(base) for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)}
    modules: list[str] = []
    for name, bases in classes.items():
        if any(base.rpartition(".")[2].endswith("Module") or base in modules for base in bases):
            modules.append(name)
    return modules
