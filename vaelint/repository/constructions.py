"""How a repository builds one of its classes: the arguments of each place that does, as far as the code tells them. Imports no torch."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaelint.late import dataclass
from vaelint.repository.configuration import configurations, mappings
from vaelint.repository.objects import Unknown, last_name
from vaelint.repository.scopes import Function, Scope, Site
from vaelint.repository.values import Reader

_MOST = 12  # places looked at


@dataclass(frozen=True)
class Construction:
    """The known arguments of one place that builds the class, by name. `line` is 0 for a configuration file."""

    arguments: dict[str, Any]
    file: Path
    line: int
    likely: bool = True  # nothing says that this line is not reached with the default options


def constructions(reader: Reader, home: Path, name: str, parameters: Sequence[str]) -> list[Construction]:
    """The places that build `name` of the file `home`: first those in code that trains, then the rest, each set of arguments once."""
    found: list[tuple[int, Construction]] = []
    for site in _sites(reader, home, name):
        reader.assumed = {(id(test), outcome) for test, outcome in site.guards}
        arguments = _arguments(reader, site, parameters)
        reader.assumed = set()
        if arguments and not any(c.arguments == arguments for _, c in found):
            likely = reader.holds(site.guards, site.scope)
            trains = b"backward(" in site.scope.file.path.read_bytes()
            found.append((2 * (not trains) + (not likely), Construction(arguments, site.scope.file.path, site.call.lineno, likely)))
        if len(found) >= _MOST:
            break
    return [c for _, c in sorted(found, key=lambda rc: rc[0])]


def _sites(reader: Reader, home: Path, name: str) -> Iterator[Site]:
    """The calls of the class, whatever it is called there; not those of another class of the same name."""
    home = home.resolve()
    for file in reader.repository.holding(name):
        for site in file.calls:
            func = site.call.func
            named = last_name(func) == name or (isinstance(func, ast.Name) and file.renamed.get(func.id) == name)
            if not named and not isinstance(func, ast.Subscript | ast.Name):
                continue
            if not named and isinstance(func, ast.Name) and not _is_variable(func.id, site.scope):
                continue
            try:
                if reader.definition(func, site.scope) == (home, name):
                    yield site
            except Unknown:
                if named and _inside(site.scope, name) is None:
                    yield site


def _is_variable(name: str, scope: Scope) -> bool:
    """Whether a name is given something that may be a class: `cls = MODELS[args.model]`, `cls = VAE if ... else AE`."""
    owners = [n for n in scope.chain if isinstance(n, Function)]
    givens = (g for owner in (*owners, None) for g in scope.file.given(owner).get(name, ()))
    return any(isinstance(g.node, ast.Subscript | ast.Name | ast.Attribute | ast.IfExp) for g in givens if g.how == "value")


def _inside(scope: Scope, name: str) -> ast.AST | None:
    return next((n for n in scope.chain if isinstance(n, ast.ClassDef) and n.name == name), None)


def _arguments(reader: Reader, site: Site, parameters: Sequence[str]) -> dict[str, Any]:
    """The arguments that are known; a Namespace with what is stored in it elsewhere."""
    try:
        found = reader.call_arguments(site.call, list(parameters), site.scope)
    except Unknown:
        return {}
    for key, value in found.items():
        if isinstance(value, argparse.Namespace):
            found[key] = argparse.Namespace(
                **{**_stored(reader, _written_as(site.call, key, parameters), site.scope, value), **vars(value)}
            )
    return found


def completed(reader: Reader, name: str, scope: Scope, value: argparse.Namespace) -> argparse.Namespace:
    """A Namespace that goes by `name`, with what statements elsewhere store in it."""
    return argparse.Namespace(**{**_stored(reader, name, scope, value), **vars(value)})


def _written_as(call: ast.Call, key: str, parameters: Sequence[str]) -> str:
    keyword = next((k.value for k in call.keywords if k.arg == key), None)
    place = list(parameters).index(key) if key in parameters else len(call.args)
    node = keyword if keyword is not None else call.args[place] if place < len(call.args) else None
    return ast.unparse(node) if node is not None else ""


def _stored(reader: Reader, name: str, scope: Scope, value: argparse.Namespace) -> dict[str, Any]:
    """What statements such as `args.input_size = [1, 28, 28]` anywhere in the repository add to a Namespace that goes by `name`."""
    found: dict[str, Any] = {}
    if not name.isidentifier():
        return found
    files = [scope.file, *(f for f in reader.repository.holding(f"{name}.") if f is not scope.file)]
    for file in files:
        for owner in (None, *(n for n in ast.walk(file.tree) if isinstance(n, Function))):
            for key, givens in file.given(owner).items():
                owner_name, _, attribute = key.rpartition(".")
                if owner_name != name or hasattr(value, attribute) or attribute in found:
                    continue
                for given in givens:
                    here = Scope(file, () if owner is None else (owner,), given.line)
                    try:
                        if reader.holds(given.guards, here):
                            found[attribute] = reader.given(given, here)
                            break
                    except Unknown:
                        continue
    return found


def configured(root: Path, keys: Sequence[str]) -> list[Construction]:
    """The mappings in the configuration files of a repository that hold all of `keys`: what `Model(**config["model"])` may be given."""
    found: list[Construction] = []
    for path, content in configurations(root):
        for mapping in mappings(content):
            if keys and all(key in mapping for key in keys) and not any(c.arguments == mapping for c in found):
                found.append(Construction(dict(mapping), path, 0))
    return found[:_MOST]


def keys_of(node: ast.AST, name: str) -> list[str]:
    """What a constructor reads from a parameter: `x` of `name["x"]`, `name.x` and of `name.get("x")` without a default."""
    found: dict[str, None] = {}
    aliases = {name, f"self.{name}"}
    called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant) and ast.unparse(part.value) in aliases:
            found.setdefault(str(part.slice.value))
        elif isinstance(part, ast.Attribute) and ast.unparse(part.value) in aliases and id(part) not in called:
            found.setdefault(part.attr)
    return [k for k in found if k.isidentifier()]
