"""Imports a user's module: packages and siblings found, missing third-party packages replaced, training left out.

Runs user code. Imports no torch itself.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType, ModuleType

from vaelint.core.assumption import Assumption, Chosen
from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.paths import relative, user_file
from vaelint.loading.placeholder import Placeholder, PlaceholderModule, importing, of_another_version
from vaelint.loading.standing import stand_in
from vaelint.loading.statements import definitions_of, forget_empty, future_flags, late_futures, without_training
from vaelint.loading.tensorflow_stand_in import keras_on_torch, spared
from vaelint.repository.dataflow import stores
from vaelint.source.blame import one_line, span_of
from vaelint.source.later_modules import came_since, later_modules, thrown_out
from vaelint.source.notebook import faults, show, source_of_file

_ROOT_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_told: list[Path] = []
_ours: dict[str, str] = {}  # user modules imported so far, by name, with the folder they were imported for


class _Search(importlib.abc.MetaPathFinder):
    """The last resort of an import in a user's file: a folder above the file, else a placeholder for a package not installed."""

    def __init__(self, folders: Sequence[Path], package: str, missing: dict[str, Span]) -> None:
        self._folders, self._package, self._missing = folders, package, missing

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if isinstance(sys.modules.get(top), PlaceholderModule):
            return importlib.machinery.ModuleSpec(name, _PlaceholderLoader(), is_package=True)
        if path is not None or top in sys.stdlib_module_names:
            return None
        frame = _importer(sys._getframe(1))
        if frame is None or not user_file(frame.f_code.co_filename, self._package):
            return None
        for folder in self._folders:
            if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
                return importlib.machinery.PathFinder.find_spec(name, [str(folder)])
        if _is_guarded(frame):
            return None
        self._missing.setdefault(top, Span(relative(frame.f_code.co_filename), frame.f_lineno))
        return importlib.machinery.ModuleSpec(name, _PlaceholderLoader(), is_package=True)


class _PlaceholderLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return PlaceholderModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def _importer(frame: FrameType | None) -> FrameType | None:
    """The frame of the import statement; None when somebody merely asks whether a module exists."""
    inside = False  # of the import machinery; before it come the finder's own frames
    while frame is not None:
        file = frame.f_code.co_filename
        if file in (importlib.util.__file__, "<frozen importlib.util>"):
            return None
        if "importlib" in file:
            inside = True
        elif inside:
            return frame
        frame = frame.f_back
    return None


def _is_guarded(frame: FrameType) -> bool:
    """Whether the import stands in a `try` that handles its failure: then the file knows how to go on without."""
    try:
        tree = ast.parse(Path(frame.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.body[0].lineno <= frame.f_lineno <= (node.body[-1].end_lineno or 0):
            caught = [name for handler in node.handlers for name in _names(handler.type)]
            if any(name in ("ImportError", "ModuleNotFoundError", "Exception", "BaseException", "") for name in caught):
                return True
    return False


def _names(node: ast.expr | None) -> list[str]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [ast.unparse(part).rpartition(".")[2] if part is not None else "" for part in parts]


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs the target's file statement groups: skips training, and goes on with the definitions when something else fails."""

    def __init__(self, name: str, path: str, wanted: str, notes: list[str]) -> None:
        super().__init__(name, path)
        self._wanted, self._notes, self._stopped = wanted, notes, False

    def exec_module(self, module: ModuleType) -> None:
        source = source_of_file(self.path)
        show(self.path)
        tree = ast.parse(source, self.path)
        self._without_faults(tree)
        body, skipped = without_training(tree)
        if skipped:
            lines = ", ".join(str(line) for line in skipped)
            self._notes.append(f"training at the top level of {relative(self.path)} was not run (line {lines})")
        flags = future_flags(tree)
        if late := late_futures(body):  # cells of a notebook saved as a file: each ran on its own
            place = f"{relative(self.path)}:{late[0].lineno}"
            self._notes.append(f"{place}: an import from __future__ comes too late in the file; it was read as in a notebook")
            body = [n for n in body if n not in late]
        while body:
            try:
                exec(compile(ast.Module(body, []), self.path, "exec", flags, dont_inherit=True), module.__dict__)
                return
            except (Exception, SystemExit) as error:  # noqa: BLE001  (users' code raises anything; it is raised again unless noted)
                body = self._after(error, body, module)

    def _without_faults(self, tree: ast.Module) -> None:
        """Notes the cells of a notebook that are no Python; raises the fault of the first where what is wanted is not in the others."""
        bad = faults(self.path)
        if bad and not any(self._wanted in stores(node) for node in tree.body):
            bad[0].filename = self.path
            raise bad[0]
        for error in bad:
            self._notes.append(f"{relative(self.path)}:{error.lineno}: this cell is not Python ({error.msg}) and was left out")

    def _after(self, error: BaseException, body: list[ast.stmt], module: ModuleType) -> list[ast.stmt]:
        """What is still to be run once a statement of `body` raised; re-raises where the target itself is lost."""
        place, line = _statement_in(error, self.path, body)
        if place is None:
            raise error
        node, rest = body[place], body[place + 1 :]
        if isinstance(error, NameError) and (said := spared(error.name, module)):
            self._notes.append(f"{relative(self.path)}:{line}: {said}")
            return body[place:]
        if stand_in(node, error, module, self._notes, self.path):
            return rest
        if isinstance(node, ast.Import | ast.ImportFrom) and isinstance(error, ImportError) and user_file(self.path):
            if isinstance(node, ast.ImportFrom) and not node.level and error.name and error.path and not user_file(error.path):
                for alias in node.names:  # a name that this version of an installed package no longer has
                    if not hasattr(sys.modules.get(str(node.module)), alias.name):
                        module.__dict__[alias.asname or alias.name] = Placeholder(f"{node.module}.{alias.name}")
                        said = f"{node.module} has no {alias.name} here (line {line}); a placeholder stands for it"
                        where = Span(relative(self.path), line)
                        choice = Assumption("stand-in", alias.name, "a placeholder", f"{node.module} has it no longer", where)
                        self._notes.append(Chosen(said, choice))
                    else:
                        module.__dict__[alias.asname or alias.name] = getattr(sys.modules[str(node.module)], alias.name)
                return rest
            raise error
        definitions, filled = definitions_of(node, rest)
        defined = set(module.__dict__) | {n.name for n in definitions if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        if self._wanted not in defined or self._wanted == getattr(node, "name", None):
            raise error
        if not self._stopped:  # what fails after that mostly fails of that
            stopped = f"{relative(self.path)} stopped at line {line}"
            self._notes.append(f"{stopped} ({one_line(error)}); of what follows only definitions were read")
        self._stopped = True
        forget_empty(filled, module.__dict__)
        return definitions


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _statement_in(error: BaseException, path: str, body: Sequence[ast.stmt]) -> tuple[int | None, int]:
    """The statement of the file's own top level at which `error` passed, by its place in `body`, and the line."""
    line, column = 0, 0
    for frame, number in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename == path and code.co_name == "<module>":
            line, column = number, next(islice(code.co_positions(), frame.f_lasti // 2, None))[2] or 0
    around = [i for i, node in enumerate(body) if _first_line(node) <= line <= (node.end_lineno or 0)]
    begun = [i for i in around if (body[i].lineno, body[i].col_offset) <= (line, column)]  # of `a; b; c` on one line
    return next(reversed(begun or around), None), line


def import_file(path: Path, wanted: str, notes: list[str]) -> ModuleType:
    """Imports a file as part of the package it lies in, if any. Notes go to `notes`. Raises TargetError VAE001."""
    root, name = _place(path)
    folders = [path.parent, *(p for p in path.parents if p.is_relative_to(repository_of(root)))]
    parent = name.rpartition(".")[0]
    if not parent and (name in sys.stdlib_module_names or (name in sys.modules and name not in _ours)):
        name = f"_target_{name}"  # model.py may be called types.py or torch.py
    with _imports(folders, _search_path(root, path), "", str(path), notes):
        if parent:
            _import_package(parent, path.parent, notes)
            if getattr(sys.modules.get(name), "__file__", None) == str(path):
                return sys.modules[name]  # the package imports it itself; a second copy would define every class twice
        spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path), wanted.partition(".")[0], notes))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        if parent:
            setattr(sys.modules[parent], name.rpartition(".")[2], module)
        return module


def import_part(path: Path, statements: Sequence[ast.stmt], notes: list[str]) -> ModuleType:
    """A module of some top-level statements of a file, beside the target imported before. Raises TargetError VAE001."""
    root, name = _place(path)
    module = ModuleType(f"{name} (in part)")  # Python names it in errors
    module.__file__, module.__package__ = str(path), name if path.stem == "__init__" else name.rpartition(".")[0]
    folders = [path.parent, *(p for p in path.parents if p.is_relative_to(repository_of(root)))]
    with _imports(folders, _search_path(root, path), "", str(path), notes, True):
        if module.__package__:
            _import_package(module.__package__, path.parent, notes)
        sys.modules[module.__name__] = module
        show(str(path))
        body = [node for node in statements if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
        flags = future_flags(ast.Module(list(statements), []))
        while body:
            try:
                exec(compile(ast.Module(body, []), str(path), "exec", flags, dont_inherit=True), module.__dict__)
                break
            except ImportError as error:
                place, _ = _statement_in(error, str(path), body)
                if place is None or not stand_in(body[place], error, module, notes, str(path)):
                    raise
                body = body[place + 1 :]
    return module


def _search_path(root: Path, path: Path) -> list[Path]:
    """Where the imports of a file are looked for first: its package's folder, the repository's, and its own as for a script run there.

    Its own is left out where a file in it is called like a folder above: `hvae/models/hvae.py` would stand in the way of `hvae`.
    """
    above = {p.name for p in path.parents if p.is_relative_to(repository_of(root))}
    shadows = any(p.stem in above for p in path.parent.glob("*.py"))
    return [root, repository_of(root), *([] if shadows else [path.parent])]


def _import_package(name: str, folder: Path, notes: list[str]) -> None:
    """Imports the package a file lies in. Without an `__init__.py`, or where it fails, an empty one does: relative imports need no more."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        dotted, place = ".".join(parts[:count]), [folder, *folder.parents][len(parts) - count]
        if dotted in sys.modules:
            continue
        if (place / "__init__.py").is_file():
            try:
                importlib.import_module(dotted)
                continue
            except (Exception, SystemExit) as error:  # noqa: BLE001  (users' code raises anything; noted)
                notes.append(f"the package {dotted} cannot be imported ({one_line(error)}); the file was read without its __init__.py")
        stand_in = ModuleType(dotted)
        stand_in.__path__ = [str(place)]
        sys.modules[dotted] = stand_in


def import_module(name: str, notes: list[str]) -> ModuleType:
    """Imports a module by its dotted name, with the working directory on the path. Raises TargetError VAE001."""
    package = name.partition(".")[0]
    with _imports([Path.cwd()], [Path.cwd()], package, name, notes):
        if importlib.util.find_spec(package) is None:
            raise TargetError(
                "VAE001",
                f"there is no module {package}",
                f"run from the folder that holds {package}, or name the file: path/to/file.py:NAME",
            )
        return importlib.import_module(name)


def _place(path: Path) -> tuple[Path, str]:
    """The folder that belongs on sys.path and the dotted name of a file: packages are the folders with an `__init__.py`."""
    folder, parts = path.parent, [] if path.stem == "__init__" else [path.stem]
    level = _relative_level(path)  # folders without __init__.py are packages too where the file imports relatively
    while ((folder / "__init__.py").is_file() or len(parts) <= level - (path.stem == "__init__")) and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def dotted_name(path: Path) -> str:
    """What a file of the user's is imported by, from the folder that belongs on sys.path."""
    return _place(path)[1]


def parsed(path: Path) -> ast.Module:
    """The tree of a file. Raises TargetError VAE001 where it is not Python."""
    try:
        return ast.parse(source_of_file(path), str(path))
    except SyntaxError as error:
        raise _syntax_error(error, str(path)) from None
    except (OSError, ValueError) as error:
        raise TargetError("VAE001", f"{relative(path.as_posix())} cannot be read: {one_line(error)}") from None


def _relative_level(path: Path) -> int:
    """How many folders up the file's relative imports reach: 1 for `from .x import y`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 0
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def within(folder: str) -> None:
    """Nothing outside of `folder` belongs to the repository of the target that is loaded next; "" takes that back."""
    _told[:] = [Path(folder).resolve()] if folder else []


def repository_of(folder: Path) -> Path:
    """The nearest folder upwards that looks like the root of a repository, else the working directory above it, else `folder`.

    Never a folder above the one that `within` told.
    """
    marked = next((p for p in (folder, *folder.parents) if any((p / mark).exists() for mark in _ROOT_MARKS)), None)
    told = next((p for p in _told if folder.is_relative_to(p)), None)
    if told is not None and (marked is None or not marked.is_relative_to(told)):
        return told
    return marked or (Path.cwd() if folder.is_relative_to(Path.cwd()) else folder)


@contextmanager
def _imports(
    folders: Sequence[Path], path: Sequence[Path], package: str, shown: str, notes: list[str], beside: bool = False
) -> Iterator[None]:
    """The surroundings of a user's import; whatever it raises becomes TargetError VAE001 with the user's line.

    `beside` means that it belongs to the target imported before, whose modules then stay.
    """
    home = str(folders[0])
    for name in [n for n, where in _ours.items() if where != home and not beside]:  # a `utils` of another repository must not answer here
        sys.modules.pop(name, None)
        del _ours[name]
    sys.path[:] = [*dict.fromkeys(str(p) for p in path), *(p for p in sys.path if p not in {str(q) for q in path})]
    before, argv, bytecode, missing = later_modules(), sys.argv, sys.dont_write_bytecode, dict[str, Span]()
    finders = list(sys.meta_path)
    finder = _Search(folders, package, missing)
    sys.meta_path.append(finder)
    sys.argv, sys.dont_write_bytecode = [shown], True  # never the checker's own arguments; no __pycache__ in a user's folder
    try:
        with importing(), keras_on_torch(notes.append):
            yield
    except TargetError:
        raise
    except SyntaxError as error:
        raise _syntax_error(error, shown) from error
    except (Exception, SystemExit) as error:
        raise _import_error(error, shown, package) from error
    finally:
        sys.argv, sys.dont_write_bytecode = argv, bytecode
        sys.meta_path[:] = [*finders, *(f for f in sys.meta_path if f not in finders and f is not finder)]
        for name, module in (before | thrown_out()).items():  # what user code has thrown out is still needed here
            sys.modules.setdefault(name, module)
        for name, module in came_since(before).items():
            first = next(iter(getattr(module, "__path__", None) or []), None)
            if isinstance(module, PlaceholderModule):
                del sys.modules[name]  # a later `import x` inside a function must fail as it would for the user
            elif not package and user_file(getattr(module, "__file__", None) or first or "<none>"):
                _ours[name] = home
        for top, where in missing.items():
            said = f"{top} is not installed; the model is analysed without it"
            notes.append(Chosen(said, Assumption("stand-in", top, "a placeholder", "not installed", where)))


def _syntax_error(error: SyntaxError, shown: str) -> TargetError:
    file = error.filename or shown
    span = Span(relative(file), error.lineno or 1, error.offset or 1, error.end_lineno, error.end_offset or None)
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return TargetError("VAE001", f"{relative(file)} is not valid {python}: {error.msg}", "", span)


def _import_error(error: BaseException, shown: str, package: str) -> TargetError:
    span = span_of(error.__traceback__, lambda file: user_file(file, package))
    where = relative(shown)
    if isinstance(error, SystemExit):
        message = f"importing {where} ends the program (exit {error.code})"
        return TargetError("VAE001", message, 'put what runs the program under `if __name__ == "__main__":`', span)
    help = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        help = f"install {top}, or run from the folder that holds it" if top == error.name else f"{top} is there, but has no {error.name}"
    elif not isinstance(error, ImportError):
        help = of_another_version(error) or 'move code that is not a definition under `if __name__ == "__main__":`'
    return TargetError("VAE001", f"importing {where} raises {one_line(error)}", help, span)
