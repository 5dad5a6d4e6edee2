"""Command lines that train another of a repository's models: options by whose value the script chooses a class. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from vaelint.discover.argparse_options import options_of

CONFIGURATIONS = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg")
_BY_NAME = frozenset({"getattr", "eval", "globals", "vars"})


def variants(words: Sequence[str], name: str, trees: Sequence[ast.Module], folder: Path) -> Iterator[tuple[str, ...]]:
    """`words` with an option changed so that the class `name` may be the one that is trained, the likeliest first.

    Args:
        words: a command that runs, from `folder`.
        trees: the script and the files that it imports.
    """
    options = {o.dest: o.typed if o.positional else next((n for n in o.names if n.startswith("--")), o.typed) for o in options_of(trees)}
    for tree in trees:
        for chosen in _choices(tree, name, trees, options):
            changed = words
            for attribute, value in chosen:
                changed = with_option(changed, options[attribute], value)
            yield tuple(changed)
    for attribute, option in options.items():
        if not _is_path(words, option) and any(attribute in _read(node) for tree in trees for node in _lookups(tree)):
            yield with_option(words, option, name)
    yield from _configured(words, name, folder, _paths(trees))


def _is_path(words: Sequence[str], option: str) -> bool:
    """Whether the command gives an option the path of a configuration: no name of a class goes there."""
    return any(before == option and word.endswith(CONFIGURATIONS) for before, word in pairwise(words))


def _choices(tree: ast.Module, name: str, trees: Sequence[ast.Module], options: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Options and values that lead to the class: `if args.model == "conv": ... ConvVAE(`, and `{"conv": ConvVAE}[args.model]`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and any(_names(statement, name) for statement in node.body):
            read = [a for a in _read(node.test) if a in options]
            yield from ([(attribute, value)] for value in _texts(node.test) for attribute in read)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            ways = list(_keys_to(node.value, name))
            held = {t.id for t in node.targets if isinstance(t, ast.Name)}
            for looked in _lookups_of(held, trees) if ways else ():
                levels = [[a for a in read if a in options][:1] for read in looked]
                for keys in ways:
                    if len(keys) == len(levels) and all(levels):
                        yield [(level[0], key) for level, key in zip(levels, keys, strict=True)]


def _keys_to(table: ast.Dict, name: str) -> Iterator[tuple[str, ...]]:
    """The keys that lead to the class in a table, or in a table of tables."""
    for key, value in zip(table.keys, table.values, strict=True):
        if not isinstance(key, ast.Constant):
            continue
        if isinstance(value, ast.Dict):
            yield from ((str(key.value), *rest) for rest in _keys_to(value, name))
        elif _names(value, name):
            yield (str(key.value),)


def _names(node: ast.AST, name: str) -> bool:
    return any((isinstance(n, ast.Name) and n.id == name) or (isinstance(n, ast.Attribute) and n.attr == name) for n in ast.walk(node))


def _texts(node: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _read(node: ast.AST) -> list[str]:
    """The names and attributes that an expression reads, innermost last."""
    return [n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(node) if isinstance(n, ast.Attribute | ast.Name)]


def _lookups_of(held: set[str], trees: Sequence[ast.Module]) -> Iterator[list[list[str]]]:
    """What mappings of these names are looked up by, one list of names for each level."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript):
                base, levels = _taken_apart(node)
                if held & set(_read(base)):
                    yield levels
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
                yield from [[_read(node.args[0])]] if held & set(_read(node.func.value)) else []


def _taken_apart(node: ast.expr) -> tuple[ast.expr, list[list[str]]]:
    """What is looked up in, and by which names at each level."""
    if not isinstance(node, ast.Subscript):
        return node, []
    base, levels = _taken_apart(node.value)
    return base, [*levels, _read(node.slice)]


def _lookups(tree: ast.Module) -> Iterator[ast.AST]:
    """Expressions by which something is looked up under its own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_NAME:
            yield from node.args
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call) and set(_read(node.value.func)) & _BY_NAME:
            yield node.slice


def _paths(trees: Sequence[ast.Module]) -> Mapping[str, str]:
    """Options whose default is the path of a configuration -> that path's folder."""
    found = {}
    for option in options_of(trees):
        texts = _texts(option.given["default"]) if "default" in option.given else []
        if texts and texts[-1].endswith(CONFIGURATIONS):
            found[option.typed] = Path(*texts).parent.as_posix()
    return found


def _configured(words: Sequence[str], name: str, folder: Path, paths: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The command with another configuration: one that names the class."""
    whole = re.compile(rf"\b{re.escape(name)}\b")
    places = dict(paths)
    for before, word in pairwise(words):
        if before.startswith("-") and word.endswith(CONFIGURATIONS):
            places.setdefault(before, Path(word).parent.as_posix())
    for option, place in places.items():
        for file in sorted((folder / place).glob("*")):
            if file.suffix in CONFIGURATIONS and whole.search(file.read_text(encoding="utf-8", errors="replace")):
                yield with_option(words, option, file.relative_to(folder).as_posix())


def with_option(words: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    """The command with one value set: in the place of the one that it gives, else at its end."""
    script = 2 if words[0] == "-m" else 1
    if not option.startswith("-"):
        return (*words[:script], value, *words[script:]) if len(words) == script or words[script].startswith("-") else tuple(words)
    changed = list(words)
    for place, word in enumerate(words):
        if word == option and place + 1 < len(words):
            changed[place + 1] = value
            return tuple(changed)
        if word.startswith(f"{option}="):
            changed[place] = f"{option}={value}"
            return tuple(changed)
    return (*changed, option, value)
