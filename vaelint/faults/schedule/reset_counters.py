"""Counters of a KL's schedule that every step puts back to the same number: the weight that is worked out from them never moves."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from vaelint.core.finding import Span
from vaelint.faults.schedule.schedule import StuckWeight, differs, unrepeated
from vaelint.record.record import span
from vaelint.trace.mode import set_mode

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_STEPS = 6
_MOVED = 7  # how far a counter is moved to see whether the weight follows


def reset_counters(model: Model) -> list[StuckWeight]:
    """Attributes that each step sets to a literal number, and that would move the KL's weight if they moved.

    Only a KL with a weight other than 1 is asked for, and only attributes that some function of the user's sets to a literal outside of
    constructors and conditions: one that is worked out from what the training loop keeps is the same all through a step by right. What is
    the weight itself is a constant that is written again, and what is counted up over and over within a step is the place in a loop.
    """
    weighted = [f for k in model.kls for f in k.factors if f.origin == "named" and f.value is not None and abs(f.value) != 1]
    resets = _resets(model) if weighted else {}
    if not resets:
        return []
    ends = _ends(model, set(resets))
    found = []
    for name, values in ends.items():
        constant = any(abs(f.value or 0.0) == abs(values[0]) for f in weighted)
        if len(values) == _STEPS and len(set(values)) == 1 and not constant and _moves_the_loss(model, name):
            found.append(StuckWeight(name, values[0], _STEPS, resets[name], None))
    return found


def _resets(model: Model) -> dict[str, Span]:
    """Attributes of self that functions other than constructors set to a literal number, unconditionally."""
    place = next((span(n) for n in model.record.nodes if span(n) is not None), None)
    found: dict[str, Span] = {}
    for function in model.source.file(place.file).functions() if place is not None else ():
        if function.name in ("__init__", "__post_init__"):
            continue
        # below a condition too where the number has a sign of plus: a `+=` with its characters exchanged
        for statement in (
            *function.body,
            *(n for n in ast.walk(function) if isinstance(n, ast.Assign) and isinstance(n.value, ast.UnaryOp)),
        ):
            if isinstance(statement, ast.Assign) and _is_number(statement.value) and place is not None:
                for target in statement.targets:
                    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                        end = (statement.end_col_offset or 0) + 1
                        found[target.attr] = Span(place.file, statement.lineno, statement.col_offset + 1, statement.end_lineno, end)
    return found


def _is_number(value: ast.expr) -> bool:
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.UAdd):
        return _is_number(value.operand)
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float) and not isinstance(value.value, bool)


def _ends(model: Model, names: set[str]) -> dict[str, list[float]]:
    """The value that each attribute has after each of a few real steps; attributes that a step does not set are left out.

    Raises NotExamined where a step cannot be repeated.
    """
    built = model.tracer.construct_real().model
    owners = [(o, n) for o in user_objects(built) for n in names if n in vars(o)]
    seen: dict[str, list[float]] = {}
    changed: dict[str, list[float]] = defaultdict(list)
    inputs = model.tracer.inputs(None)
    with _watched({type(o) for o, _ in owners}, names, changed, 0), torch.no_grad(), torch.random.fork_rng(devices=[], device_type="cpu"):
        set_mode(built, True)
        for _ in range(_STEPS):
            changed.clear()
            try:
                model.step(built, inputs)
            except Exception as error:
                raise unrepeated(error) from error
            for owner, name in owners:
                value = vars(owner)[name]
                if _is_put_back(changed[name]) and isinstance(value, int | float):
                    seen.setdefault(name, []).append(float(value))
    return seen


def _is_put_back(values: list[float]) -> bool:
    """Whether at least every second value that was set is the first one again: put back, and counted up once at most."""
    return bool(values) and 2 * values.count(values[0]) >= len(values)


def user_objects(built: torch.nn.Module) -> list[Any]:
    """The modules of the user's own, and the plain objects of the user's own that they hold."""
    found: list[Any] = [m for m in built.modules() if type(m).__module__.partition(".")[0] != "torch"]
    for owner in list(found):
        found += [
            v for v in vars(owner).values() if hasattr(v, "__dict__") and not isinstance(v, torch.nn.Module | torch.Tensor) and _of_user(v)
        ]
    return found


def _of_user(value: Any) -> bool:
    try:
        return not isinstance(value, type) and "site-packages" not in inspect.getfile(type(value))
    except TypeError:
        return False


@contextmanager
def _watched(classes: set[type], names: set[str], changed: dict[str, list[float]], by: int) -> Iterator[None]:
    """Notes which attributes are set on objects of these classes, and adds a number to what they are set to."""
    originals = {cls: cls.__setattr__ for cls in classes}

    def watching(original: Any) -> Any:
        def watch(self: Any, name: str, value: Any) -> None:
            numeric = name in names and isinstance(value, int | float) and not isinstance(value, bool)
            if numeric:
                changed[name].append(float(value))
            original(self, name, value + by if numeric and by else value)

        return watch

    try:
        for cls, original in originals.items():
            cls.__setattr__ = watching(original)  # type: ignore[method-assign]
        yield
    finally:
        for cls, original in originals.items():
            cls.__setattr__ = original  # type: ignore[method-assign]


def _moves_the_loss(model: Model, name: str) -> bool:
    """Whether numbers on the way to the loss are others when the counter starts further on and is set further on."""
    classes = {type(o) for o in user_objects(model.tracer.construct_real().model) if name in vars(o)}

    def build() -> torch.nn.Module:
        made = model.tracer.construct()
        for owner in user_objects(made):
            if isinstance(value := vars(owner).get(name), int | float):
                vars(owner)[name] = value + _MOVED
        return made

    with _watched(classes, {name}, defaultdict(list), _MOVED):
        moved = model.tracer.run(model.step, build=build)
    return moved.failure is None and differs(model.record, moved)
