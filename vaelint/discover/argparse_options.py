"""The command-line options of a script, as argparse is told of them: which it cannot do without, and values that its code knows.

Imports no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


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
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
                names = tuple(a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
                if names:
                    yield Option(names, {k.arg: k.value for k in node.keywords if k.arg})


def filled_options(trees: Sequence[ast.Module]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What has to be given, with a value for it: of its choices the first, a default that argparse never uses, a small number for whole
    ones. And what has to be given and is of a kind that nothing tells a value of."""
    filled: list[str] = []
    lacks: list[str] = []
    for option in options_of(trees):
        if not option.required:
            continue
        known = known_value(option)
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
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and isinstance(node.ops[0], ast.Eq | ast.In):
                texts = [n.value for n in ast.walk(node.comparators[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                if texts and texts[0]:
                    words.setdefault(node.left.attr, texts[0])
    found: list[str] = []
    for option in options_of(trees):
        flag = isinstance(option.value("action"), str)
        if not (option.positional or option.required or flag) and option.value("default") is None and option.dest in words:
            found += [option.typed, words[option.dest]]
    return tuple(found)
