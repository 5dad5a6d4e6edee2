"""The loss that a file's own training code computes: the statements from the model's call to `loss.backward()`. Runs no user code."""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelint.loading.build import Loaded
from vaelint.repository.constructions import completed
from vaelint.repository.dataflow import loads, read_before_stored, stores, top_level
from vaelint.repository.objects import Unknown, written
from vaelint.repository.scopes import File, Scope
from vaelint.repository.values import Reader
from vaelint.step.meaning import Kind, is_loss_name, kinds
from vaelint.step.trainer import attributes_of_self, stand_in

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_MOST = 8  # ways to train that are tried
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
    told: tuple[tuple[str, str], ...] = ()  # what else it gets from elsewhere, with the values that the repository says
    names: tuple[tuple[str, str, str], ...] = ()  # names in these values, see `target.Expression`


def training_slices(loaded: Loaded, inputs: Sequence[str]) -> list[Slice]:
    """Every way the target's file trains the model that can be cut out whole, alike ones once."""
    file = loaded.repository.file(Path(loaded.file))
    return _slices(loaded.reader, file, Path(loaded.file).resolve(), loaded.name, inputs, set(loaded.namespace)) if file is not None else []


def slices_elsewhere(loaded: Loaded, inputs: Sequence[str]) -> list[Slice]:
    """The same for the other files of the repository that name the target and train; nothing of them is run."""
    found: dict[str, Slice] = {}
    target = Path(loaded.file).resolve()
    for file in () if loaded.package else loaded.repository.holding("backward("):
        if file.path != target and len(found) < _MOST:
            for cut in _slices(loaded.reader, file, Path(loaded.file).resolve(), loaded.name, inputs, None):
                found.setdefault(cut.code, cut)
    return list(found.values())


def _slices(reader: Reader, file: File, home: Path, name: str, inputs: Sequence[str], known: set[str] | None) -> list[Slice]:
    """The slices of one file. `known` are the names its functions see; None for those that its top level defines."""
    models = _model_names(file.tree, name)
    if known is None:
        known = top_level(file.tree)
        if _is_another(reader, file, home, name):
            models, known = set(), known - {name}
    found: dict[str, Slice] = {}
    for steps in _paths_to_backward(file.tree):
        cut = _Cut(reader, file, (home, name), known, models, inputs, steps).slice()
        if cut is not None:
            found.setdefault(cut.code, cut)
    return list(found.values())


def _is_another(reader: Reader, file: File, home: Path, name: str) -> bool:
    """Whether a file means another class by the name of the target."""
    try:
        return reader.definition(ast.Name(name, ast.Load()), Scope(file)) != (home, name)
    except Unknown:
        return False


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
        self,
        reader: Reader,
        file: File,
        target: tuple[Path, str],
        known: set[str],
        models: set[str],
        inputs: Sequence[str],
        path: list[tuple[list[ast.stmt], int]],
    ) -> None:
        self._reader, self._file, self._known, self._inputs, self._path = reader, file, known, list(inputs), path
        around = tuple(n for body, place in path if isinstance(n := body[place], _Function | ast.ClassDef))
        self._scope = Scope(file, around, path[-1][0][path[-1][1]].lineno)
        self._parameters = {a.arg for n in around if isinstance(n, _Function) for a in ast.walk(n.args) if isinstance(a, ast.arg)}
        self._target, self._named = target, bool(models) or target[1] in known
        self._models = set(models)
        self._trainer: ast.ClassDef | None = None
        for node in around:
            if isinstance(node, _Function) and self._named:
                self._models |= {a.arg for a in node.args.args if Kind.MODEL in kinds(a.arg)}
            if isinstance(node, ast.ClassDef) and node.name == target[1]:
                self._models.add("self")
            elif isinstance(node, ast.ClassDef):
                self._trainer = node
        self._models |= self._built(path)
        self._bare = False
        self._made_up: list[tuple[str, str]] = []
        self._told: list[tuple[str, str]] = []
        self._names: dict[tuple[str, str, str], None] = {}

    def _built(self, path: list[tuple[list[ast.stmt], int]]) -> set[str]:
        """What is called near the end of the path and is an object of the target's class, as the repository builds it.

        Where only names speak, an attribute of a trainer that is called a model is it, if the file names the target.
        """
        blocks = path[1:] if len(path) > 1 else path
        calls = (c.func for block, at in blocks[-3:] for n in block[:at] for c in ast.walk(n) if isinstance(c, ast.Call))
        found: set[str] = set()
        for func in calls:
            for node in (func, func.value) if isinstance(func, ast.Attribute) else (func,):
                text = ast.unparse(node)
                if text in self._models | found or not isinstance(node, ast.Name | ast.Attribute):
                    continue
                try:
                    other = self._reader.instance(node, self._scope) != self._target
                except Unknown:
                    other = True
                if not other:
                    found.add(text)
                elif self._named:
                    of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
                    if self._trainer is not None and of_self and Kind.MODEL in kinds(node.attr):  # type: ignore[union-attr]
                        found.add(text)
        return found

    def slice(self) -> Slice | None:
        """The step, None where something in it cannot be resolved."""
        body, place = self._path[-1]
        end = body[place]
        assert isinstance(end, ast.Expr)
        loss = _backward_of(end.value)
        if loss is None:
            return None
        return self._attempt(loss, end) or self._attempt(loss, end, bare=True)

    def _attempt(self, loss: ast.expr, end: ast.Expr, *, bare: bool = False) -> Slice | None:
        """The step; `bare` leaves out what the model is handed beyond the inputs given, which may have defaults."""
        self._bare, self._made_up, self._told, self._names = bare, [], [], {}
        kept = self._kept(loss, {})
        first = next((self._data(node) for node in kept or () if self._data(node)), self._data(end))
        if kept is None or not first:
            return None
        kept = self._kept(loss, first)
        return self._finished(kept, loss, first, end.lineno) if kept is not None else None

    def _kept(self, loss: ast.expr, data: dict[str, str]) -> list[ast.stmt] | None:
        """The statements that the loss needs, in order, less those that prepare the data; None if one of them trains."""
        kept: list[ast.stmt] = []
        needed = loads(loss)
        for depth, (block, at) in reversed(list(enumerate(self._path))):
            if depth == 0 and len(self._path) > 1:
                break  # what the file's top level defines is there already
            for node in reversed([taken for n in block[:at] for taken in self._taken(n)]):
                if not (stores(node) & needed):
                    continue
                if isinstance(node, _Function | ast.ClassDef | ast.Import | ast.ImportFrom) and depth == 0:
                    continue  # of the file's top level, which is there already
                if set(data) & stores(node) and not (stores(node) - set(data)) & needed:
                    continue  # how the input is prepared: our input is what goes into the model
                if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _ENDS for n in ast.walk(node)):
                    return None
                if self._makes_model(node):
                    continue
                kept.insert(0, node)
                needed |= loads(node)
            if isinstance(block[at], _Function) and block is not self._path[-1][0]:
                break
        return kept

    def _taken(self, node: ast.stmt) -> list[ast.stmt]:
        """A statement; of an `if` whose test the repository's options decide, the branch that is taken."""
        if not isinstance(node, ast.If):
            return [self._with_inputs_only(node) if self._bare else node]
        for outcome in (True, False):
            if not self._reader.holds(((node.test, not outcome),), self._scope.at(node.lineno)):
                return [taken for n in (node.body if outcome else node.orelse) for taken in self._taken(n)]
        return [node]

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
        stored = set().union(*(stores(node) for node in kept)) if kept else set()
        final = ast.copy_location(ast.Assign([ast.Name("loss", ast.Store())], copy.deepcopy(loss)), loss)
        rename = _Rename(self._models)
        body: list[ast.stmt] = [rename.statement(copy.deepcopy(node)) for node in (*kept, final)]
        prefix: list[ast.stmt] = [_assign(name, source, line) for name, source in data.items() if name != source]
        free = set().union(*(loads(node) for node in body)) - {"model"} - set(data)
        for name in sorted(free):
            if hasattr(builtins, name) or name in ("torch", "self") or name in self._inputs:
                continue
            if name in stored and not read_before_stored(name, body):
                continue
            if name in self._known and name not in self._parameters:
                continue
            value = self._value(name, body)
            if value is None:
                if name in self._known:
                    continue
                return None
            if value != name:
                prefix.append(_assign(name, value, line))
        if "self" in free:
            made = self._self(body)
            if made is None:
                return None
            prefix += [_statement(text, line) for text in made]
            free = free - {"self"} | set().union(*(loads(node) for node in prefix))
        tree = ast.fix_missing_locations(ast.Module([*prefix, *body], []))
        simple = all(not hasattr(node, "body") for node in tree.body)
        if isinstance(final.value, ast.Name) and final.value.id == "loss":
            tree.body.pop()
        code = ("; " if simple else "\n").join(ast.unparse(node) for node in tree.body)
        needs = frozenset(free & self._known)
        return Slice(tree, code, str(self._file.path), line, needs, tuple(self._made_up), tuple(self._told), tuple(self._names))

    def _with_inputs_only(self, node: ast.stmt) -> ast.stmt:
        """A statement in which the model is called with as many arguments as there are inputs."""
        if not any(True for _ in self._model_calls(node)):
            return node
        copied = copy.deepcopy(node)
        for call in self._model_calls(copied):
            if not isinstance(call.func, ast.Attribute) or ast.unparse(call.func) in self._models:
                call.args = call.args[: len(self._inputs)]
                call.keywords = [k for k in call.keywords if k.arg in self._inputs]
        return copied

    def _self(self, body: Sequence[ast.stmt]) -> list[str] | None:
        """Statements that make a `self` of the trainer's class; None where there is none to be made."""
        if self._trainer is None:
            return None
        read = attributes_of_self(*body)
        return stand_in(self._trainer, read, self._models, self._attribute)

    def _value(self, name: str, body: Sequence[ast.AST]) -> str | None:
        """A value for a name that the training code gets from elsewhere: the device, what the repository says, else a weight of 1."""
        means = kinds(name)
        first = self._inputs[0] if self._inputs else "x"
        if Kind.DEVICE in means or Kind.BATCH_SIZE in means:
            return f"{first}.device" if Kind.DEVICE in means else f"{first}.size(0)"
        said = self._said(ast.Name(name, ast.Load()), _attributes_of(name, body))
        if said is not None:
            if said != name:
                self._told.append((name, said))
            return said
        value = next(({Kind.WEIGHT: "1.0", Kind.COUNTER: "0"}[m] for m in means if m in (Kind.WEIGHT, Kind.COUNTER)), None)
        if value is not None:
            self._made_up.append((name, value))
        return value

    def _said(self, node: ast.expr, attributes: set[str]) -> str | None:
        """What the repository says of a name, as text; of options that are read by attribute, no more than these."""
        try:
            if not attributes:
                value = self._reader.read(node, self._scope)
                is_options = isinstance(value, argparse.Namespace) and isinstance(node, ast.Name)
                return self._written(completed(self._reader, node.id, self._scope, value) if is_options else value)  # type: ignore[attr-defined]
            values = {a: self._reader.read(ast.Attribute(node, a, ast.Load()), self._scope) for a in sorted(attributes)}
            return self._written(argparse.Namespace(**values))
        except Unknown:
            return None

    def _written(self, value: object) -> str:
        text, names = written(value)
        self._names.update(dict.fromkeys(names))
        return text

    def _attribute(self, name: str) -> str | None:
        """A value for an attribute of the trainer."""
        means = kinds(name)
        first = self._inputs[0] if self._inputs else "x"
        if Kind.DEVICE in means:
            return f"{first}.device"
        said = self._said(ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load()), set())
        if said is not None:
            self._told.append((f"self.{name}", said))
        return said if said is not None else self._value(name, [])


def _attributes_of(name: str, body: Sequence[ast.AST]) -> set[str]:
    """The attributes that statements read from a name; none if they use it in another way as well."""
    found, owners = set[str](), set[int]()
    for part in (p for node in body for p in ast.walk(node)):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == name:
            found.add(part.attr)
            owners.add(id(part.value))
    bare = any(isinstance(p, ast.Name) and p.id == name and id(p) not in owners for node in body for p in ast.walk(node))
    return set() if bare else found


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
