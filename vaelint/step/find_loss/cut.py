"""Cuts the loss out of training code: the statements from the model's call to where the step ends. Runs no user code."""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from vaelint.late import dataclass
from vaelint.repository.dataflow import loads, read_before_stored, stores
from vaelint.repository.objects import Unknown, last_name
from vaelint.repository.scopes import File, Function, Scope
from vaelint.repository.values import Reader
from vaelint.step.find_loss.cut_statements import OF_TRAINER, Rename, assign, root_of, statement
from vaelint.step.find_loss.data_batches import aliases, loaders, without_lengths
from vaelint.step.find_loss.endings import around, loss_of
from vaelint.step.find_loss.factors import makes_options
from vaelint.step.find_loss.supplied import Supplied
from vaelint.step.meaning import Kind, is_loss_name, kinds
from vaelint.step.reading import batch_in

_ENDS = ("backward", "manual_backward", "zero_grad", "step")
TRAINS_BUT = "trains the model, but"
MAY_TRAIN_BUT = "may train the model, but"  # only a name says that it is this one


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
    sure: bool = True  # False where only a name says that it trains this model and not another one


class Cut:
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
        bases: Set[tuple[Path, str]] = frozenset(),
        tokens: Set[str] = frozenset(),
        options: Sequence[argparse.Namespace] = (),
    ) -> None:
        self._reader, self._file, self._known, self._inputs, self._path = reader, file, known, list(inputs), path
        inside = around(path)
        self._scope = Scope(file, inside, path[-1][0][path[-1][1]].lineno)
        self._parameters = {a.arg for n in inside if isinstance(n, Function) for a in ast.walk(n.args) if isinstance(a, ast.arg)}
        self._tokens, self._options = tokens, options
        self._target, self._named = target, bool(models) or target[1] in known
        self._models = set(models)
        self._trainer: ast.ClassDef | None = None
        for node in inside:
            if isinstance(node, Function) and self._named:
                self._models |= {a.arg for a in node.args.args if Kind.MODEL in kinds(a.arg)}
            if isinstance(node, ast.ClassDef) and (node.name == target[1] or (file.path, node.name) in bases):
                self._models.add("self")
            elif isinstance(node, ast.ClassDef):
                self._trainer = node
        self._maybe = set[str]()  # what may be the model, by its name alone
        self._models |= self._built(path)
        self._loaders = loaders(path)
        self.because = ""  # why nothing could be cut out, where the model is trained here
        self._sure, self._bare = True, False
        self._supplied = self._nothing_supplied()

    def _nothing_supplied(self) -> Supplied:
        return Supplied(self._reader, self._scope, self._trainer, self._models, self._inputs, self._tokens, self._options)

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
                    what = self._reader.instance(node, self._scope)
                except Unknown:
                    what = None
                if what == self._target or self._is_one_of(text):
                    found.add(text)
                    continue
                of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
                if Kind.MODEL not in kinds(last_name(node)):
                    continue
                # a model of the same file, or of the same name, may well be trained in the same way
                alike = what is None or what[1] == self._target[1] or (what[0] == self._target[0] and not self._is_part_of(what[1]))
                if self._named and self._trainer is not None and of_self:
                    found.add(text)
                elif alike and (of_self or isinstance(node, ast.Name)):
                    self._maybe.add(text)
        return found

    def _is_part_of(self, whole: str) -> bool:
        """Whether another class of the target's file is made of objects of the target's, which have no loss of their own then."""
        file = self._reader.repository.file(self._target[0])
        classes = {n: c for n, c in file.definitions.items() if isinstance(c, ast.ClassDef)} if file is not None else {}
        reached, left = set[str](), [whole]
        while left:
            node = classes.get(left.pop())
            if node is None:
                continue
            named = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name)}
            named -= {node.name, *(last_name(base) for base in node.bases)}
            left += [name for name in named & classes.keys() if name not in reached]
            reached |= named & classes.keys()
        return self._target[1] in reached

    def _is_one_of(self, text: str) -> bool:
        """Whether the trainer gives an attribute several values, as its options say, and one of them is an object of the target's class."""
        trainer = self._trainer
        if trainer is None or not text.startswith("self."):
            return False
        for method in trainer.body:
            given = [n for n in ast.walk(method) if isinstance(n, ast.Assign) and any(ast.unparse(t) == text for t in n.targets)]
            for node in given if len(given) > 1 and isinstance(method, Function) else ():
                try:
                    if self._reader.instance(node.value, Scope(self._file, (trainer, method), node.lineno)) == self._target:
                        return True
                except Unknown:
                    continue
        return False

    def _hands_through(self) -> bool:
        """Whether calling the trainer, a module around the model, is calling the model."""
        methods = self._trainer.body if self._trainer is not None else []
        forward = next((n for n in methods if isinstance(n, ast.FunctionDef) and n.name == "forward"), None)
        end = forward.body[-1] if forward is not None and len(forward.body) == 1 else None
        if not isinstance(end, ast.Return) or not isinstance(end.value, ast.Call) or forward is None:
            return False
        given = [a.arg for a in forward.args.args][1:]
        return ast.unparse(end.value.func) in self._models and [ast.unparse(a) for a in end.value.args] == given

    def slice(self) -> Slice | None:
        """The step, None where something in it cannot be resolved."""
        body, place = self._path[-1]
        end = body[place]
        loss = loss_of(end)
        if loss is None:
            return None
        found = self._attempt(loss, end) or self._attempt(loss, end, bare=True)
        if found is None and not self._models and self._maybe:
            self._models, self._sure = set(self._maybe), False
            found = self._attempt(loss, end) or self._attempt(loss, end, bare=True)
        return found

    def _not(self, because: str) -> None:
        """Notes why the first attempt did not succeed."""
        if self._models:
            self.because = self.because or f"{TRAINS_BUT if self._sure else MAY_TRAIN_BUT} {because}"

    def _attempt(self, loss: ast.expr, end: ast.stmt, *, bare: bool = False) -> Slice | None:
        """The step; `bare` leaves out what the model is handed beyond the inputs given, which may have defaults."""
        self._bare, self._supplied = bare, self._nothing_supplied()
        self._lengths: dict[str, str] = {}
        self._through = self._hands_through()
        kept = self._kept(loss, {})
        if kept is None:
            self._not("what leads to its loss also takes a step of training")
            return None
        first: dict[str, str] = {}
        for of_losses in (False, True):
            first = first or next((d for node in (*kept, end) if (d := self._data(node, of_losses))), {})
        if not first:
            first = self._batch()
        if not first:
            self._not("its call of the model is handed no name that could be one of the inputs")
            return None
        first = aliases(first, list(self._before()))
        kept = self._kept(loss, first)
        return self._finished(kept, loss, first, end.lineno) if kept is not None else None

    def _batch(self) -> dict[str, str]:
        """The batch that a method of the trainer gets, with what it is made of the inputs, where other methods take it apart."""
        method = self._scope.chain[-1] if self._scope.chain else None
        given = [a.arg for a in method.args.args][1:] if isinstance(method, Function) and self._trainer in self._scope.chain else []
        if self._trainer is None or not given or Kind.BATCH not in kinds(given[0]):
            return {}
        inner = {n.name: (n, [a.arg for a in n.args.args][1:]) for n in self._trainer.body if isinstance(n, Function)}
        return {given[0]: batch_in(method, given[0], self._inputs, inner.get)}

    def _before(self) -> Iterator[ast.stmt]:
        """The statements on the way to the end within its function, the last one first."""
        for block, at in reversed(self._path):
            if isinstance(block[at], Function):
                break
            yield from reversed(block[:at])

    def _kept(self, loss: ast.expr, data: dict[str, str]) -> list[ast.stmt] | None:
        """The statements that the loss needs, in order, less those that prepare the data; None if one of them trains."""
        kept: list[ast.stmt] = []
        needed, reads_state = loads(loss), self._reads_state(loss)
        first = self._first_call(data)
        prepares = first is None  # before the model is first called, what is done to the data prepares it
        for top_level, whole, node in self._statements():
            prepares = prepares or (first is not None and whole.lineno < first.lineno)
            runs = reads_state and any(True for _ in self._model_calls(node))  # it leaves there what is read afterwards
            if not runs and not (stores(node) & needed):
                continue
            if top_level and isinstance(node, Function | ast.ClassDef | ast.Import | ast.ImportFrom):
                continue  # it is there already
            if prepares and set(data) & stores(node) and not (stores(node) - set(data)) & needed:
                continue  # how the input is prepared: our input is what goes into the model
            if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _ENDS for n in ast.walk(node)):
                return None
            if self._makes_model(node) or makes_options(node):
                continue
            kept.insert(0, node)
            needed |= loads(node)
            reads_state = (reads_state or self._reads_state(node)) and not runs
        return kept

    def _first_call(self, data: dict[str, str]) -> ast.stmt | None:
        """The first statement of the innermost function that hands data to the model."""
        inside = max((i + 1 for i, (block, at) in enumerate(self._path) if isinstance(block[at], Function | ast.ClassDef)), default=0)
        statements = (n for block, at in self._path[inside or len(self._path) > 1 :] for n in block[:at])
        return next((n for n in statements if any(root_of(a) in data for call in self._model_calls(n) for a in call.args)), None)

    def _statements(self) -> Iterator[tuple[bool, ast.stmt, ast.stmt]]:
        """What runs before the end, the last first: whether it is of the file's top level, the statement, and what of it runs."""
        for depth, (block, at) in reversed(list(enumerate(self._path))):
            if depth == 0 and len(self._path) > 1:
                return  # what the file's top level defines is there already
            for whole, node in reversed([(n, taken) for n in block[:at] for taken in self._taken(n)]):
                yield depth == 0, whole, node
            if isinstance(block[at], Function) and block is not self._path[-1][0]:
                return

    def _reads_state(self, node: ast.AST) -> bool:
        """Whether it reads what a call of the model has left on it: `model.loss`, and not `model.encode(x)`."""
        called = {id(p.func) for p in ast.walk(node) if isinstance(p, ast.Call)}
        return any(
            isinstance(p, ast.Attribute) and ast.unparse(p.value) in self._models and id(p) not in called
            for p in ast.walk(node)
            if not isinstance(p, ast.Attribute) or ast.unparse(p) not in self._models
        )

    def _taken(self, node: ast.stmt) -> list[ast.stmt]:
        """A statement; of an `if` whose test the repository's options decide, the branch that is taken."""
        if not isinstance(node, ast.If):
            node = without_lengths(node, self._loaders, self._lengths)
            return [self._with_inputs_only(node) if self._bare else node]
        for outcome in (True, False):
            if not self._reader.holds(((node.test, not outcome),), self._scope.at(node.lineno)):
                return [taken for n in (node.body if outcome else node.orelse) for taken in self._taken(n)]
        return [node]

    def _makes_model(self, node: ast.stmt) -> bool:
        return isinstance(node, ast.Assign) and any(ast.unparse(t) in self._models for t in node.targets)

    def _model_calls(self, node: ast.AST, of_losses: bool = False) -> Iterator[ast.Call]:
        """The calls of the model and of its methods; `of_losses` asks for its losses, which may run it themselves."""
        for part in ast.walk(node):
            if not isinstance(part, ast.Call):
                continue
            func, of_loss = ast.unparse(part.func), False
            if isinstance(part.func, ast.Attribute) and ast.unparse(part.func.value) in self._models:
                func, of_loss = ast.unparse(part.func.value), is_loss_name(part.func.attr)
            if of_loss is of_losses and (func in self._models or (self._through and func in OF_TRAINER)):
                yield part

    def _data(self, node: ast.AST, of_losses: bool = False) -> dict[str, str]:
        """The names handed to the model in `node`, with the inputs they stand for."""
        found: dict[str, str] = {}
        for call in self._model_calls(node, of_losses):
            for argument, name in zip(call.args, self._inputs, strict=False):
                root = root_of(argument)
                if root is not None:
                    found.setdefault(root, name)
            break  # the first call is the one that takes the data
        return found

    def _finished(self, kept: list[ast.stmt], loss: ast.expr, data: dict[str, str], line: int) -> Slice | None:
        """The statements as a step, with values for all that they read; None where one cannot be known."""
        final = ast.copy_location(ast.Assign([ast.Name("loss", ast.Store())], copy.deepcopy(loss)), loss)
        rename = Rename(self._models, self._through)
        body: list[ast.stmt] = [rename.statement(copy.deepcopy(node)) for node in (*kept, final)]
        prefix: list[ast.stmt] = [assign(name, source, line) for name, source in data.items() if name != source]
        free = set().union(*(loads(node) for node in body)) - {"model"} - set(data)
        stored = set().union(*(stores(node) for node in kept)) if kept else set()
        for name in sorted(free):
            if self._is_there(name) or (name in stored and not read_before_stored(name, body)):
                continue
            value = self._supplied.value(name, body) or self._supplied.next_tokens(name, data, self._filled_together())
            if value is None:
                if name in self._known or self._supplied.as_weights(body, name):
                    continue
                self._not(f"nothing tells what {name} is there; if it is data, give it: --input {name}=...")
                return None
            if value != name:
                prefix.append(assign(name, value, line))
        if "self" in free:
            try:
                made = self._supplied.of_trainer(body)
            except Unknown as missing:
                self._not(f"nothing tells what {missing} is there")
                return None
            prefix += [statement(text, line) for text in made]
            free = free - {"self"} | set().union(*(loads(node) for node in prefix))
        tree = ast.fix_missing_locations(ast.Module([*prefix, *body], []))
        if "model" not in set().union(*(loads(node) for node in tree.body)):
            return None
        if isinstance(final.value, ast.Name) and final.value.id == "loss":
            tree.body.pop()
        return self._sliced(tree, line, free)

    def _sliced(self, tree: ast.Module, line: int, free: set[str]) -> Slice:
        simple = all(not hasattr(node, "body") for node in tree.body)
        code = ("; " if simple else "\n").join(ast.unparse(node) for node in tree.body)
        got = self._supplied
        made_up = (*got.made_up, *self._lengths.items())
        needs = frozenset(free & self._known)
        return Slice(tree, code, str(self._file.path), line, needs, made_up, tuple(got.told), tuple(got.names), self._sure)

    def _is_there(self, name: str) -> bool:
        """Whether a name has its value wherever the step runs: of Python, torch, the inputs, or the file's top level."""
        loops = (block[at] for block, at in self._path)
        counted = set().union(*(stores(loop.target) for loop in loops if isinstance(loop, ast.For)))  # one may be called `iter`
        if (hasattr(builtins, name) and name not in counted) or name in ("torch", "self") or name in self._inputs:
            return True
        return name in self._known and name not in self._parameters

    def _filled_together(self) -> Iterator[set[str]]:
        """The names that loops and assignments before the end fill at once."""
        loops = (node.target for block, at in self._path if isinstance(node := block[at], ast.For))
        given = (t for node in self._before() if isinstance(node, ast.Assign) for t in node.targets)
        return (stores(target) for target in (*loops, *given) if isinstance(target, ast.Tuple))

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
