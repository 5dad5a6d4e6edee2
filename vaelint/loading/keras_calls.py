"""What a file says of a Keras model's training: its `compile(...)` and its `fit(...)`, read from the text."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaelint.core.paths import relative
from vaelint.late import dataclass
from vaelint.loading.imports import import_part, parsed
from vaelint.repository.dataflow import needed_of
from vaelint.repository.objects import Unknown
from vaelint.repository.scopes import File
from vaelint.repository.values import Reader
from vaelint.source.blame import one_line
from vaelint.trace.keras_models import is_users


@dataclass(frozen=True)
class Written:
    """A call of a method of the model: the name of the model there, and what it is given."""

    receiver: str
    call: ast.Call

    def given(self, name: str, place: int) -> ast.expr | None:
        """The argument of this name, or at this place."""
        named = next((k.value for k in self.call.keywords if k.arg == name), None)
        return named if named is not None or len(self.call.args) <= place else self.call.args[place]


def calls_of(tree: ast.Module, target: str, method: str) -> list[Written]:
    """The calls of `method` on what `target` makes, or on `target` itself; on the one receiver that there is, where it made none."""
    found = list(_calls(tree, method))
    made = {target, *_made_by(tree, target)}
    mine = [w for w in found if w.receiver in made]
    return mine or (found if len({w.receiver for w in found}) == 1 else [])


def _calls(tree: ast.Module, method: str) -> Iterator[Written]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield Written(ast.unparse(node.func.value), node)


def _made_by(tree: ast.Module, target: str) -> Iterator[str]:
    """The names that hold what a call of `target` returns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func).rpartition(".")[2] == target:
            yield from (ast.unparse(t) for t in node.targets)


def compiled_as(tree: ast.Module, target: str, file: str, namespace: Mapping[str, Any], model: Any) -> str:
    """Compiles a model that nothing has compiled, with the loss that the file compiles it with. What could not be read, in words, or ""."""
    if getattr(model, "compiled", True) or is_users(model, "compile"):
        return ""
    said, loss = "", None
    weights = None
    for written in calls_of(tree, target, "compile")[:1]:
        try:
            loss = _value(written.given("loss", 1), file, namespace)
            weights = _value(written.given("loss_weights", 2), file, namespace)
        except Exception as error:  # noqa: BLE001  (users' code raises anything; said)
            said = f"line {written.call.lineno} compiles the model with a loss that cannot be read there: {one_line(error)}"
    if loss is not None or is_users(model, "train_step") or is_users(model, "compute_loss"):
        model.compile(optimizer="adam", loss=loss, loss_weights=weights)
    return said


def compiled_elsewhere(reader: Reader, home: str, target: str, model: Any) -> str:
    """Compiles a model that its own file does not compile as another file of the repository does; that place in words, or ""."""
    if getattr(model, "compiled", True) or is_users(model, "compile") or calls_of(tree_of(home), target, "compile"):
        return ""
    for file in reader.repository.holding(target, ".compile("):
        if not _is_made_in(file, reader, Path(home).resolve(), target):
            continue
        made = {*_made_by(file.tree, target)}
        for written in (w for w in _calls(file.tree, "compile") if w.receiver in made and str(file.path) != home):
            given = [written.given("loss", 1), written.given("loss_weights", 2)]
            place = f"{relative(str(file.path))}:{written.call.lineno}"
            try:
                names = {n.id for e in given if e is not None for n in ast.walk(e) if isinstance(n, ast.Name)}
                module = import_part(file.path, needed_of(file.tree, names), []) if names else None
                loss, weights = (_value(e, str(file.path), vars(module) if module is not None else {}) for e in given)
            except Exception as error:  # noqa: BLE001  (users' code raises anything; said)
                return f"{place} compiles the model with a loss that cannot be read there: {one_line(error)}"
            model.compile(optimizer="adam", loss=loss, loss_weights=weights)
            return f"the model is compiled as at {place}"
    return ""


def _is_made_in(file: File, reader: Reader, home: Path, target: str) -> bool:
    """Whether a file calls the target of the file `home`, and not another class of its name."""
    for site in file.calls:
        if ast.unparse(site.call.func).rpartition(".")[2] == target:
            with contextlib.suppress(Unknown):
                return reader.definition(site.call.func, site.scope) == (home, target)
    return False


def tree_of(file: str) -> ast.Module:
    """A target's file, as far as it is Python."""
    return parsed(Path(file)) if file.endswith((".py", ".ipynb")) else ast.Module([], [])


def _value(expression: ast.expr | None, file: str, namespace: Mapping[str, Any]) -> Any:
    if expression is None:
        return None
    return eval(compile(ast.Expression(expression), file, "eval"), dict(namespace))


def made_at(tree: ast.Module, target: str) -> ast.expr | None:
    """What the file's top level assigns to `target` last."""
    found = (n.value for n in tree.body if isinstance(n, ast.Assign) and any(ast.unparse(t) == target for t in n.targets))
    return next(iter(reversed(list(found))), None)


def loss_of(tree: ast.Module, target: str) -> ast.expr | None:
    """What the file gives `compile` as the loss."""
    given = (w.given("loss", 1) for w in calls_of(tree, target, "compile"))
    return next((expression for expression in given if expression is not None), None)


def target_of(tree: ast.Module, target: str) -> tuple[ast.expr, ast.expr | None, int] | None:
    """What `fit` gets as x and y, and its line; y is None where it gets none. None where nothing says."""
    for written in calls_of(tree, target, "fit"):
        x, y = written.given("x", 0), written.given("y", 1)
        if x is not None:
            return x, y, written.call.lineno
    return None
