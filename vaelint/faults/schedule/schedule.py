"""Weights of the KL that are attributes of the model: which have no effect, which do not move."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.core.errors import NotExamined
from vaelint.core.finding import Label, Span
from vaelint.faults.schedule.divisors import divides
from vaelint.faults.schedule.kl_products import kl_products
from vaelint.late import dataclass
from vaelint.record.record import Record, span
from vaelint.source.blame import one_line
from vaelint.source.written import SourceFile
from vaelint.trace.mode import set_mode

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

WEIGHT = re.compile(
    r"^(beta|kl|kld|lambda_?kld?|kld?_?(weight|coeff?|coef|lambda|beta|factor|scale|w)|(weight|coeff?|coef|lambda|beta)_?kld?|beta_?(vae|kl))$",
    re.IGNORECASE,
)
"""Names that weights of the KL go by."""

_STEPS = 40
_SIZES = (6.0, 0.0)  # of the parameters, in units of their own


@dataclass(frozen=True)
class UnusedWeight:
    """A hyper-parameter that changes nothing."""

    name: str
    value: float
    label: Label | None
    instead: str  # the weight that does multiply the KL, as written; empty if none does
    stored: bool = True  # in an attribute; else it is an argument of the loss
    by_name: bool = True  # only its name says that it is a weight of the KL


@dataclass(frozen=True)
class StuckWeight:
    """A weight that the step sets again and again to where it was."""

    name: str
    value: float
    steps: int
    span: Span | None
    label: Label | None
    dropped: bool = False  # its next value is worked out and kept nowhere


def idle_weights(model: Model) -> list[UnusedWeight]:
    """Attributes that weigh a KL, or are named so, whose change leaves every number on the way to the loss as it was."""
    if not any(f.scaling is not None and f.scaling.constant for f in model.kls) or model.record.failure is not None:
        return []
    found = []
    products = kl_products(model) & {f"self.{name}" for name in _given(model)}
    for owner, name, value in _weights(model.record.model, products):
        if _assigned_outside_init(model, name) or _read_on_condition(model, name):
            continue  # a schedule, whose start need not matter; or another mode of the loss, not taken here, has it
        changed = model.tracer.run(model.step, build=_with_attribute(model, owner, name, value * 3 + 1))
        if changed.failure is None and not differs(model.record, changed):
            found.append(UnusedWeight(name, value, _assignment(model, name), applied_weight(model), by_name=f"self.{name}" not in products))
    return found


def applied_weight(model: Model) -> str:
    """Another weight of the KL, as the code writes it."""
    named = (f.text for fact in model.kls for f in fact.factors if f.origin == "named")
    return next((text for text in named if text), "")


def _weights(module: torch.nn.Module, products: frozenset[str]) -> list[tuple[str, str, float]]:
    found = []
    for path, sub in module.named_modules():
        if type(sub).__module__.partition(".")[0] == "torch":
            continue  # a Softplus has a beta of its own
        for name, value in vars(sub).items():
            if (WEIGHT.match(name) or f"self.{name}" in products) and isinstance(value, int | float) and not isinstance(value, bool):
                found.append((path, name, float(value)))
    return found


def _with_attribute(model: Model, owner: str, name: str, value: float) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        made = model.tracer.construct()
        setattr(made.get_submodule(owner), name, value)
        return made

    return build


def _assigned_outside_init(model: Model, name: str) -> bool:
    place = next((span(n) for n in model.record.nodes if span(n) is not None), None)
    if place is None:
        return False
    for function in model.source.file(place.file).functions():
        for node in ast.walk(function) if function.name != "__init__" else ():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
            if any(isinstance(t, ast.Attribute) and t.attr == name for t in targets):
                return True
    return False


def _read_on_condition(model: Model, name: str) -> bool:
    """Whether a branch of the user's functions reads the attribute."""
    files = {s.file for n in model.record.nodes for s in n.meta.get("stack", ())}
    functions = [f for file in sorted(files) for f in model.source.file(file).functions()]
    branches = [b for f in functions for n in ast.walk(f) if isinstance(n, ast.If | ast.IfExp | ast.Match) for b in ast.iter_child_nodes(n)]
    return any(isinstance(n, ast.Attribute) and n.attr == name and isinstance(n.ctx, ast.Load) for b in branches for n in ast.walk(b))


def differs(one: Record, other: Record) -> bool:
    """Whether any number among the arguments of the nodes that the loss depends on differs between two runs."""
    from vaelint.record.flow import analyse_flow

    if one.loss is None or other.loss is None:
        return True
    mine, theirs = one.nodes, other.nodes
    if len(mine) != len(theirs):
        return True
    reached = analyse_flow(one).ancestors(one.loss)
    return any(a in reached and _numbers(a) != _numbers(b) for a, b in zip(mine, theirs, strict=True))


def _numbers(node: fx.Node) -> list[float]:
    found: list[float] = []

    def visit(value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append(float(value))
        elif isinstance(value, tuple | list):
            for v in value:
                visit(v)

    if not node.meta.get("moving"):
        visit(node.args)
        visit(list(node.kwargs.values()))
    constant = node.meta.get("val") if node.op == "call_function" and not node.all_input_nodes and node.meta.get("scalar") else None
    if isinstance(constant, int | float):
        found.append(float(constant))
    return found


def _given(model: Model) -> set[str]:
    """Attributes that hold an argument of a constructor as it is: a hyper-parameter, where other numbers may be units."""
    files = sorted({s.file for n in model.record.nodes for s in n.meta.get("stack", ())})
    makers = [f for file in files for f in model.source.file(file).functions() if f.name == "__init__"]
    return {
        t.attr
        for maker in makers
        for node in ast.walk(maker)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
        if node.value.id in {a.arg for a in (*maker.args.args, *maker.args.kwonlyargs)}
        for t in node.targets
        if isinstance(t, ast.Attribute)
    }


def _assignment(model: Model, name: str) -> Label | None:
    place = next((span(n) for n in model.record.nodes if span(n) is not None), None)
    if place is None:
        return None
    for node in ast.walk(model.source.file(place.file).tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for t in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(t, ast.Attribute) and t.attr == name:
                        return Label(
                            Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1),
                            f"{name} is stored here",
                        )
    return None


def returning_weights(model: Model) -> list[StuckWeight]:
    """KL weights that are 0, are attributes, and are still 0 after the step has set them many times."""
    zero = _zero_weight_names(model)
    divided = _whole_number_schedules(model)
    if not zero or divided:
        return divided
    watched = _run_many(model, zero)
    still = {name for name, values in watched.items() if len(values) >= _STEPS and all(v == 0 for v in _settled(values))}
    for size in _SIZES if still else ():  # a controller follows the loss: it may rest at its bound for the values of a new model
        still -= {name for name, values in _run_many(model, still, size).items() if any(_settled(values))}
    found = []
    for name in watched:
        if name in still:
            place, label = _reset_place(model, name)
            found.append(StuckWeight(name, 0.0, _STEPS, place, label))
    return found


def _settled(values: list[float]) -> list[float]:
    """The value each step ends with: the last of the sets that belong together."""
    per_step = max(1, len(values) // _STEPS)
    return values[per_step - 1 :: per_step]


def _whole_number_schedules(model: Model) -> list[StuckWeight]:
    """A weight of 0 that comes from a division of whole numbers: 0 until the very end of the warm-up, then 1. A length that only divides,
    `step / (total // 4)`, cuts no ramp."""
    found = []
    for fact in model.kls:
        for factor in fact.factors:
            place = span(factor.node)
            if factor.origin != "named" or factor.value != 0 or place is None:
                continue
            file = model.source.file(place.file)
            here = file.at(place)
            called = set(re.findall(r"\w+", factor.text))
            for body in [*_bodies(model, file, called), *([here] if here is not None else [])]:
                for node in ast.walk(body):
                    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv) and not divides(body, node):
                        where = Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
                        found.append(StuckWeight(factor.text, 0.0, 1, where, Label(place, "weighs the KL here")))
    return found


def _bodies(model: Model, file: SourceFile, called: set[str]) -> list[ast.AST]:
    """The functions and called objects of these names, and the functions that they call."""
    bodies: list[ast.AST] = [f for f in file.functions() if f.name in called]
    bodies += _call_methods(model, file.tree, called)
    inner = {n.func.id for b in bodies for n in ast.walk(b) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    inner |= {n.func.attr for b in bodies for n in ast.walk(b) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    return bodies + [f for f in file.functions() if f.name in inner and f not in bodies]


def _call_methods(model: Model, tree: ast.AST, names: set[str]) -> list[ast.AST]:
    """`__call__` of the classes of the model's attributes with these names: a schedule that is an object."""
    kinds = {type(vars(model.record.model).get(n)).__name__ for n in names}
    classes = [c for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name in kinds]
    return [f for c in classes for f in c.body if isinstance(f, ast.FunctionDef) and f.name == "__call__"]


def _zero_weight_names(model: Model) -> set[str]:
    names = set()
    for fact in model.kls:
        for factor in fact.factors:
            if factor.origin == "named" and factor.value == 0 and (m := re.search(r"self\.(\w+)", factor.text)):
                names.add(m[1])
    return names


def _run_many(model: Model, names: set[str], size: float = 1.0) -> dict[str, list[float]]:
    """Runs the step repeatedly on one real model and notes every value the attributes are set to. Raises NotExamined.

    Args:
        model: whose step.
        names: of attributes.
        size: what the model's parameters are multiplied with before.
    """
    seen: dict[str, list[float]] = {n: [] for n in names}
    built = model.tracer.construct_real().model
    cls = type(built)
    original = cls.__setattr__

    def watch(self: Any, name: str, value: Any) -> None:
        if name in seen and isinstance(value, int | float):
            seen[name].append(float(value))
        original(self, name, value)

    inputs = model.tracer.inputs(None)
    cls.__setattr__ = watch  # type: ignore[method-assign]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[], device_type="cpu"):
            set_mode(built, True)
            for parameter in built.parameters() if size != 1 else ():
                parameter.mul_(size)
            for _ in range(_STEPS):
                model.step(built, inputs)
    except Exception as error:
        raise unrepeated(error) from error
    finally:
        cls.__setattr__ = original  # type: ignore[method-assign]
    return seen


def unrepeated(error: Exception) -> NotExamined:
    """What is said where the step raises when it is run again on the same model."""
    return NotExamined(f"whether the KL's weight moves was not examined, as the step cannot be repeated on one model: {one_line(error)}")


def _reset_place(model: Model, name: str) -> tuple[Span | None, Label | None]:
    """The condition around the assignment that puts the weight back, else the last assignment."""
    place = next((span(n) for n in model.record.nodes if span(n) is not None), None)
    if place is None:
        return None, None
    file = model.source.file(place.file)
    best: Span | None = None
    label: Label | None = None
    for function in file.functions():
        if function.name == "__init__":
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.If | ast.Assign | ast.AugAssign):
                continue
            for statement in node.body if isinstance(node, ast.If) else [node]:
                targets = (
                    statement.targets
                    if isinstance(statement, ast.Assign)
                    else [statement.target]
                    if isinstance(statement, ast.AugAssign)
                    else []
                )
                if any(isinstance(t, ast.Attribute) and t.attr == name for t in targets):
                    spanned = Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
                    if isinstance(node, ast.If):
                        return spanned, label
                    label = Label(spanned, "set here")
                    best = best or spanned
    return best, None
