"""Training code of the target's own file, called as it is: with the model, its optimizers and the data. Runs no user code.

Where a function or a method differentiates the loss of the model and all that it wants is known, calling it is the user's step, and more is
seen than in the loss that can be cut out of it: optimizers, averages, turns, where gradients are cleared.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Any

from torch import nn

from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.step.meaning import LITERALS, NOT_TRAINING, Kind, kinds
from vaelint.step.reading import batch_of, returns_a_value, trains, tree_of

_STEPS = frozenset({"step", "zero_grad"})
PLAIN_OPTIMIZER = "torch.optim.SGD(model.parameters(), lr=0.001)"
"""Stands for an optimizer of which nothing is known: without momentum, so that nothing but the gradients of a step moves anything."""
_OUTSIDE = re.compile(
    r"save(?:z|fig|_image)?|dump|open|write(?:_text|_bytes)?|to_csv|mkdir|makedirs|remove|unlink|rmtree|add_(?:scalars?|images?|figure|histogram)"
    r"|log_(?:metrics|dict)|system|run|Popen|urlopen|urlretrieve"
)
"""Calls that leave something outside: nobody has asked for that."""
_MOST_TURNS = 8  # a loop of more turns is a training, not a step
_MODULE = frozenset(dir(nn.Module()))


@dataclass(frozen=True)
class Whole:
    """A call of training code: the statements, the line of the function, and what vaelint chose for it."""

    code: str
    line: int
    made_up: dict[str, str] = field(default_factory=dict)


@dataclass
class _Call:
    """One call that is put together: statements that come first, and what was chosen."""

    model: nn.Module
    inputs: Sequence[str]
    makers: dict[str, int]  # calls that make optimizers out of the model, and how many they return: 1, or the parts of a tuple
    first: list[str] = field(default_factory=list)
    made_up: dict[str, str] = field(default_factory=dict)

    def arguments(self, function: Callable[..., Any], *, method: bool, data: bool) -> str | None:
        """What the function gets, as text; None where something that it wants is not known. `data` says whether all inputs go in."""
        wanted, tree = _wanted(function)[1 if method else 0 :], tree_of(function)
        known = {p.name: "model" for p in wanted if _is_model(p.name, tree, self.model)}
        made = self._optimizers([p.name for p in wanted if p.name not in known and _steps(p.name, tree)], tree)
        if made is None or (data and len(known) > 1):
            return None
        known |= made | {p.name: p.name for p in wanted if data and p.name in self.inputs}
        known |= {p.name: v for p in wanted if p.name not in known and (v := self._chosen(p.name)) is not None}
        left = [p.name for p in wanted if p.name not in known]
        rest = self._rest(function, left, [n for n in self.inputs if n not in known.values()]) if data else {}
        if len(rest) < len(left) or (data and _goes_over(left, tree)):
            return None
        known |= rest
        return ", ".join(known[p.name] if p.kind is not p.KEYWORD_ONLY else f"{p.name}={known[p.name]}" for p in wanted)

    def _rest(self, function: Callable[..., Any], left: list[str], unused: list[str]) -> dict[str, str]:
        """The inputs that no parameter is called after, for the parameters that are left, where these are as many; all for one."""
        if len(left) == 1 and unused:
            return {left[0]: batch_of(function, left[0], unused)}
        return dict(zip(left, unused, strict=True)) if len(left) == len(unused) else {}

    def _chosen(self, name: str) -> str | None:
        means = kinds(name)
        if Kind.DEVICE in means and self.inputs:
            return f"{self.inputs[0]}.device"
        value = LITERALS.get(means[0]) if means else None
        if value is not None:
            self.made_up[name] = value
        return value

    def _optimizers(self, names: Sequence[str], tree: ast.AST | None) -> dict[str, str] | None:
        """What stands for the optimizers that a function steps; None where there is no saying."""
        if not names:
            return {}
        if len(self.makers) == 1:
            call, parts = next(iter(self.makers.items()))
            self.first.append(f"optimizers = {call}")
            if len(names) == 1:
                return {names[0]: "optimizers"}
            return {name: f"optimizers[{at}]" for at, name in enumerate(names)} if parts == len(names) else None
        if self.makers or len(names) > 1 or not _is_single(names[0], tree):
            return None
        self.made_up[names[0]] = PLAIN_OPTIMIZER
        return {names[0]: PLAIN_OPTIMIZER}


def _goes_over(names: Sequence[str], tree: ast.AST | None) -> bool:
    """Whether a function goes over what one of some parameters holds: a loader, which is no batch."""
    return any(isinstance(n, ast.For) and _root(n.iter) in names for n in ast.walk(tree or ast.Module([], [])))


def whole_trainings(loaded: Loaded, model: nn.Module, inputs: Sequence[str]) -> Iterator[Whole]:
    """The calls of training code of the target's file, its functions first, then methods of what is built around the model."""
    own = [(n, v) for n, v in loaded.namespace.items() if getattr(v, "__module__", None) == loaded.module.__name__]
    makers = dict(_makers(own, model))
    for name, function in own:
        if inspect.isfunction(function) and _takes_a_step(function, name):
            call = _Call(model, inputs, makers)
            given = call.arguments(function, method=False, data=True)
            if given is not None and "model" in given:
                yield _whole(call, f"{name}({given})", function)
    for name, cls in own:
        if inspect.isclass(cls) and not issubclass(cls, nn.Module):
            yield from _methods(name, cls, model, inputs, makers)


def _methods(name: str, cls: type, model: nn.Module, inputs: Sequence[str], makers: dict[str, int]) -> Iterator[Whole]:
    init = vars(cls).get("__init__")
    for of_class, method in vars(cls).items():
        if inspect.isfunction(init) and inspect.isfunction(method) and _takes_a_step(method, of_class):
            call = _Call(model, inputs, makers)
            built = call.arguments(init, method=True, data=False)
            given = call.arguments(method, method=True, data=True)
            if built is not None and given is not None and "model" in built:
                call.first.append(f"trainer = {name}({built})")
                yield _whole(call, f"trainer.{of_class}({given})", method)


def _whole(call: _Call, text: str, function: Callable[..., Any]) -> Whole:
    returned = "loss = " if returns_a_value(tree_of(function)) else ""
    return Whole("; ".join([*call.first, f"{returned}{text}"]), function.__code__.co_firstlineno, call.made_up)


def _takes_a_step(function: Callable[..., Any], name: str) -> bool:
    """Whether a function differentiates in each call, and not in a loop that goes on for long."""
    if NOT_TRAINING.match(name) or not trains(function):
        return False
    tree = tree_of(function)
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While)] if tree is not None else []
    return not _leaves_something(function) and not any(_differentiates(loop) and not _is_short(loop) for loop in loops)


def _leaves_something(function: Callable[..., Any]) -> bool:
    """Whether a function may write a file or speak to a service, itself or in a function of its file that it calls."""
    names, seen = getattr(function, "__globals__", {}), [function]
    for one in seen:
        tree = tree_of(one)
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)] if tree is not None else []
        if any(map(_goes_outside, calls)):
            return True
        called = (names.get(n.func.id) for n in calls if isinstance(n.func, ast.Name))
        seen += [f for f in called if inspect.isfunction(f) and f.__globals__ is names and f not in seen]
    return False


def _goes_outside(call: ast.Call) -> bool:
    """Whether a call may write a file or speak to a service: by its name, or as `run.log({...})`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    return _OUTSIDE.fullmatch(name) is not None or (name == "log" and any(isinstance(a, ast.Dict) for a in call.args))


def _differentiates(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "backward" for n in ast.walk(node))


def _is_short(loop: ast.AST) -> bool:
    """`for _ in range(3)`, `for opt in (a, b)`."""
    over = loop.iter if isinstance(loop, ast.For) else None
    if isinstance(over, ast.Tuple | ast.List):
        return True
    given = over.args if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "range" else []
    return len(given) == 1 and isinstance(given[0], ast.Constant) and isinstance(given[0].value, int) and given[0].value <= _MOST_TURNS


def _wanted(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _makers(own: Sequence[tuple[str, Any]], model: nn.Module) -> Iterator[tuple[str, int]]:
    """Calls that make optimizers of the model: of functions that want nothing else, and of its own methods that want nothing."""
    for name, function in own:
        wanted = _wanted(function) if inspect.isfunction(function) else []
        if len(wanted) == 1 and _makes_optimizers(function) and _is_model(wanted[0].name, tree_of(function), model):
            yield f"{name}(model)", _parts(function)
    for name, method in vars(type(model)).items():
        if inspect.isfunction(method) and len(_wanted(method)) == 1 and _makes_optimizers(method):
            yield f"model.{name}()", _parts(method)


def _makes_optimizers(function: Callable[..., Any]) -> bool:
    """Whether it returns what it makes of parameters, and takes no step itself."""
    tree = tree_of(function)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)] if tree is not None else []
    made = any("optim" in ast.unparse(n.func).lower().split(".") or _is_optimizer(n.func, function) for n in calls)
    return made and returns_a_value(tree) and not trains(function)


def _is_optimizer(node: ast.expr, function: Callable[..., Any]) -> bool:
    """`Adam` where the file has imported it from torch.optim."""
    value = function.__globals__.get(node.id) if isinstance(node, ast.Name) and hasattr(function, "__globals__") else None
    return getattr(value, "__module__", "").startswith("torch.optim")


def _parts(function: Callable[..., Any]) -> int:
    """How many optimizers it returns."""
    returned = [n.value for n in ast.walk(tree_of(function) or ast.Module([], [])) if isinstance(n, ast.Return)]
    return len(returned[0].elts) if len(returned) == 1 and isinstance(returned[0], ast.Tuple | ast.List) else 1


def _is_model(name: str, tree: ast.AST | None, model: nn.Module) -> bool:
    """Whether a parameter is the model: the model has all that is read of it, and not every module has; or its name says so."""
    read = (
        {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _root(n.value, deep=False) == name}
        if tree is not None
        else set()
    )
    return read <= set(dir(model)) and (bool(read - _MODULE) or Kind.MODEL in kinds(name))


def _steps(name: str, tree: ast.AST | None) -> bool:
    """Whether a function steps or clears what a parameter holds: itself, a part of it, what it is unpacked into."""
    nodes = list(ast.walk(tree)) if tree is not None else []
    names = {name} | {t.id for n in nodes for t in _unpacked(n, name)}
    return any(isinstance(n, ast.Attribute) and n.attr in _STEPS and _root(n.value) in names for n in nodes)


def _is_single(name: str, tree: ast.AST | None) -> bool:
    """Whether a parameter is one optimizer: it is stepped itself."""
    nodes = list(ast.walk(tree)) if tree is not None else []
    stepped = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr in _STEPS and _root(n.value) == name]
    return bool(stepped) and all(isinstance(n.value, ast.Name) for n in stepped)


def _unpacked(node: ast.AST, name: str) -> list[ast.Name]:
    """`a` and `b` of `a, b = name`, `opt` of `for opt in name`."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == name:
        return [n for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    if isinstance(node, ast.For) and _root(node.iter) == name:
        return [n for n in ast.walk(node.target) if isinstance(n, ast.Name)]
    return []


def _root(node: ast.expr, *, deep: bool = True) -> str | None:
    """`x` of `x`; where `deep`, of `x["a"]`, `x.a` and `x.values()` too."""
    while deep and isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
