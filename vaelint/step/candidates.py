"""Functions, methods and classes that may compute a model's loss, each once. Calls none of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from vaelint.core.paths import class_file
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.loading.construct import signature_of
from vaelint.step.bind import wanted_by
from vaelint.step.meaning import KL_NAME, NOT_TRAINING, Kind, is_loss_name, is_step_name, kinds
from vaelint.step.reading import computes_a_loss, returns_a_value, trains, tree_of
from vaelint.trace.keras_models import forward_of, of_keras

PART = 9  # the rank of what is a term by its name, never the whole loss


@dataclass(frozen=True)
class Candidate:
    """Something that may compute the loss: how it is written, and the function behind it."""

    expr: str
    name: str
    function: Callable[..., Any]
    rank: int  # 0 methods, 1 functions, 2 loss classes; 3 and 4 functions and methods whose name says nothing
    skip_self: bool = False
    made_up: tuple[tuple[str, str], ...] = ()


def is_whole_loss(function: Callable[..., Any], name: str) -> bool:
    """Whether a method of this name returns a loss of its own making."""
    return (is_loss_name(name) or is_step_name(name)) and returns_a_value(tree_of(function)) and not trains(function)


def candidates(loaded: Loaded, model: nn.Module) -> Iterator[Candidate]:
    """Methods of the model, then functions of its module, then loss classes; each function once."""
    seen: set[object] = {getattr(forward_of(model), "__code__", None)} - {None}
    for candidate in (*_methods(model), *_functions(loaded), *_loss_objects(loaded, model)):
        code = getattr(candidate.function, "__code__", candidate.function)
        if code in seen:
            continue
        if is_whole_loss(candidate.function, candidate.name):
            seen.add(code)
            yield candidate
        elif _may_be_a_loss(candidate):
            seen.add(code)
            yield replace(candidate, rank=candidate.rank + (4 if candidate.rank == 0 else 2))
        elif KL_NAME.search(candidate.name) and returns_a_value(tree_of(candidate.function)):
            yield replace(candidate, rank=PART)


def _may_be_a_loss(candidate: Candidate) -> bool:
    """Whether something of a name that says nothing reads like a loss: by its parameters, or by what it calls."""
    if (
        candidate.name.startswith("__")
        or NOT_TRAINING.match(candidate.name)
        or trains(candidate.function)
        or not returns_a_value(tree_of(candidate.function))
    ):
        return False
    if candidate.rank == 0:
        return computes_a_loss(candidate.function)
    wanted = {w.kinds[0] for w in wanted_by(candidate.function) or () if w.kinds}
    return {Kind.RECON, Kind.TARGET} <= wanted and bool(wanted & {Kind.MU, Kind.SCALE, Kind.POSTERIOR})


def _methods(model: nn.Module) -> Iterator[Candidate]:
    for base in type(model).__mro__:
        if base in nn.Module.__mro__ or base.__name__ == "LightningModule" or of_keras(base):
            continue
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if inspect.isfunction(function):
                yield Candidate(f"model.{name}", name, function, 0, not isinstance(value, staticmethod))


def _functions(loaded: Loaded) -> Iterator[Candidate]:
    for name, value in loaded.namespace.items():
        if inspect.isfunction(value) and loaded.is_user(value.__code__.co_filename):
            yield Candidate(name, name, value, 1)


def _loss_objects(loaded: Loaded, model: nn.Module) -> Iterator[Candidate]:
    """Losses that are modules: parts of the model, objects of its file, classes of its file that need no arguments."""

    def of_user(cls: type) -> bool:
        file = class_file(cls)
        return file != "" and loaded.is_user(file) and inspect.isfunction(getattr(cls, "forward", None))

    for name, part in model.named_children():
        if of_user(type(part)) and (is_loss_name(name) or is_loss_name(type(part).__name__)):
            yield Candidate(f"model.{name}", "loss", type(part).forward, 0, True)
    for name, value in loaded.namespace.items():
        if isinstance(value, nn.Module) and of_user(type(value)) and (is_loss_name(name) or is_loss_name(type(value).__name__)):
            yield Candidate(name, "loss", type(value).forward, 2, True)
        elif inspect.isclass(value) and issubclass(value, nn.Module) and value is not type(model) and of_user(value) and is_loss_name(name):
            yield from made_of(name, value)


def made_of(name: str, value: type) -> Iterator[Candidate]:
    """A loss that is a class: an object of it, if nothing but weights must be given to make it."""
    arguments, made_up = [], []
    for p in signature_of(value).parameters.values():
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            arguments.append(f"{p.name}=1.0" if Kind.WEIGHT in kinds(p.name) else "")
            made_up.append((p.name, "1.0"))
    call = getattr(value, "forward", None) or getattr(value, "__call__", None)  # noqa: B004  (a loss may be any class that is called)
    if all(arguments) and inspect.isfunction(call):
        yield Candidate(f"{name}({', '.join(arguments)})", "loss", call, 2, True, tuple(made_up))
