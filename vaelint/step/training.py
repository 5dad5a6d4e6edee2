"""The loss that a file's own training code computes: the statements from the model's call to `loss.backward()`. Runs no user code."""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vaelint.cache.reads import holding
from vaelint.loading.build import Loaded
from vaelint.loading.imports import repository_of
from vaelint.paths import relative
from vaelint.step.meaning import Kind, is_loss_name, kinds
from vaelint.step.trainer import attributes_of_self, stand_in

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_MOST_FILES = 200
_FOREIGN = ("site-packages", "node_modules", "__pycache__", "build", "dist")
_ENDS = ("backward", "manual_backward", "zero_grad", "step")


@dataclass(frozen=True)
class Slice:
    """Training code as a step: its tree keeps the places of the user's file, `code` is the same as text."""

    tree: ast.Module
    code: str
    file: str
    line: int
    needs: frozenset[str]  # names of the file's top level
    made_up: tuple[tuple[str, str], ...]  # weights and counters that the training code gets from elsewhere, with values of ours


def training_slices(loaded: Loaded, inputs: Sequence[str]) -> list[Slice]:
    """Every way the target's file trains the model that can be cut out whole, alike ones once."""
    return _slices(Path(loaded.file), loaded.name, inputs, set(loaded.namespace))


def slices_elsewhere(loaded: Loaded, inputs: Sequence[str]) -> list[Slice]:
    """The same for the other files of the repository that name the target and train; nothing of them is run."""
    found: dict[str, Slice] = {}
    target = Path(loaded.file)
    name = loaded.name.partition(".")[0].encode()
    for path in () if loaded.package else _python_files(repository_of(target.parent)):
        if path == target or holding(path, name, b"backward(") is None:
            continue
        for cut in _slices(path, loaded.name, inputs, None):
            found.setdefault(cut.code, cut)
    return list(found.values())


def _python_files(root: Path) -> list[Path]:
    """The Python files below `root`, the nearest first; not those of environments, hidden folders or very large trees."""
    found: list[Path] = []
    folders = [root]
    while folders and len(found) < _MOST_FILES:
        folder = folders.pop(0)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        found += [e for e in entries if e.suffix == ".py" and e.is_file()]
        folders += [
            e for e in entries if e.is_dir() and not e.name.startswith(".") and not (e / "pyvenv.cfg").exists() and e.name not in _FOREIGN
        ]
    return found[:_MOST_FILES]


def _slices(path: Path, name: str, inputs: Sequence[str], known: set[str] | None) -> list[Slice]:
    """The slices of one file. `known` are the names its functions see; None for those that its top level defines."""
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    models = _model_names(module, name)
    if known is None:
        known = set().union(*(_stores(node) for node in module.body))
        if name not in known and not models:
            return []
    found: dict[str, Slice] = {}
    for steps in _paths_to_backward(module):
        cut = _Cut(str(path), name, known, models, inputs, steps).slice()
        if cut is not None:
            found.setdefault(cut.code, cut)
    return list(found.values())


def losses_elsewhere(loaded: Loaded) -> list[str]:
    """`file.py:name` of losses beside the target or in what it imports, for `--loss`: named so, and taking what a loss takes. Never run."""
    found: list[str] = []
    target = Path(loaded.file)
    for path in () if loaded.package else dict.fromkeys((*sorted(target.parent.glob("*.py")), *_imported(loaded))):
        try:
            text = holding(path, b"loss") if path != target else None
            body = ast.parse(text).body if text is not None else []
        except (OSError, SyntaxError, ValueError):
            continue
        named = (n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef))
        found += [f"{relative(str(path))}:{n.name}" for n in named if _looks_like_a_loss(n)]
    return found


def _imported(loaded: Loaded) -> Iterator[Path]:
    """The user's files that the target's names come from."""
    for value in loaded.namespace.values():
        module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        file = getattr(module, "__file__", None)
        if file and loaded.is_user(file):
            yield Path(file)


def _looks_like_a_loss(node: ast.FunctionDef | ast.ClassDef) -> bool:
    if node.name.startswith("_") or not is_loss_name(node.name):
        return False
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name in ("forward", "__call__")]
    function = node if isinstance(node, ast.FunctionDef) else next(iter(methods), None)
    taken = [kinds(a.arg) for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)] if function else []
    return sum(bool(k) for k in taken) >= 2


def needed_of(tree: ast.Module, names: set[str]) -> list[ast.stmt]:
    """The top-level statements of a file that `names` need, in order: imports, definitions and values, and what these need in turn."""
    kept: set[int] = set()
    todo, seen = set(names), set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        for i, node in enumerate(tree.body):
            if i not in kept and name in _stores(node) and not isinstance(node, ast.For | ast.While | ast.With):
                kept.add(i)
                todo |= _loads(node) - seen
    open_names = seen - set().union(*(_stores(tree.body[i]) for i in kept)) - set(vars(builtins)) if kept else set()
    if open_names:  # one of these may come from `from x import *`
        kept |= {i for i, n in enumerate(tree.body) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"}
    future = {i for i, n in enumerate(tree.body) if isinstance(n, ast.ImportFrom) and n.module == "__future__"}
    return [node for i, node in enumerate(tree.body) if i in kept | future]


def _model_names(module: ast.Module, name: str) -> set[str]:
    """The expressions that hold the model: what `Name(...)` is assigned to, and the usual names of parameters."""
    imported = [alias for n in ast.walk(module) if isinstance(n, ast.ImportFrom) for alias in n.names]
    called_so = {name} | {alias.asname for alias in imported if alias.name == name and alias.asname}
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(_last_name(f) in called_so for f in _calls_in_chain(node.value)):
            names |= {ast.unparse(t) for t in node.targets}
    return names


def _calls_in_chain(node: ast.expr) -> Iterator[ast.expr]:
    """What is called in `VAE(...)`, `models.VAE(...).to(device)`, `nn.DataParallel(VAE(...))`, the outermost first."""
    while isinstance(node, ast.Call):
        yield node.func
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        node = inner if isinstance(inner, ast.Call) else node.args[0] if node.args else node.func


def _last_name(node: ast.expr) -> str:
    """`VAE` of `models.VAE`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _paths_to_backward(module: ast.Module) -> Iterator[list[tuple[list[ast.stmt], int]]]:
    """For every `.backward()` statement, the blocks around it from the outside in, each with the place in it."""

    def go(body: list[ast.stmt], path: list[tuple[list[ast.stmt], int]]) -> Iterator[list[tuple[list[ast.stmt], int]]]:
        for place, node in enumerate(body):
            here = [*path, (body, place)]
            if isinstance(node, ast.Expr) and _backward_of(node.value) is not None:
                yield here
            for block in ("body", "orelse", "finalbody"):
                yield from go(getattr(node, block, []) if not isinstance(node, ast.Expr) else [], here)

    yield from go(module.body, [])


def _backward_of(node: ast.expr) -> ast.expr | None:
    """What `backward()` is called on: `loss` in `loss.backward()`, `scaler.scale(loss).backward()`, `self.manual_backward(loss)`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr == "manual_backward" and node.args:
        return node.args[0]
    if node.func.attr != "backward":
        return None
    owner = node.func.value
    if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr == "scale" and len(owner.args) == 1:
        return owner.args[0]
    if node.args and ast.unparse(owner).rpartition(".")[2] in ("accelerator", "fabric"):
        return node.args[0]
    return owner


class _Cut:
    """One attempt to cut the loss out of the blocks on `path`."""

    def __init__(
        self, file: str, target: str, known: set[str], models: set[str], inputs: Sequence[str], path: list[tuple[list[ast.stmt], int]]
    ) -> None:
        self._file, self._known, self._inputs, self._path = file, known, list(inputs), path
        self._models = set(models)
        self._trainer: ast.ClassDef | None = None
        for body, place in path:
            node = body[place]
            if isinstance(node, _Function):
                self._models |= {a.arg for a in node.args.args if Kind.MODEL in kinds(a.arg)}
            if isinstance(node, ast.ClassDef) and node.name == target:
                self._models.add("self")
            if isinstance(node, ast.ClassDef) and node.name != target:
                self._trainer = node
        self._made_up: list[tuple[str, str]] = []

    def slice(self) -> Slice | None:
        """The step, None where something in it cannot be resolved."""
        body, place = self._path[-1]
        end = body[place]
        assert isinstance(end, ast.Expr)
        loss = _backward_of(end.value)
        if loss is None:
            return None
        kept: list[ast.stmt] = []
        needed = _loads(loss)
        data: dict[str, str] = {}
        for depth, (block, at) in reversed(list(enumerate(self._path))):
            if depth == 0 and len(self._path) > 1:
                break  # what the file's top level defines is there already
            for node in reversed(block[:at]):
                if not (_stores(node) & needed):
                    continue
                if isinstance(node, _Function | ast.ClassDef | ast.Import | ast.ImportFrom) and depth == 0:
                    continue  # of the file's top level, which is there already
                if set(data) & _stores(node) and not (_stores(node) - set(data)) & needed:
                    continue  # how the input is prepared: our input is what goes into the model
                if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _ENDS for n in ast.walk(node)):
                    return None
                if self._makes_model(node):
                    continue
                kept.insert(0, node)
                data |= self._data(node)
                needed |= _loads(node)
            if isinstance(block[at], _Function) and block is not self._path[-1][0]:
                break
        if not any(self._data(node) for node in kept) and not self._data(end):
            return None
        return self._finished(kept, loss, data, end.lineno)

    def _makes_model(self, node: ast.stmt) -> bool:
        return isinstance(node, ast.Assign) and any(ast.unparse(t) in self._models for t in node.targets)

    def _model_calls(self, node: ast.AST) -> Iterator[ast.Call]:
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                func = part.func
                is_method = isinstance(func, ast.Attribute) and ast.unparse(func.value) in self._models and not is_loss_name(func.attr)
                if is_method or ast.unparse(func) in self._models:
                    yield part

    def _data(self, node: ast.AST) -> dict[str, str]:
        """The names handed to the model in `node`, with the inputs they stand for."""
        found: dict[str, str] = {}
        for call in self._model_calls(node):
            for argument, name in zip(call.args, self._inputs, strict=False):
                root = _root(argument)
                if root is not None:
                    found.setdefault(root, name)
            break  # the first call is the one that takes the data
        return found

    def _finished(self, kept: list[ast.stmt], loss: ast.expr, data: dict[str, str], line: int) -> Slice | None:
        stores = set().union(*(_stores(node) for node in kept)) if kept else set()
        final = ast.copy_location(ast.Assign([ast.Name("loss", ast.Store())], copy.deepcopy(loss)), loss)
        rename = _Rename(self._models)
        body: list[ast.stmt] = [rename.statement(copy.deepcopy(node)) for node in (*kept, final)]
        prefix: list[ast.stmt] = [_assign(name, source, line) for name, source in data.items() if name != source]
        free = set().union(*(_loads(node) for node in body)) - {"model"} - set(data)
        for name in sorted(free):
            if name in self._known or hasattr(builtins, name) or name in ("torch", "self") or name in self._inputs:
                continue
            if name in stores and not _read_before_stored(name, body):
                continue
            value = self._literal(name)
            if value is None:
                return None
            prefix.append(_assign(name, value, line))
        if "self" in free:
            made = self._self(body)
            if made is None:
                return None
            prefix += [_statement(text, line) for text in made]
            free = free - {"self"} | set().union(*(_loads(node) for node in prefix))
        tree = ast.fix_missing_locations(ast.Module([*prefix, *body], []))
        simple = all(not hasattr(node, "body") for node in tree.body)
        if isinstance(final.value, ast.Name) and final.value.id == "loss":
            tree.body.pop()
        code = ("; " if simple else "\n").join(ast.unparse(node) for node in tree.body)
        return Slice(tree, code, self._file, line, frozenset(free & self._known), tuple(self._made_up))

    def _self(self, body: Sequence[ast.stmt]) -> list[str] | None:
        """Statements that make a `self` of the trainer's class; None where there is none to be made."""
        if self._trainer is None:
            return None
        read = attributes_of_self(*body)
        return stand_in(self._trainer, read, self._models, self._known | set(vars(builtins)), self._literal)

    def _literal(self, name: str) -> str | None:
        """A value for a weight, a counter or the device that the training code gets from elsewhere."""
        means = kinds(name)
        first = self._inputs[0] if self._inputs else "x"
        values = {Kind.WEIGHT: "1.0", Kind.COUNTER: "0", Kind.DEVICE: f"{first}.device", Kind.BATCH_SIZE: f"{first}.size(0)"}
        value = next((values[m] for m in means if m in values), None)
        if value is not None and value in ("1.0", "0"):
            self._made_up.append((name, value))
        return value


class _Rename(ast.NodeTransformer):
    """Calls the model `model`, whatever the file calls it."""

    def __init__(self, models: set[str]) -> None:
        self._models = models

    def statement(self, node: ast.stmt) -> ast.stmt:
        """The statement, changed in place."""
        self.visit(node)
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        """The node, or `model` in its place."""
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and ast.unparse(node) in self._models:
            return ast.copy_location(ast.Name("model", ast.Load()), node)
        return self.generic_visit(node)


def _assign(name: str, value: str, line: int) -> ast.stmt:
    return _statement(f"{name} = {value}", line)


def _statement(text: str, line: int) -> ast.stmt:
    """A statement that stands at a line of the user's file."""
    node = ast.parse(text).body[0]
    for part in ast.walk(node):
        if hasattr(part, "lineno"):
            part.lineno = part.end_lineno = line  # type: ignore[attr-defined]
    return node


def _root(node: ast.expr) -> str | None:
    """`x` of `x`, `x.view(-1, 784)`, `x.to(device)`."""
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _loads(node: ast.AST) -> set[str]:
    """The names that a node takes from outside: not those bound by its own comprehensions, lambdas and functions."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    found = set().union(*(_loads(child) for child in ast.iter_child_nodes(node)))
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
        bound = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
        found -= bound | (set() if isinstance(node, ast.Lambda) else set().union(*(_stores(inner) for inner in node.body)))
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        found -= set().union(*(_stores(c.target) for c in node.generators))
    return found


def _stores(node: ast.AST) -> set[str]:
    """The names that a statement gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    inner = set().union(*(_stores(child) for child in ast.iter_child_nodes(node)))
    return inner | ({node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set())


def _read_before_stored(name: str, body: Sequence[ast.stmt]) -> bool:
    """Whether the statements read `name` before one of them gives it a value."""
    for node in _simple(body):
        if name in _loads(node):
            return True
        if name in _stores(node):
            return False
    return False


def _simple(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """The statements in order, blocks taken apart: first what their head reads, then what they hold."""
    for node in body:
        if not hasattr(node, "body"):
            yield node
            continue
        yield from (part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.stmt))
        for block in ("body", "orelse", "finalbody"):
            yield from _simple(getattr(node, block, []))
