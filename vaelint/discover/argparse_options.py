"""The command-line options of a script, as argparse is told of them: which it cannot do without, and values that its code knows.

Imports no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from vaelint.late import dataclass

_WAYS = 4
_VALUELESS = ("store_true", "store_false", "store_const", "append_const", "count")


@dataclass(frozen=True)
class Option:
    """One `add_argument`. `names`: as they are written; `given`: its keywords."""

    names: tuple[str, ...]
    given: dict[str, ast.expr]

    @property
    def positional(self) -> bool:
        """Whether it has no dashes."""
        return not self.names[0].startswith("-")

    @property
    def typed(self) -> str:
        """What is typed: the longest name."""
        return self.names[0] if self.positional else max(self.names, key=len)

    @property
    def dest(self) -> str:
        """What its value is called in the code."""
        told = self.value("dest")
        long = next((n for n in self.names if n.startswith("--")), self.names[0])
        return told if isinstance(told, str) else long.lstrip("-").replace("-", "_")

    @property
    def required(self) -> bool:
        """Whether argparse ends the script where it is not given."""
        if self.positional:
            return self.value("nargs") not in ("?", "*")
        return self.value("required") is True

    def value(self, keyword: str) -> object:
        """A keyword that is written out as a plain value, a list of such included; None for any other."""
        node = self.given.get(keyword)
        try:
            return ast.literal_eval(node) if node is not None else None
        except ValueError:
            return None


def options_of(trees: Sequence[ast.Module]) -> Iterator[Option]:
    """The options that some files declare."""
    for tree in trees:
        for node in ast.walk(tree):
            if (option := _declared(node)) is not None:
                yield option


def _declared(node: ast.AST) -> Option | None:
    """The option of a call of `add_argument`; ConfigArgParse calls it `add` as well."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("add_argument", "add", "add_arg")):
        return None
    names = tuple(a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
    if node.func.attr != "add_argument" and not all(n.startswith("-") for n in names):
        return None
    return Option(names, {k.arg: k.value for k in node.keywords if k.arg}) if names else None


def chosen_ways(trees: Sequence[ast.Module]) -> list[tuple[str, ...]]:
    """Ways to give one option of each group of which argparse wants exactly one, at most four; one empty way where there is no group."""
    groups = [[_given(option) for option in group] for tree in trees for group in _groups(tree)]
    return [tuple(word for part in way for word in part) for way in islice(product(*groups), _WAYS)]


def _groups(tree: ast.Module) -> Iterator[list[Option]]:
    """The options of each `add_mutually_exclusive_group(required=True)`, those whose value is known or that take none."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name)):
            continue
        made, name = node.value, node.targets[0].id
        wanted = any(k.arg == "required" and isinstance(k.value, ast.Constant) and k.value.value is True for k in made.keywords)
        if not (isinstance(made.func, ast.Attribute) and made.func.attr == "add_mutually_exclusive_group" and wanted):
            continue
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        own = [c for c in calls if isinstance(c.func, ast.Attribute) and isinstance(c.func.value, ast.Name) and c.func.value.id == name]
        options = [option for call in own if (option := _declared(call)) is not None and (not _takes(option) or known_value(option))]
        if options:
            yield options


def _takes(option: Option) -> bool:
    """Whether a value is typed behind it."""
    return option.value("action") not in _VALUELESS


def _given(option: Option) -> tuple[str, ...]:
    return (option.typed, str(known_value(option))) if _takes(option) else (option.typed,)


def filled_options(trees: Sequence[ast.Module], value: Callable[[Option], object] | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has to be given, with a value for it: of its choices the first, a default that argparse never uses, a small number for whole
    ones, or what `value` says. And what has to be given and is of a kind that nothing tells a value of."""
    filled: list[str] = []
    lacks: list[str] = []
    for option in {o.typed: o for o in options_of(trees)}.values():  # several files may declare the same
        if not option.required:
            continue
        known = known_value(option) if value is None else value(option)
        if known is None:
            lacks.append(option.typed)
        else:
            filled += [str(known)] if option.positional else [option.typed, str(known)]
    return tuple(filled), tuple(dict.fromkeys(lacks))


def known_value(option: Option) -> object:
    """A value that argparse is told of for an option that has to be given; None where it is told of none."""
    known = option.value("default")
    choices = option.value("choices")
    known = choices[0] if known is None and isinstance(choices, list | tuple) and choices else known
    kind = option.given.get("type")
    return 2 if known is None and isinstance(kind, ast.Name) and kind.id == "int" else known  # a count, or a size


def compared_options(trees: Sequence[ast.Module]) -> tuple[str, ...]:
    """Options without a value of their own that the code compares with words, each with the first of these."""
    words: dict[str, str] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.In)):
                continue
            if isinstance(value := _as_written(node.left), ast.Attribute):
                texts = [n.value for n in ast.walk(node.comparators[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                if texts and texts[0]:
                    words.setdefault(value.attr, texts[0])
    found: list[str] = []
    for option in options_of(trees):
        flag = isinstance(option.value("action"), str)
        if not (option.positional or option.required or flag) and option.value("default") is None and option.dest in words:
            found += [option.typed, words[option.dest]]
    return tuple(found)


def _as_written(value: ast.expr) -> ast.expr:
    """`args.backend` of `args.backend.lower()`."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ("lower", "upper", "strip"):
        value = value.func.value
    return value
