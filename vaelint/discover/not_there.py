"""Why a repository shows no VAE: its scripts import what is not there, or build graphs of TensorFlow 1. Imports no torch."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vaelint.config.closure import Imports
from vaelint.core.paths import relative
from vaelint.discover.sources import TORCH, imports_of, is_graph, tree_of
from vaelint.observe.data.absent import NOTHING
from vaelint.repository.python_files import python_files

_FEW = 6


def why_none(place: Path) -> tuple[str, str]:
    """What is known beside that nothing was found, and what to type: of the scripts that could have trained,
    the one that imports most of the repository. Empty where nothing is.

    Args:
        place: the folder in which nothing was found.
    """
    scripts = [file for file in python_files(place) if (tree := tree_of(file)) is not None and _has_main(tree)]
    imports = Imports()
    reach = {file: sorted(imports.of(file)) for file in scripts}
    for file in sorted(scripts, key=lambda f: -len(reach[f])):
        trees = {f: t for f in reach[file] if (t := tree_of(f)) is not None}
        if not any(imports_of(t) & TORCH for t in trees.values()):
            continue
        if graph := next((f for f, t in trees.items() if is_graph(t)), None):
            return f"{_shown(graph)} builds a graph of TensorFlow 1, which is not looked at: networks of torch are, and of Keras", ""
        names = list(dict.fromkeys(name for f, t in trees.items() for name in _absent(t, f, place)))
        if names:
            listed = ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
            told = f"{_shown(file)} cannot start here: {listed} {'is' if len(names) == 1 else 'are'} not there"
            return told, f"pip install what of it is a package, add what is a file of the repository, then vaelint run {_shown(file)}"
    return "", ""


def _has_main(tree: ast.Module) -> bool:
    return any(isinstance(n, ast.If) and "__name__" in ast.unparse(n.test) for n in tree.body)


def _absent(tree: ast.Module, file: Path, place: Path) -> Iterator[str]:
    """What a file imports outside of `try` and has neither from Python, nor from what is installed, nor from its repository."""
    for node in tree.body:
        names: Sequence[str] = ()
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names | NOTHING and not _is_own(top, file, place) and not _is_installed(top):
                yield top


def _is_own(name: str, file: Path, place: Path) -> bool:
    """Whether the repository has a module of the name: beside the file, above it, or in a folder that may come onto Python's path."""
    root = place.resolve()
    above = [p for p in (file.parent, *file.parents) if p.is_relative_to(root)]
    if any((p / f"{name}.py").is_file() or (p / name).is_dir() for p in above):
        return True
    return any(path.is_dir() or path.suffix == ".py" for pattern in (name, f"{name}.py") for path in root.glob(f"**/{pattern}"))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _shown(file: Path) -> str:
    return Path(relative(str(file))).as_posix()
