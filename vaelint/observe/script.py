"""Runs a script, or a module, as Python runs it."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import runpy
import sys
import traceback
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vaelint.core.errors import UsageError
from vaelint.core.paths import project_of, relative
from vaelint.observe.data.absent import importing_file
from vaelint.repository.python_files import python_files
from vaelint.source.cells import needed_later
from vaelint.source.notebook import cell_of, not_run, show, source_of_file


def file_of(command: Sequence[str]) -> str:
    """The file that a command runs: `train.py`, or that of `-m package.train`. Raises UsageError if there is none."""
    if command[0] != "-m":
        if not Path(command[0]).is_file():
            raise UsageError(f"there is no file {command[0]}", "vaelint run SCRIPT [ARGS...], or vaelint run -m MODULE [ARGS...]")
        return command[0]
    name = command[1]
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ImportError as error:
        raise UsageError(f"-m {name}: {error}", "name the module as `python -m` takes it") from None
    finally:
        sys.path.pop(0)
    if spec is None or spec.origin is None:
        raise UsageError(f"-m {name}: there is no such module from here", "run it in the folder in which `python -m` finds it")
    return spec.origin


@contextlib.contextmanager
def noting_usage(said: list[str]) -> Iterator[None]:
    """While the block runs, `said` gets what argparse finds wrong with the command line."""
    original = argparse.ArgumentParser.error

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        said.append(message)
        original(self, message)

    argparse.ArgumentParser.error = error  # type: ignore[method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = original  # type: ignore[method-assign]


class _Beside(importlib.abc.MetaPathFinder):
    """Comes last: finds the repository's own packages above the script, or in another folder, as where it is installed or on PYTHONPATH."""

    def __init__(self, here: Path, home: Path, note: Callable[[str], None]) -> None:
        above = [p for p in (home, *home.parents) if p.is_relative_to(here)] or [home]
        self._places, self._note, self._here = [str(p) for p in dict.fromkeys((*above, here))], note, here

    def find_spec(
        self, name: str, path: Iterable[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A top-level module of the repository."""
        if path is not None:
            return None
        wanted_here = (
            Path(importing_file(sys._getframe(1))).resolve().is_relative_to(self._here)
        )  # not by a package that tries what there is
        for place in (*self._places, *(self._below(name) if wanted_here else ())):
            if (spec := importlib.machinery.PathFinder.find_spec(name, [place])) is not None:
                self._note(
                    f"{name} was imported from {os.path.relpath(place)}, which is not on Python's path: PYTHONPATH={os.path.relpath(place)}"
                )
                return spec
        return None

    def _below(self, name: str) -> list[str]:
        """The one folder of the repository that holds a module of this name; none where several do."""
        places = {file.parent for file in python_files(self._here) if file.stem == name}
        places |= {file.parent.parent for file in python_files(self._here) if file.name == "__init__.py" and file.parent.name == name}
        return [str(place) for place in places] if len(places) == 1 else []


def _around(script: str) -> Path:
    """The folder within which a script's own packages are looked for: its project, where it is started below the top of that."""
    here, top = Path.cwd().resolve(), project_of(Path(script).resolve())
    return top if here.is_relative_to(top) else here


def run_script(command: Sequence[str], note: Callable[[str], None] = lambda what: None) -> None:
    """Runs `script.py args` or `-m module args` as `__main__`. Whatever it raises passes through; `note` is told what was helped."""
    sys.dont_write_bytecode = True
    if command[0] == "-m":
        sys.argv = [file_of(command), *command[2:]]
        sys.path.insert(0, str(Path.cwd()))
        sys.meta_path.append(_Beside(_around(sys.argv[0]), Path(sys.argv[0]).resolve().parent, note))
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    path = command[0]
    sys.argv = list(command)
    sys.path.insert(0, str(Path(path).resolve().parent))
    sys.meta_path.append(_Beside(_around(path), Path(path).resolve().parent, note))
    main = types.ModuleType("__main__")
    whole = str(Path(path).absolute())  # as Python names it, wherever the script goes from there
    main.__dict__.update(__file__=whole, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    if path.endswith(".ipynb") and (left := not_run(path)):
        note(f"not run, as they are not Python: {'; '.join(left[:3])}{f' and {len(left) - 3} more' if len(left) > 3 else ''}")
    show(whole)  # the lines of a notebook's cells are those of its file
    program = without_version_asserts(ast.parse(source_of_file(path), path), path, note, _lines_of(path))
    with _own_before_standard(Path(path).resolve().parent):
        if path.endswith(".ipynb"):
            _run_cells(program, whole, path, main.__dict__, note)
            return
        exec(compile(program, whole, "exec", dont_inherit=True), main.__dict__)


def _run_cells(program: ast.Module, whole: str, path: str, names: dict[str, Any], note: Callable[[str], None]) -> None:
    """Runs a notebook cell by cell. One that raises is passed over where it wants a name which no cell before it has, or where no later
    cell needs what it would have made (a picture, an example): whoever runs the cells by hand goes on as well. At the end the first such
    error is raised."""
    futures = [n for n in program.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    first: Exception | None = None
    cells = [list(cell) for _, cell in itertools.groupby(program.body, lambda n: (cell_of(whole, n.lineno) or (0, 0))[0])]
    for number, cell in enumerate(cells):
        body = [*futures, *(n for n in cell if n not in futures)]
        try:
            exec(compile(ast.Module(body, program.type_ignores), whole, "exec", dont_inherit=True), names)
        except Exception as error:
            line = next((line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == whole), 1)
            if type(error) is not NameError and needed_later(cell, line, cells[number + 1 :]):
                raise
            first = first or error
            note(f"{path}:{line} raises {type(error).__name__}: {error}; its cell was passed over")
    if first is not None:
        raise first


class _Versions(ast.NodeTransformer):
    """Takes assertions about a package's version out of a script: they stop it, and say nothing of its training."""

    def __init__(self, of_data: Collection[int] = ()) -> None:
        self.lines: list[int] = []
        self._of_data = of_data  # the lines of those about data which were made up

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        """`assert pyro.__version__.startswith("1.4")`."""
        named = any(isinstance(n, ast.Attribute) and n.attr == "__version__" for n in ast.walk(node.test))
        if not named and node.lineno not in self._of_data:
            return node
        self.lines.append(node.lineno)
        return ast.copy_location(ast.Pass(), node)


def without_version_asserts(tree: ast.Module, path: str, note: Callable[[str], None], of_data: Collection[int] = ()) -> ast.Module:
    """The script without its assertions about versions, and those in the lines `of_data`; `note` is told of each."""
    versions = _Versions(of_data)
    tree = versions.visit(tree)
    for line in versions.lines:
        what = "what made-up data do not meet" if line in of_data else "a version"
        note(f"{path}:{line} asserts {what}, which was passed over")
    return tree


@contextlib.contextmanager
def passing_version_asserts(note: Callable[[str], None], own: Callable[[str], bool], of_data: Sequence[Any] = ()) -> Iterator[None]:
    """Within the block the script's own modules are imported without their assertions about versions as well.

    `of_data`: the files and lines of assertions that made-up data do not meet, which are left out too.
    """
    _of_data[:] = [(str(file), int(line)) for file, line in of_data]
    loader: Any = importlib.machinery.SourceFileLoader
    original = loader.get_code

    def get_code(self: Any, name: str) -> Any:
        path = self.get_filename(name)
        lines = _lines_of(path)
        if not own(path) or b"assert" not in (text := self.get_data(path)) or not (lines or b"__version__" in text):
            return original(self, name)
        return compile(without_version_asserts(ast.parse(text, path), relative(path), note, lines), path, "exec", dont_inherit=True)

    loader.get_code = get_code
    try:
        yield
    finally:
        del loader.get_code


_of_data: list[tuple[str, int]] = []


def _lines_of(path: str) -> list[int]:
    """The lines of a file with assertions that made-up data do not meet."""
    return [line for file, line in _of_data if file == str(Path(path).absolute())]


_STARTUP = frozenset({"abc", "codecs", "encodings", "genericpath", "io", "ntpath", "os", "posixpath", "site", "stat"})
"""What Python has imported before it looks into the script's folder."""


@contextlib.contextmanager
def _own_before_standard(home: Path) -> Iterator[None]:
    """Within the block a file of the script's folder goes before the standard module of its name, though that is in use here already."""
    own = {p.stem if p.suffix == ".py" else p.name for p in home.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    kept = {name: sys.modules.pop(name) for name in own & sys.stdlib_module_names - _STARTUP if name in sys.modules}
    try:
        yield
    finally:
        sys.modules.update(kept)
