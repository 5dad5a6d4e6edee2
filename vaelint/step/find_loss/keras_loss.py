"""The step of a Keras model: what `compile`, its own methods or its layers say, and what a loss makes of symbolic tensors."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from vaelint.loading.build import Loaded
from vaelint.loading.keras_calls import loss_of, tree_of
from vaelint.loading.keras_symbolic import Symbolic, reading
from vaelint.step.keras_steps import training_of
from vaelint.step.step import Step

_AT_COMPILE = "_compiled_loss"  # the step's name for what Keras computes


def keras_step(loaded: Loaded, model: nn.Module, step: Step, names: Sequence[str]) -> Step | None:
    """The step extended by the training of a Keras model; None where nothing says how it trains.

    A loss that Keras computes is that of the line which compiles the model.
    """
    if loaded.symbolic is not None:
        return _with_values_given(loaded, loaded.symbolic, step, names, by_layers=bool(getattr(model, "losses", None)))
    training = training_of(loaded, model, step.code, names)
    if training is None:
        return None
    notes = [*step.notes, *training.notes]
    if training.loss is None:
        made = Step(training.code, loaded, has_loss=True, call=step.call, notes=notes)
        made.partly = training.partly
        return made
    tree = ast.parse(training.code)
    last = tree.body[-1]
    assert isinstance(last, ast.Assign)
    taken = sorted({n.id for n in ast.walk(last.value) if isinstance(n, ast.Name)} - {"model", "out"})
    extra = {_AT_COMPILE: _standing_at(last.value, taken, training.loss, loaded.file)}
    last.value = ast.parse(f"{_AT_COMPILE}(model, out, {', '.join(taken)})", mode="eval").body
    return Step(training.code, loaded, has_loss=True, call=step.call, notes=notes, extra=extra, tree=ast.fix_missing_locations(tree))


def _standing_at(expression: ast.expr, taken: Sequence[str], place: ast.expr, file: str) -> Callable[..., Any]:
    """A function of the model, its output and the inputs that evaluates an expression, with the place of another one in the file."""
    written = ast.parse(f"lambda model, out, {', '.join(taken)}: 0" if taken else "lambda model, out: 0", mode="eval")
    assert isinstance(written.body, ast.Lambda)
    written.body.body = expression
    for node in ast.walk(written.body):
        if isinstance(node, ast.expr | ast.arg):
            ast.copy_location(node, place)
    made: Callable[..., Any] = eval(compile(written, file, "eval"), {})
    return made


def _placed(loss: Callable[..., Any] | None, loaded: Loaded) -> Callable[..., Any] | None:
    """A loss of Keras' own with the place where `compile` gets it."""
    place = loss_of(tree_of(loaded.file), loaded.name) if loss is not None else None
    if place is None:
        return loss
    written = ast.parse("lambda target, output: loss(target, output)", mode="eval")
    for node in ast.walk(written.body):
        if isinstance(node, ast.expr | ast.arg):
            ast.copy_location(node, place)
    placed: Callable[..., Any] = eval(compile(written, loaded.file, "eval"), {"loss": loss})
    return placed


def _with_values_given(loaded: Loaded, symbolic: Symbolic, step: Step, names: Sequence[str], *, by_layers: bool) -> Step:
    """The step whose loss gets the values of the tensors that it reads as symbols: what its author meant.

    `by_layers`: layers add to the loss, as they are called.
    """
    more = " + sum(model.losses)" if by_layers else ""
    read = ", ".join(symbolic.names)
    outputs = ", ".join(["out"] if symbolic.outputs == 1 else [f"out{i + 1}" for i in range(symbolic.outputs)])
    first = outputs if symbolic.outputs == 1 else f"[{outputs}]"
    if symbolic.added:
        terms = [f"{n}.sum()" for n in symbolic.names]
        terms = [f"compiled_loss({names[0]}, {first}).mean()", *terms] if symbolic.loss is not None else terms
        text = f"{outputs}, {read} = {step.call}; loss = {' + '.join(terms)}{more}"
        note = "the loss is that of the model's compile and add_loss" if symbolic.loss is not None else "the loss is that of add_loss"
        extra: dict[str, Any] = {"compiled_loss": _placed(symbolic.loss, loaded)}
        return Step(text, loaded, has_loss=True, call=step.call, notes=[*step.notes, note], extra=extra)
    assert isinstance(symbolic.loss, types.FunctionType)
    name = symbolic.loss.__name__ if symbolic.loss.__name__.isidentifier() else "compiled_loss"
    if symbolic.as_arguments:
        code = f"{name}({names[0]}, {first}, {read})"
    else:
        given = ", ".join(f"{n}={n}" for n in symbolic.names)
        code = f"reading({name}, {given})({names[0]}, {first})"
    note = f"{name} is given the values of {read}, as if they were outputs of the model"
    extra = {name: symbolic.loss, "reading": reading}
    text = f"{outputs}, {read} = {step.call}; loss = {code}.mean(){more}"
    return Step(text, loaded, has_loss=True, call=step.call, notes=[*step.notes, note], extra=extra)
