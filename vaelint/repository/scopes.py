"""The files of a repository as trees, and what each of their scopes gives a value to. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path

from vaelint.late import dataclass
from vaelint.repository.python_files import python_files
from vaelint.source.notebook import source_of_file
from vaelint.source.words_in_files import holding

Function = ast.FunctionDef | ast.AsyncFunctionDef
Guards = tuple[tuple[ast.expr, bool], ...]
"""The tests of the `if`s around a statement, each with the outcome that leads to it."""


@dataclass(frozen=True)
class Given:
    """One statement that gives a name, or something like `args.size` or `config["size"]`, a value.

    `how`: "value"; "part" of a tuple, at `place`; "opened" by a with statement; "item" of a loop; "import", of the name at `place`;
    "changed" by `+=`, or by a loop that fills it; "filled" by a method that is called for its effect, as `names.append("a")`; "definition".
    `earlier` is what a container was before.
    """

    how: str
    line: int
    node: ast.AST
    guards: Guards = ()
    place: tuple[int, ...] = ()
    earlier: Given | None = None

    @property
    def holds_values(self) -> bool:
        """Whether it is a list, a dict or a set that is written out, or one that was filled since."""
        if self.how in ("filled", "changed") and isinstance(self.node, ast.Call):
            return True
        if isinstance(self.node, ast.Call):
            return self.how == "value" and isinstance(self.node.func, ast.Name) and self.node.func.id in ("list", "dict", "set")
        return self.how == "value" and isinstance(self.node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)

    def may_be(self, filled: Given) -> bool:
        """Whether a container is another one once it is filled: not by a loop that sets items beside those that are written out."""
        sets_items = isinstance(filled.node, ast.Call) and getattr(filled.node.func, "attr", "") == "__setitem__"
        bare = not any(getattr(self.node, part, ()) for part in ("elts", "keys", "args", "keywords", "generators"))
        return self.holds_values and (bare or not sets_items or filled.how == "filled")


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: its file, the functions and classes around it from the outside in, and its line.

    Without a line it is the end of the file.
    """

    file: File
    chain: tuple[ast.AST, ...] = ()
    line: int = sys.maxsize

    def at(self, line: int, depth: int | None = None) -> Scope:
        """The same scope, or an outer one, at another line."""
        return Scope(self.file, self.chain if depth is None else self.chain[:depth], line)


@dataclass(frozen=True)
class Site:
    """One call, with what stands around it."""

    call: ast.Call
    scope: Scope
    guards: Guards


class File:
    """One Python file as a tree."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        self._given: dict[int, dict[str, list[Given]]] = {}

    def given(self, owner: ast.AST | None = None) -> dict[str, list[Given]]:
        """What the statements of a function, of a class or of the file's top level give a value to, in order; nested functions apart."""
        node = owner if owner is not None else self.tree
        if id(node) not in self._given:
            found: dict[str, list[Given]] = {}
            for name, given in _givens(getattr(node, "body", []), ()):
                last = found[name][-1] if name in found else None
                if isinstance(given.node, ast.Call) and given.how in ("filled", "changed") and not (last and last.may_be(given)):
                    continue
                found.setdefault(name, []).append(replace(given, earlier=last) if given.holds_values else given)
            self._given[id(node)] = found
        return self._given[id(node)]

    @cached_property
    def filled_by_loops(self) -> set[str]:
        """The lists, dicts and sets of the top level that a loop fills."""
        return {name for name, all_ in self.given().items() if any(g.how == "changed" and isinstance(g.node, ast.Call) for g in all_)}

    @cached_property
    def calls(self) -> list[Site]:
        """Every call in the file."""
        return list(_sites(self, self.tree, (), ()))

    @cached_property
    def renamed(self) -> dict[str, str]:
        """What the file imports under another name: `Model` of `from models import VAE as Model` is `VAE`."""
        imports = (n for n in ast.walk(self.tree) if isinstance(n, ast.ImportFrom))
        return {alias.asname: alias.name for n in imports for alias in n.names if alias.asname and alias.asname != alias.name}

    @cached_property
    def definitions(self) -> dict[str, ast.AST]:
        """The functions and classes of the top level, by name."""
        found = {n.name: n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef | Function) and n.col_offset == 0}
        return dict(found)


def _givens(body: list[ast.stmt], guards: Guards) -> Iterator[tuple[str, Given]]:
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _targets(target, node.value, node.lineno, guards)
                if isinstance(target, ast.Subscript):
                    yield _key(target.value), Given("filled", node.lineno, _set_item(target, node.value), guards)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _targets(node.target, node.value, node.lineno, guards)
        elif isinstance(node, ast.AugAssign):
            yield _key(node.target), Given("changed", node.lineno, node, guards)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            yield _key(node.value.func.value), Given("filled", node.lineno, node.value, guards)
        elif isinstance(node, Function | ast.ClassDef):
            yield node.name, Given("definition", node.lineno, node, guards)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for i, alias in enumerate(node.names):
                whole = isinstance(node, ast.Import) and alias.asname is None
                name = alias.asname or (alias.name.partition(".")[0] if whole else alias.name)
                yield name, Given("import", node.lineno, node, guards, (i,))
        elif isinstance(node, ast.If):
            yield from _givens(node.body, (*guards, (node.test, True)))
            yield from _givens(node.orelse, (*guards, (node.test, False)))
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if isinstance(item.optional_vars, ast.Name):
                    yield item.optional_vars.id, Given("opened", node.lineno, item.context_expr, guards)
            yield from _givens(node.body, guards)
        elif isinstance(node, ast.For | ast.AsyncFor):
            for part in ast.walk(node.target):
                if isinstance(part, ast.Name):
                    yield part.id, Given("item", node.lineno, node.iter, guards)
            yield from _repeated(_givens(node.body + node.orelse, guards))
        elif isinstance(node, ast.While):
            yield from _repeated(_givens(node.body + node.orelse, guards))
        elif isinstance(node, ast.Try):
            yield from _givens(node.body + node.orelse + node.finalbody, guards)


def _repeated(found: Iterator[tuple[str, Given]]) -> Iterator[tuple[str, Given]]:
    """The same in a loop: how often it fills a container is not known."""
    for name, given in found:
        yield name, replace(given, how="changed") if given.how == "filled" else given


def _targets(target: ast.expr, value: ast.expr, line: int, guards: Guards, place: tuple[int, ...] = ()) -> Iterator[tuple[str, Given]]:
    if isinstance(target, ast.Tuple | ast.List):
        for i, part in enumerate(target.elts):
            yield from _targets(part, value, line, guards, (*place, i))
    else:
        yield _key(target), Given("part" if place else "value", line, value, guards, place)


def _set_item(target: ast.Subscript, value: ast.expr) -> ast.Call:
    """`x[key] = value` as the call that it is."""
    return ast.Call(ast.Attribute(target.value, "__setitem__", ast.Load()), [target.slice, value], [], lineno=target.lineno)


def _key(target: ast.expr) -> str:
    return target.id if isinstance(target, ast.Name) else ast.unparse(target)


def _sites(file: File, node: ast.AST, chain: tuple[ast.AST, ...], guards: Guards) -> Iterator[Site]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield Site(child, Scope(file, chain, child.lineno), guards)
        if isinstance(node, ast.If) and child is not node.test:
            yield from _sites(file, child, chain, (*guards, (node.test, child in node.body)))
        elif isinstance(child, Function | ast.ClassDef):
            yield from _sites(file, child, (*chain, child), guards)
        else:
            yield from _sites(file, child, chain, guards)


@dataclass
class _Search:
    """How far the files were searched for some words, and those that hold them."""

    files: list[File] = field(default_factory=list)
    searched: int = 0


class Repository:
    """The Python files below a folder, each parsed when it is first asked for."""

    def __init__(self, root: Path, first: Path | None = None) -> None:
        self.root = root
        self._first = [first.resolve()] if first is not None else []
        self._files: dict[Path, File | None] = {}
        self._held: dict[tuple[str, ...], _Search] = {}

    @cached_property
    def paths(self) -> list[Path]:
        """The files, `first` before all others, then the nearest to the root."""
        return list(dict.fromkeys((*self._first, *(p.resolve() for p in python_files(self.root, tests=True, notebooks=True)))))

    def file(self, path: Path) -> File | None:
        """The file as a tree; None where it is not Python."""
        path = path.resolve()
        if path not in self._files:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._files[path] = File(path, ast.parse(source_of_file(path)))
            except (OSError, SyntaxError, ValueError, RecursionError):
                self._files[path] = None
        return self._files[path]

    def holding(self, *words: str) -> Iterator[File]:
        """The files whose text holds all the words, the first file first. No file is searched twice for the same words."""
        found = self._held.setdefault(words, _Search())
        sought, at = [w.encode() for w in words], 0
        while at < len(found.files) or found.searched < len(self.paths):
            if at < len(found.files):
                yield found.files[at]
                at += 1
                continue
            path = self.paths[found.searched]
            found.searched += 1
            try:
                held = holding(path, *sought) is not None
            except OSError:
                continue
            if held and (file := self.file(path)) is not None:
                found.files.append(file)

    def imported(self, file: File, module: str, level: int = 0) -> File | None:
        """The repository's file that `import module` in `file` means; None for what is installed, or not to be found."""
        folder = file.path.parent
        if level:
            for _ in range(level - 1):
                folder = folder.parent
            bases = [folder]
        else:
            bases = [p for p in (folder, *folder.parents) if p == self.root or p.is_relative_to(self.root)] or [folder]
            bases += [self.root / "src"]
        for base in bases:
            path = base.joinpath(*module.split(".")) if module else base
            for there in (path.with_suffix(".py") if module else path, path / "__init__.py"):
                if there.is_file():
                    return self.file(there)
        return None
