"""What is known of files that are not there, as far as the script's use of them and its errors tell. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from vaelint.late import dataclass

ROWS = 300
_SPLIT = re.compile(r"(?<![a-z])(train(?:ing)?|test|valid(?:ation)?|val|dev|eval)(?![a-z])|\d+", re.IGNORECASE)
_LABEL = re.compile(r"(?:^|[_\W])(?:label|y|target|class|cond|categor|batch_?id|cluster)", re.IGNORECASE)
_NUMBERS = re.compile(r"(?:^|[_\W])(?:token|ids?|idx|index|indices)(?![a-z])", re.IGNORECASE)
_FIRST = (37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)
_OTHER = (163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281, 283, 293, 307)
"""Sizes that no network has of itself: an error that speaks of one speaks of made-up data."""


@dataclass
class Node:
    """A part of what a file holds.

    `kind`: "" where nothing is known; "array", "mapping", "items" (some things side by side), "rows" (one thing for each row),
    "table", "number", "word", "state" (the weights of a network). `axes`: of an array, the names of its sizes, rows left out.
    `whole`: whether an array has no axis of rows, being one of them.
    """

    name: str
    kind: str = ""
    library: str = "numpy"
    axes: list[str] = field(default_factory=list)
    values: str = "unit"  # from 0 to 1; or "numbers", whole ones below `below`
    below: int = 2
    real: str = "float32"
    whole: bool = False
    parts: dict[str, Node] = field(default_factory=dict)

    def part(self, key: str, *, whole: bool = False) -> Node:
        """A part by its key, made if it is new."""
        if key not in self.parts:
            self.parts[key] = Node(self.name if key == "[]" else f"{self.name}.{key}", library=self.library, whole=self.whole or whole)
        return self.parts[key]

    def walk(self) -> Iterator[Node]:
        """The node, and all below it."""
        yield self
        for part in self.parts.values():
            yield from part.walk()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.__dict__, "parts": {k: p.to_json() for k, p in self.parts.items()}}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Node:
        """The inverse of `to_json`."""
        return Node(**{**data, "parts": {k: Node.from_json(p) for k, p in data["parts"].items()}})


@dataclass
class Text:
    """What is known of a text: into how many pieces its lines fall and by what; whether these are numbers, a word first or none."""

    pieces: int = 0
    between: str = " "
    numbers: bool = False
    words: int = 0  # how many of the pieces come first and are words


_OF_A_RUN = ("files", "texts", "used", "other", "images", "tables", "public", "folders", "last_text", "learned", "code")


class Wishes:
    """All that is known. `other`: sizes that nothing tells are others than at first."""

    def __init__(self, *, other: bool = False) -> None:
        self.files: dict[str, Node] = {}
        self.sizes: dict[str, int] = {}
        self.told: list[str] = []  # sizes that the code needs
        self.columns: list[str] = []  # of tables: names that were asked for
        self.words: list[str] = []  # columns that hold words
        self.more = 0  # how many further columns there are than at first
        self.texts: dict[str, Text] = {}
        self.pieces = 0  # into how many pieces names of images fall
        self.variables: dict[str, str] = {}  # of the environment, that are not set
        self.nested = False  # whether folders of files hold folders, one for each class
        self.rows = ROWS
        self.passed: list[list[Any]] = []  # assertions about made-up data that failed: their file and line
        self.other = other
        self.used: list[str] = []  # files that were made up in this run
        self.restarts = 0
        self.learned = False  # whether the last error told anything
        self.images = self.tables = self.public = self.folders = False  # whether any were made up in this run
        self.last_text = ""  # the text that was made up last
        self.code: Callable[[], str] = str  # the text of the script's files

    def node(self, path: str) -> Node:
        """What is known of a file."""
        if path not in self.files:
            self.files[path] = Node(_stem(Path(path).stem))
        return self.files[path]

    def size(self, name: str) -> int:
        """A size by its name: the one that the code needs, or one that is told from all others."""
        if name not in self.sizes:
            taken = set(self.sizes.values())
            self.sizes[name] = next((n for n in _FIRST if n not in taken), 37)
        value = self.sizes[name]
        return value if name in self.told or not self.other or value not in _FIRST else _OTHER[_FIRST.index(value)]

    def tell(self, name: str, value: int) -> None:
        """Notes that the code needs a size."""
        self.sizes[name] = value
        if name not in self.told:
            self.told.append(name)

    def names(self, key: str) -> bool:
        """Whether the script's files have a name written in them."""
        code = self.code()
        return f'"{key}"' in code or f"'{key}'" in code

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {k: v for k, v in self.__dict__.items() if k not in _OF_A_RUN}
        files = {k: n.to_json() for k, n in self.files.items()}
        return {**plain, "files": files, "texts": {k: dict(t.__dict__) for k, t in self.texts.items()}}

    @staticmethod
    def from_json(data: dict[str, Any], *, other: bool = False) -> Wishes:
        """The inverse of `to_json`."""
        made = Wishes(other=other)
        made.__dict__.update({k: v for k, v in data.items() if k not in ("files", "texts")})
        made.files = {k: Node.from_json(n) for k, n in data["files"].items()}
        made.texts = {k: Text(**t) for k, t in data["texts"].items()}
        return made


def _stem(name: str) -> str:
    """A name without what tells the parts of one data set apart: `x_train` and `x_test` have the same sizes."""
    return re.sub(r"[\W_]+", "_", _SPLIT.sub("", name)).strip("_").lower() or "data"


def become_array(node: Node, key: str = "", library: str = "", axes: int = 1) -> None:
    """Makes a node an array: of one axis beside the rows, or of labels where its key says so."""
    node.kind, node.library = "array", library or node.library
    name = key or node.name
    if _LABEL.search(name):
        node.values, axes = "numbers", 0
    elif _NUMBERS.search(name):
        node.values, node.below = "numbers", 10
    with_rank(node, axes)


def with_rank(node: Node, axes: int) -> None:
    """Gives an array so many axes beside the rows."""
    node.axes = [f"{node_stem(node)}|{i}" for i in range(axes)]


def node_stem(node: Node) -> str:
    """The name under which the sizes of an array are known."""
    return ".".join(_stem(part) for part in node.name.split("."))
