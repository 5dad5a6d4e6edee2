"""Parameters that no optimizer gets: from the optimizers that the step built, else from those that the file writes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from vaelint.anatomy.attribute_use import usage_of
from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Span
from vaelint.faults.gradients.chosen_parameters import chosen, filled
from vaelint.faults.gradients.left_out import leaving_out
from vaelint.late import dataclass

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model
    from vaelint.source.written import SourceFile

_NAMES = frozenset(n for n, v in vars(torch.optim).items() if isinstance(v, type) and issubclass(v, torch.optim.Optimizer))
_LISTS = frozenset({"list", "chain", "itertools.chain", "tuple", "sorted"})


@dataclass(frozen=True)
class Missed:
    """Optimizers that leave out parameters which the loss moves."""

    span: Span | None
    layers: tuple[str, ...]
    parameters: tuple[str, ...]
    branch: Span | None = None  # where a loop that sorts the parameters leaves them out


def missed_parameters(model: Model) -> list[Missed]:
    """VAE504. Optimizers of one file share the parameters among them: what any of them has is not missed."""
    built = model.record.optimizers
    gradients = gradients_of(model)
    covered = {name for o in built for i, name in gradients.trainable.items() if i in o.parameters}
    if built and not covered:
        return []
    if any(o.in_step for o in built):
        if model.record.last_pass is None and not covered & _of_the_bound(model):
            return []  # the step trains a critic, and leaves the model's loss to others
        return _missed(model, built[0].span, covered)  # the step is a whole training step
    if built and not covered & _of_the_bound(model):
        return []  # a critic's own: the model's optimizer is built elsewhere
    lines = {(o.span.file, o.span.line) for o in built if o.span is not None}
    for file in dict.fromkeys(_files(model)):
        written = _Written(model, model.source.file(file), file, lines)
        named = written.covered()
        if named is None:
            return []
        if built or written.first is not None:
            return _missed(model, built[0].span if built else written.span, covered | named)
    return _missed(model, built[0].span, covered) if built else []


@dataclass(frozen=True)
class Given:
    """An optimizer that the file writes out: its class, the options that are plain numbers, and the parameters it gets."""

    name: str
    options: dict[str, Any]
    covered: frozenset[str]


def given_optimizer(model: Model) -> Given | None:
    """The first optimizer that the model's file builds over this model's parameters; None where there is none that can be read."""
    for file in _files(model):
        written = _Written(model, model.source.file(file), file)
        covered = written.covered()
        if covered and written.first is not None:
            options = {k.arg: k.value.value for k in written.first.keywords if k.arg and isinstance(k.value, ast.Constant)}
            return Given(_called(written.first).rpartition(".")[2], options, frozenset(covered))
    return None


def _files(model: Model) -> list[str]:
    own = usage_of(model).file_of(model.record.model)
    return [f for f in (own,) if f]


def _of_the_bound(model: Model) -> set[str]:
    """Parameters that reconstruction and KL are made of; all of them where neither was found."""
    terms = [t for role in ("reconstruction", "kl", "mixed") for t in model.terms_of(role)]
    nodes = {leaf.node for t in terms for leaf in t.leaves}
    return gradients_of(model).names(model.flow.ancestors(*nodes)) if nodes else set(gradients_of(model).trainable.values())


def _missed(model: Model, span: Span | None, covered: set[str]) -> list[Missed]:
    left = gradients_of(model).touched - covered
    if not left:
        return []
    layers: list[str] = []
    for path, module in model.record.model.named_modules():
        own = {f"{path}.{n}" for n, p in module.named_parameters() if p.requires_grad}
        if path and own and own <= left and not any(path.startswith(f"{p}.") for p in layers):
            layers.append(path)
    return [Missed(span, tuple(layers), tuple(sorted(left)), leaving_out(model, span, set(left)))]


class _Written:
    """The optimizers that a file's text builds, as far as their parameters can be read from it."""

    def __init__(self, model: Model, source: SourceFile, file: str, known: Collection[tuple[str, int]] = ()) -> None:
        self._model, self._source, self._file, self._known = model, source, file, known
        self.span: Span | None = None
        self.first: ast.Call | None = None

    def covered(self) -> set[str] | None:
        """Names of all parameters that some optimizer gets, those at known places left out; None where something cannot be read."""
        names: set[str] = set()
        for function in (*self._source.functions(), _top_level(self._source.tree)):
            if self._trains_something_else(function):
                continue
            for call in ast.walk(function):
                if not isinstance(call, ast.Call) or (self._file, call.lineno) in self._known:
                    continue
                builds = self._builds(call)
                if not builds and _called(call).rpartition(".")[2] != "add_param_group":
                    continue
                argument = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg in ("params", "param_group")), None)
                paths = self._paths(argument, function, 0) if argument is not None else None
                got = self._names(paths) if paths is not None else None
                if got is None:
                    return None
                names |= got
                if builds:
                    self.span, self.first = self.span or self._place(call), self.first or call
        return names

    def _trains_something_else(self, function: ast.AST) -> bool:
        """Whether a function calls `backward()` and nothing of the model that the step calls: pretraining, with an optimizer of its own."""
        try:
            step = ast.parse(self._model.step.code)
        except SyntaxError:
            return False  # of an observed iteration, which is told in words
        asked = _calls_of(step, lambda name: name == "model")
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
        if not asked or not any(isinstance(c.func, ast.Attribute) and c.func.attr == "backward" for c in calls):
            return False
        known = vars(sys.modules.get(type(self._model.record.model).__module__, ast))
        return not asked & _calls_of(function, lambda name: name not in known)

    def _builds(self, call: ast.Call) -> bool:
        """Whether a call makes an optimizer: by what its name stands for in the model's module, else as torch names them."""
        value: Any = sys.modules.get(type(self._model.record.model).__module__)
        for part in _called(call).split("."):
            value = getattr(value, part, None)
        if isinstance(value, type):
            return issubclass(value, torch.optim.Optimizer)
        return value is None and _called(call).rpartition(".")[2] in _NAMES

    def _names(self, paths: set[str]) -> set[str] | None:
        found: set[str] = set()
        for path in paths:
            try:
                module = self._model.record.model.get_submodule(path)
            except AttributeError:
                owner, _, last = path.rpartition(".")
                try:
                    held = getattr(self._model.record.model.get_submodule(owner), last, None)
                except AttributeError:
                    return None
                if not isinstance(held, torch.nn.Parameter):
                    return None  # the text speaks of another model
                found.add(path)
                continue
            found |= {f"{path}.{n}" if path else n for n, _ in module.named_parameters()}
        return found

    def _paths(self, node: ast.expr, function: ast.AST, depth: int) -> set[str] | None:
        """Dotted paths below the model whose parameters an expression holds; None when it cannot be read."""
        if depth > 6:
            return None
        if isinstance(node, ast.ListComp | ast.GeneratorExp) or (isinstance(node, ast.Call) and _called(node) == "filter"):
            return chosen(node, self._model.record.model, self._file)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "parameters":
                return _below(node.func.value)
            if _called(node) in _LISTS or (isinstance(node.func, ast.Name) and node.func.id == "list"):
                return self._union(node.args, function, depth)
            return None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._union([node.left, node.right], function, depth)
        if isinstance(node, ast.List | ast.Tuple):
            return self._union(node.elts, function, depth)
        if isinstance(node, ast.Starred):
            return self._paths(node.value, function, depth + 1)
        if isinstance(node, ast.Dict):
            values = [v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant) and k.value == "params"]
            return self._union(values, function, depth) if values else None
        if isinstance(node, ast.Name):
            return self._named(node.id, function, depth)
        if isinstance(node, ast.Attribute):
            return _below(node)
        return None

    def _named(self, name: str, function: ast.AST, depth: int) -> set[str] | None:
        """A local variable, when it is assigned once and only extended otherwise, or filled by a loop."""
        by_loop = filled(name, function, self._model.record.model, self._file)
        if by_loop is not None:
            return by_loop
        values: list[ast.expr] = []
        for part in ast.walk(function):
            if _assigns(part, name):
                values.append(part.value)
            elif (
                isinstance(part, ast.Call)
                and isinstance(part.func, ast.Attribute)
                and isinstance(part.func.value, ast.Name)
                and part.func.value.id == name
            ):
                if part.func.attr not in ("extend", "append"):
                    return None
                values += part.args
        return self._union(values, function, depth) if values else None

    def _union(self, parts: list[ast.expr], function: ast.AST, depth: int) -> set[str] | None:
        found: set[str] = set()
        for part in parts:
            paths = self._paths(part, function, depth + 1)
            if paths is None:
                return None
            found |= paths
        return found

    def _place(self, call: ast.Call) -> Span:
        column, end = self._source.column, call.end_lineno or call.lineno
        return Span(self._file, call.lineno, column(call.lineno, call.col_offset), end, column(end, call.end_col_offset or 0))


def _top_level(tree: ast.Module) -> ast.Module:
    """What runs when the file itself does, `if __name__ == "__main__":` among it."""
    return ast.Module([s for s in tree.body if not isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)], [])


def _calls_of(tree: ast.AST, is_model: Callable[[str], bool]) -> set[str]:
    """The methods that are called in some code; "" where a name is called that may be the model."""
    found: set[str] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            found.add(call.func.attr)
        elif isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and is_model(call.func.id):
            found.add("")
    return found


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""


def _below(node: ast.expr) -> set[str] | None:
    """`model.encoder.fc` as `encoder.fc`; `model` itself as ``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return {".".join(parts)} if isinstance(node, ast.Name) else None


def _assigns(part: ast.AST, name: str) -> TypeGuard[ast.Assign | ast.AugAssign]:
    targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AugAssign) else []
    return any(isinstance(t, ast.Name) and t.id == name for t in targets)
