"""The commands with which a repository trains: scripts that start one, with the arguments that its own texts give them.

Imports no torch.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelint.config.closure import imported_by
from vaelint.repository.python_files import python_files
from vaelint.source.notebook import source_of_file

_TRAINS = frozenset({"backward", "fit", "manual_backward", "minimize"})
_LIBRARIES = {"pyro": "step", "transformers": "train", "scvi": "train"}
_TEXTS = ("README*", "readme*", "Makefile", "makefile", "*.sh", "scripts/*.sh", "docs/*.md", "*.md")
_COMMAND = re.compile(r"(?:^|[\s;&`$/])(?:python3?|vaelint run)\s+(?P<words>[^\n`|;&><#]+)")
_NO_VALUE = re.compile(r"[<>\[\]{}*]|\.\.\.|\$")
_MOST = 8


@dataclass(frozen=True)
class Entry:
    """A way to start a training, from the folder of the repository. `lacks`: options that it cannot do without and that no text gives."""

    file: Path
    words: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """As it is typed."""
        left = [word for option in self.lacks for word in ((option, "VALUE") if option.startswith("-") else ("VALUE",))]
        return shlex.join([*self.words, *left])


def entries(root: Path, folder: Path) -> list[Entry]:
    """The entries at or below `root`, as they are started in `folder`; those that no text names come last. At most eight."""
    told = dict(_told(folder))
    found = []
    for file in python_files(root, notebooks=True):
        tree = _tree(file)
        if tree is None or not _starts(tree) or not trains(file, tree):
            continue
        words = told.get(file.resolve(), ())
        bare = (Path(os.path.relpath(file, folder)).as_posix(),)
        found.append(Entry(file, words or bare, () if len(words) > 1 else _required(tree)))
    return sorted(found, key=lambda e: e.file.resolve() not in told)[:_MOST]


def _tree(file: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return None  # whoever looks for classes in it says so


def _starts(tree: ast.Module) -> bool:
    """Whether running the file does something: a block for `__main__`, or a loop or call at its top level."""
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return True
        if isinstance(node, ast.For | ast.While | ast.With) and _calls(node) & _TRAINS:
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Name) or (isinstance(called, ast.Attribute) and called.attr in _TRAINS):
                return True
    return False


def trains(file: Path, tree: ast.Module | None = None) -> bool:
    """Whether the file, or one that it imports, takes gradients."""
    tree = tree or _tree(file)
    if tree is None:
        return False
    if _calls(tree) & (_TRAINS | _of_libraries(tree)):
        return True
    others = (_tree(other) for other in sorted(imported_by(file) - {file.resolve()}))
    return any(other is not None and _calls(other) & _TRAINS for other in others)


def _of_libraries(tree: ast.Module) -> set[str]:
    """The methods that train in the libraries which a file imports."""
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    return {_LIBRARIES[top] for name in named if (top := name.partition(".")[0]) in _LIBRARIES}


def _calls(tree: ast.AST) -> set[str]:
    return {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}


def _required(tree: ast.Module) -> tuple[str, ...]:
    """Options and arguments that argparse does not do without."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument" and node.args):
            continue
        names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        given = {k.arg: k.value for k in node.keywords}
        required = given.get("required")
        many = given.get("nargs")
        optional = isinstance(many, ast.Constant) and many.value in ("?", "*")
        if not names or (not names[0].startswith("-") and not optional):
            found += names[:1]
        elif isinstance(required, ast.Constant) and required.value is True:
            found.append(max(names, key=len))
    return tuple(found)


def _told(folder: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The scripts that texts of the repository start, each with the first command that can be taken as it is."""
    seen: set[Path] = set()
    for pattern in _TEXTS:
        for text in sorted(folder.glob(pattern)):
            for words in _commands(text):
                file = _file_of(words, folder)
                if file is not None and file not in seen:
                    seen.add(file)
                    yield file, tuple(words)


def _commands(text: Path) -> Iterator[Sequence[str]]:
    try:
        yield from commands_in(text.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return


def commands_in(text: str) -> Iterator[Sequence[str]]:
    """The words after `python` of the commands that a text holds, those that can be taken as they are."""
    for match in _COMMAND.finditer(text.replace("\\\n", " ")):
        if _NO_VALUE.search(match["words"]):
            continue
        try:
            words = shlex.split(match["words"])
        except ValueError:
            continue
        if words and (words[0].endswith((".py", ".ipynb")) or (words[0] == "-m" and len(words) > 1)):
            yield words


def _file_of(words: Sequence[str], folder: Path) -> Path | None:
    if words[0] != "-m":
        return (folder / words[0]).resolve() if (folder / words[0]).is_file() else None
    base = folder / words[1].replace(".", "/")
    return next((f.resolve() for f in (base.with_suffix(".py"), base / "__main__.py") if f.is_file()), None)
