"""The commands with which a repository trains: scripts that start one, with the arguments that its own texts give them.

Imports no torch.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vaelint.config.closure import imported_by
from vaelint.discover.argparse_options import chosen_ways, compared_options, filled_options
from vaelint.discover.guessed_options import guessed_ways, likest, unset_numbers, unset_options
from vaelint.late import dataclass
from vaelint.repository.python_files import python_files
from vaelint.source.notebook import source_of_file

_TRAINS = frozenset({"backward", "fit", "fit_generator", "train_on_batch", "apply_gradients", "manual_backward", "minimize"})
_FITS = frozenset({"fit", "fit_generator"})
_LIBRARIES = {"pyro": "step", "transformers": "train", "scvi": "train"}
_GRAPHS = frozenset({"placeholder", "Session", "InteractiveSession", "variable_scope"})
TORCH = frozenset({"torch", "pytorch_lightning", "lightning", "accelerate", "ignite", "fastai", "keras", "tensorflow", *_LIBRARIES})
"""Packages with which networks are trained that can be looked at."""

_TEXTS = ("README*", "readme*", "Makefile", "makefile", "*.sh", "*/*.sh", "docs/*.md", "*.md")
_COMMAND = re.compile(r"(?:^|[\s;&`$/])(?:(?:python3?|vaelint run)\s+|\./(?=[\w./-]+\.py\b))(?P<words>[^\n`|;&#]+)")
_NO_VALUE = re.compile(r"[<>\[\]{}*]|\.\.\.|\$")
_SAYS = re.compile(r"\s(-h|--help|--version)\b")
_TO_FILE = re.compile(r"\s[12]?>>?\s*\S+")
_BARE = re.compile(r"(?:\.{0,2}/)?(?:[\w-]+/)*\w[\w-]*")  # a script whose name has no ending
_MOST = 8


@dataclass(frozen=True)
class Entry:
    """A way to start a training, from the folder of the repository.

    `lacks`: options that it cannot do without and that no text gives. `others`: further commands for the same script, in the order in
    which they are worth a try: those that texts give, and the script by itself. `told`: those that texts give.
    """

    file: Path
    words: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()
    told: tuple[tuple[str, ...], ...] = ()

    @property
    def command(self) -> str:
        """As it is typed."""
        left = [word for option in self.lacks for word in ((option, "VALUE") if option.startswith("-") else ("VALUE",))]
        return shlex.join([*self.words, *left])


def entries(root: Path, folder: Path) -> list[Entry]:
    """The entries at or below `root`, as they are started in `folder`; those that no text names come last. At most eight."""
    told = _told(folder)
    found = []
    for file in python_files(root, notebooks=True, scripts=True):
        tree = tree_of(file)
        if tree is None or not trains(file, tree):
            continue
        imported = [t for t in map(tree_of, sorted(imported_by(file) - {file.resolve()})) if t is not None]
        if not _starts(tree, imported):
            continue
        ways = said = list(told.get(file.resolve(), ()))
        bare = _by_itself(file, folder, tree)
        reach = [t for t in map(tree_of, sorted(imported_by(file))) if t is not None]
        filled, lacks = filled_options(reach)
        choices = chosen_ways(reach)
        filled = (*filled, *choices[0])
        alone = [(*bare, *filled), bare, *((*bare, *filled[: len(filled) - len(choices[0])], *c) for c in choices[1:])]
        alone.append((*bare, *filled, *compared_options(reach)))
        if unset := unset_options(reach, folder, file.name):
            alone.append((*bare, *filled, *unset))
        if numbers := unset_numbers(reach):
            alone.append((*bare, *filled, *unset, *numbers))
        if "LightningCLI" in _names(tree):
            alone = [*((*bare, "fit", "--config", c) for c in likest(file.name, folder)), (*bare, "fit")]
        if lacks:
            alone = [(*bare, *words) for words in guessed_ways(reach, folder, file.name)]
        ways = [*ways[:1], *alone, *ways[1:]]
        ways = [w for w in dict.fromkeys(ways) if len(w) > len(bare) or not (lacks or filled)]
        found.append(Entry(file, ways[0] if ways else bare, () if ways else lacks, tuple(ways[1:]), tuple(said)))
    return sorted(found, key=lambda e: e.file.resolve() not in told)[:_MOST]


def _by_itself(file: Path, folder: Path, tree: ast.Module) -> tuple[str, ...]:
    """The words that start a file: its path, or `-m` and its name where it imports relatively, which needs the package around it."""
    path = Path(os.path.relpath(file, folder))
    relative = any(isinstance(n, ast.ImportFrom) and n.level for n in tree.body)
    if relative and path.suffix == ".py" and all(part.isidentifier() for part in path.with_suffix("").parts):
        return ("-m", ".".join(path.with_suffix("").parts))
    return (path.as_posix(),)


def tree_of(file: Path) -> ast.Module | None:
    """What a file says; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source_of_file(file))
    except (OSError, SyntaxError, ValueError):
        return None  # whoever looks for classes in it says so


def _starts(tree: ast.Module, imported: Sequence[ast.Module] = ()) -> bool:
    """Whether running the file does something: a block for `__main__`, or a loop or call at its top level.

    `imported`: what the files say that it imports, whose objects may train in a method of theirs.
    """
    trees = (tree, *imported)
    training = _training_functions(trees)
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.For | ast.While | ast.With) and (_calls(node) & _TRAINS or _calls_own(node, tree)):
            return True
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _calls(node.value) & _FITS:
            return True
        if _names(node) & training or _calls_trainer(node, tree, trees):
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Name) or (isinstance(called, ast.Attribute) and called.attr in _TRAINS):
                return True
    return False


def _calls_own(node: ast.AST, tree: ast.Module) -> bool:
    """Whether a piece of code calls functions that the file defines or imports by name."""
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    own |= {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    return any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in own for n in ast.walk(node))


def _training_functions(trees: Sequence[ast.Module]) -> set[str]:
    """The functions of some files that take gradients, also by another one of them."""
    called = {n.name: _calls(n) | _names(n) for tree in trees for n in tree.body if isinstance(n, ast.FunctionDef)}
    return _leading_to({name for name, calls in called.items() if calls & _TRAINS}, called)


def _calls_trainer(node: ast.AST, tree: ast.Module, trees: Sequence[ast.Module]) -> bool:
    """Whether a piece of code has an object of the repository train: `model = VAE()`, `model.learn(x)`, which calls `backward`."""
    classes = {c.name: c for t in trees for c in t.body if isinstance(c, ast.ClassDef)}
    methods = {name: m for name, c in classes.items() if (m := _training_methods(c, classes))}
    if not methods:
        return False
    ran = [n for top in tree.body if not isinstance(top, ast.FunctionDef | ast.ClassDef) for n in ast.walk(top)]
    made = [n for n in ran if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
    objects = {t.id: methods[name] for n in made for name in _names(n) & set(methods) for t in n.targets if isinstance(t, ast.Name)}
    called = [n.func for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    if any(isinstance(f.value, ast.Name) and f.attr in objects.get(f.value.id, ()) for f in called):
        return True
    return any(f.attr in methods.get(name, ()) for f in called if isinstance(f.value, ast.Call) for name in _names(f.value))


def _training_methods(owner: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> set[str]:
    """The methods of a class that take gradients, its own and those that it inherits, also by another one of its methods."""
    line, known = [owner], {owner.name}
    for c in line:
        bases = [b.attr if isinstance(b, ast.Attribute) else b.id for b in c.bases if isinstance(b, ast.Attribute | ast.Name)]
        line += [classes[b] for b in bases if b in classes and b not in known]
        known |= set(bases)
    calls = {n.name: _calls(n) for c in reversed(line) for n in c.body if isinstance(n, ast.FunctionDef)}
    return _leading_to({name for name, called in calls.items() if called & _TRAINS}, calls)


def _leading_to(found: set[str], calls: Mapping[str, set[str]]) -> set[str]:
    """`found`, and what calls one of these, or calls what does."""
    while more := {name for name, called in calls.items() if name not in found and called & found}:
        found |= more
    return found


def trains(file: Path, tree: ast.Module | None = None) -> bool:
    """Whether the file, or one that it imports, takes gradients, with torch."""
    tree = tree or tree_of(file)
    if tree is None:
        return False
    trees = [tree, *(t for other in sorted(imported_by(file) - {file.resolve()}) if (t := tree_of(other)) is not None)]
    if "LightningCLI" in _names(tree):
        return True  # it finds the module and the data by its command line
    if any(map(is_graph, trees)):
        return False
    takes = bool(_calls(tree) & _of_libraries(tree)) or any(_calls(t) & _TRAINS for t in trees)
    return takes and any(imports_of(t) & TORCH for t in trees)


def is_graph(tree: ast.Module) -> bool:
    """Whether a file builds a graph of TensorFlow 1, which runs nothing of torch."""
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} if "tensorflow" in imports_of(tree) else set[str]()
    return len(used & _GRAPHS) > 1


def imports_of(tree: ast.Module) -> set[str]:
    """The packages that a file imports."""
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    return {name.partition(".")[0] for name in named}


def _of_libraries(tree: ast.Module) -> set[str]:
    """The methods that train in the libraries which a file imports."""
    return {_LIBRARIES[name] for name in imports_of(tree) if name in _LIBRARIES}


def _calls(tree: ast.AST) -> set[str]:
    return {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}


def _names(tree: ast.AST) -> set[str]:
    """The functions and classes that a file calls by their own name."""
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def _told(folder: Path) -> dict[Path, list[tuple[str, ...]]]:
    """The scripts that texts of the repository start, each with the commands that can be taken as they are."""
    found: dict[Path, list[tuple[str, ...]]] = {}
    said = [_from(folder, text, words) for pattern in _TEXTS for text in sorted(folder.glob(pattern)) for words in _commands(text)]
    files = [Path(os.path.relpath(f, folder)).as_posix() for f in python_files(folder, notebooks=True)] if said else []
    for words in said:
        below = [f for f in files if f.endswith(f"/{words[0]}")]
        if _file_of(words, folder) is None and len(below) == 1:  # after `cd src`, or "in the folder src"
            words = [below[0], *words[1:]]
        file = _file_of(words, folder)
        if file is not None and tuple(words) not in found.setdefault(file, []):
            found[file].append(tuple(words))
    return found


def _from(folder: Path, text: Path, words: Sequence[str]) -> Sequence[str]:
    """The words as they are typed in `folder`, where a text of another folder names the script from its own."""
    file = text.parent / words[0]
    if text.parent == folder or (folder / words[0]).is_file() or not file.is_file():
        return words
    return [Path(os.path.relpath(file, folder)).as_posix(), *words[1:]]


def _commands(file: Path) -> Iterator[Sequence[str]]:
    try:
        yield from commands_in(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return


def commands_in(text: str) -> Iterator[Sequence[str]]:
    """The words after `python` of the commands that a text holds, those that can be taken as they are."""
    for match in _COMMAND.finditer(text.replace("\\\n", " ")):
        said = _TO_FILE.sub("", match["words"])
        if _NO_VALUE.search(said) or _SAYS.search(said):
            continue
        try:
            words = shlex.split(said)
        except ValueError:
            continue
        if words and (words[0].endswith((".py", ".ipynb")) or _BARE.fullmatch(words[0]) or (words[0] == "-m" and len(words) > 1)):
            yield words


def _file_of(words: Sequence[str], folder: Path) -> Path | None:
    if words[0] != "-m":
        return (folder / words[0]).resolve() if (folder / words[0]).is_file() else None
    base = folder / words[1].replace(".", "/")
    return next((f.resolve() for f in (base.with_suffix(".py"), base / "__main__.py") if f.is_file()), None)
