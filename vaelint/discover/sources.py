"""What the files of a repository say of trainings, and which of them they import. Runs nothing, imports no torch."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaelint.config.closure import Imports
from vaelint.late import dataclass
from vaelint.source.notebook import source_of_file

TRAINS = frozenset({"backward", "fit", "fit_generator", "train_on_batch", "apply_gradients", "manual_backward", "minimize"})
_LIBRARIES = {"pyro": "step", "transformers": "train", "scvi": "train"}
_GRAPHS = frozenset({"placeholder", "Session", "InteractiveSession", "variable_scope"})
TORCH = frozenset({"torch", "pytorch_lightning", "lightning", "accelerate", "ignite", "fastai", "keras", "tensorflow", *_LIBRARIES})
"""Packages with which networks are trained that can be looked at."""


@dataclass(frozen=True)
class Class:
    """A class of a file: the names of its bases, and its methods with the methods that each calls."""

    bases: tuple[str, ...]
    methods: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Said:
    """What a file by itself says of trainings.

    `graph`: it builds a graph of TensorFlow 1. `takes`: it takes gradients. `torch`: it imports a package that trains networks.
    `library`: it calls what trains in a library that it imports. `finds`: it finds what it trains by its command line.
    `functions`: those at its top level, each with the functions and methods that it calls.
    """

    graph: bool
    takes: bool
    torch: bool
    library: bool
    finds: bool
    functions: Mapping[str, frozenset[str]]
    classes: Mapping[str, Class]


class Sources:
    """The files of a repository, each read once however many import it: made anew for each look, as files change."""

    def __init__(self) -> None:
        self._imports = Imports()
        self._said: dict[Path, Said | None] = {}

    def imported_by(self, file: Path) -> frozenset[Path]:
        """The files that a file reaches by imports, with itself."""
        return self._imports.of(file)

    def reaching(self, file: Path, among: Sequence[Path]) -> list[Path]:
        """Those of some files that reach a file by imports, with itself."""
        return self._imports.reaching(file, among)

    def of(self, file: Path) -> list[Said]:
        """What a file says, and what those say that it imports."""
        own = file.resolve()
        return [s for other in (own, *sorted(self.imported_by(file) - {own})) if (s := self._read(other)) is not None]

    def trains(self, file: Path) -> bool:
        """Whether the file, or one that it imports, takes gradients, with torch; those of a graph of TensorFlow 1 are not looked at."""
        own = self._read(file.resolve())
        if own is None or own.graph:
            return False
        if own.finds:
            return True
        said = [s for s in self.of(file) if not s.graph]
        return (own.library or any(s.takes for s in said)) and any(s.torch for s in said)

    def _read(self, file: Path) -> Said | None:
        if file not in self._said:
            tree = tree_of(file)
            self._said[file] = None if tree is None else _said(tree)
        return self._said[file]


def _said(tree: ast.Module) -> Said:
    called, packages, names = methods_called(tree), imports_of(tree), names_called(tree)
    return Said(
        graph="tensorflow" in packages and is_graph(tree),
        takes=bool(called & TRAINS),
        torch=bool(packages & TORCH),
        library=any(_LIBRARIES[name] in called for name in packages if name in _LIBRARIES),
        finds="LightningCLI" in names,
        functions={n.name: frozenset(methods_called(n) | names_called(n)) for n in tree.body if isinstance(n, ast.FunctionDef)},
        classes={n.name: _class(n) for n in tree.body if isinstance(n, ast.ClassDef)},
    )


def _class(node: ast.ClassDef) -> Class:
    bases = tuple(b.attr if isinstance(b, ast.Attribute) else b.id for b in node.bases if isinstance(b, ast.Attribute | ast.Name))
    return Class(bases, {n.name: frozenset(methods_called(n)) for n in node.body if isinstance(n, ast.FunctionDef)})


def tree_of(file: Path) -> ast.Module | None:
    """What a file says; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return None  # whoever looks for classes in it says so


def is_graph(tree: ast.Module) -> bool:
    """Whether a file builds a graph of TensorFlow 1, which runs nothing of torch."""
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} if "tensorflow" in imports_of(tree) else set[str]()
    return len(used & _GRAPHS) > 1


def imports_of(tree: ast.Module) -> set[str]:
    """The packages that a file imports."""
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    return {name.partition(".")[0] for name in named}


def methods_called(tree: ast.AST) -> set[str]:
    """The methods that a file calls, on whichever object."""
    return {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}


def names_called(tree: ast.AST) -> set[str]:
    """The functions and classes that a file calls by their own name."""
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
