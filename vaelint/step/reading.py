"""What the source of a loss says: what it returns, whom it calls, which way it is optimised. Runs no user code, imports no torch."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from vaelint.step.meaning import KL_NAME, TOTAL_NAME


@lru_cache(maxsize=512)
def tree_of(function: Callable[..., Any]) -> ast.AST | None:
    """The parsed source of a function or class, None where there is none."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def _own(tree: ast.AST | None) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions nested in it."""
    body = getattr(tree, "body", [])
    function = body[0] if isinstance(tree, ast.Module) and body else tree
    stack: list[ast.AST] = list(ast.iter_child_nodes(function)) if function is not None else []
    while stack:
        node = stack.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack[:0] = list(ast.iter_child_nodes(node))


def _returns(tree: ast.AST | None) -> list[ast.expr]:
    return [n.value for n in _own(tree) if isinstance(n, ast.Return) and n.value is not None and not (isinstance(n.value, ast.Constant))]


def returns_a_value(tree: ast.AST | None) -> bool:
    """Whether the function returns something; True where its source cannot be read."""
    return tree is None or bool(_returns(tree))


def trains(function: Callable[..., Any]) -> bool:
    """Whether calling it always runs a backward pass: a `backward()` under an `if`, say for an optimizer, does not count."""
    tree = tree_of(function)
    guarded = {id(inner) for node in _own(tree) if isinstance(node, ast.If) for inner in ast.walk(node)}
    return any(
        isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr in ("backward", "manual_backward")
        and id(n) not in guarded
        for n in _own(tree)
    )


_DENSITIES = re.compile(r"\w*_loss|binary_cross_entropy\w*|cross_entropy|kl_div\w*|log_prob|nll\w*|\w*elbo\w*|kld?|mse|bce", re.IGNORECASE)


def computes_a_loss(function: Callable[..., Any]) -> bool:
    """Whether a method runs the model and puts a loss together: it calls something that encodes and something that measures."""
    names = called_names(function)
    runs = names & {"self", "forward", "encode", "encoder", "_encode"}
    return bool(runs) and any(_DENSITIES.fullmatch(n) for n in names)


def called_names(function: Callable[..., Any]) -> set[str]:
    """The last names of everything the function calls: `self.loss_function(...)` gives `loss_function`."""
    tree = tree_of(function)
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call)) if tree is not None else ()
    return {ast.unparse(f).rpartition(".")[2] for f in calls}


def _name_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        # a view of a thing is that thing; what `decode` gives is the reconstruction
        if isinstance(node.func, ast.Attribute) and name in ("view", "reshape", "squeeze", "unsqueeze", "flatten", "contiguous"):
            return _name_of(node.func.value)
        return "recon" if name.startswith("decod") else None
    return None


def return_names(function: Callable[..., Any]) -> list[str | None]:
    """The names of what a function returns, by place; [] where the returns disagree. A parameter's name says nothing of an output."""
    tree = tree_of(function)
    returned = [[_name_of(e) for e in v.elts] if isinstance(v, ast.Tuple | ast.List) else [_name_of(v)] for v in _returns(tree)]
    if not returned or any(len(names) != len(returned[0]) for names in returned):
        return []
    try:
        parameters = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = set()
    return [name if name is not None and name not in parameters else None for name in returned[-1]]


def returned_parts(tree: ast.AST | None) -> list[str]:
    """The names of the parts of a returned tuple, "+" for a sum written out; [] if it returns one value, or dicts."""
    for value in reversed(_returns(tree)):
        if isinstance(value, ast.Tuple):
            return [_part(e) for e in value.elts]
    return []


def _part(node: ast.expr) -> str:
    """The name of a part, also where it is weighted or divided: `kl / batch_size` is `kl`, `(rec + kl) / batch_size` a sum."""
    if isinstance(node, ast.BinOp):
        sides = [_part(node.left), _part(node.right)]
        if isinstance(node.op, ast.Add | ast.Sub) or "+" in sides:
            return "+"
        return next((name for name in sides if KL_NAME.search(name) or TOTAL_NAME.fullmatch(name)), sides[0] or sides[1])
    return _name_of(node) or ""


def reads_all_but_last(function: Callable[..., Any]) -> bool:
    """Whether a model is fed `tokens[:, :-1]`: it predicts each next token, so the targets are `tokens[:, 1:]`."""
    tree = tree_of(function)
    return tree is not None and any(isinstance(n, ast.Subscript) and ast.unparse(n.slice).strip("()") == ":, :-1" for n in ast.walk(tree))


def maximised(tree: ast.AST | None, name: str) -> bool | None:
    """Whether an ELBO is to be maximised: `... - kl` is, `... + kl` is not, None when the source does not say."""
    if tree is None:
        return None
    named = [(t.id, n.value) for n in ast.walk(tree) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    values = [value for target, value in named if target == name]
    values += [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    for value in values:
        if (sign := _sign_of_kl(value, dict(named))) is not None:
            return sign < 0
    return None


def _sign_of_kl(node: ast.expr, named: Mapping[str, ast.expr]) -> int | None:
    """The sign with which something named KL enters a sum; other names stand for what they were last given."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        right = _sign_of_kl(node.right, named)
        if right is not None:
            return right if isinstance(node.op, ast.Add) else -right
        return _sign_of_kl(node.left, named)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign = _sign_of_kl(node.operand, named)
        return None if sign is None else -sign
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        parts = [_sign_of_kl(node.left, named), _sign_of_kl(node.right, named)]
        return next((p for p in parts if p is not None), None)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("mean", "sum"):
        inner = node.args[0] if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch" and node.args else node.func.value
        return _sign_of_kl(inner, named)
    name = _name_of(node) or (ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else None)
    if name and KL_NAME.search(name):
        return 1
    given = named.get(node.id) if isinstance(node, ast.Name) else None
    return _sign_of_kl(given, {k: v for k, v in named.items() if k != name}) if given is not None else None


def stores_kl(model: object) -> str | None:
    """The attribute, from the model down, in which a part keeps a KL that its forward computed; None if there is none."""
    modules = model.named_modules() if hasattr(model, "named_modules") else []
    for path, module in modules:
        for name, value in vars(type(module)).items():
            tree = tree_of(value) if inspect.isfunction(value) and name != "__init__" else None
            for node in ast.walk(tree) if tree is not None else ():
                targets = node.targets if isinstance(node, ast.Assign) else []
                for t in targets:
                    if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id == "self" and KL_NAME.search(t.attr):
                        return f"{path}.{t.attr}" if path else t.attr
    return None


def batch_of(function: Callable[..., Any], parameter: str, inputs: Sequence[str]) -> str:
    """The batch that a training step takes, as Python: the input, a tuple `(x, 0)`, or a dict, as the step takes it apart."""
    return batch_in(tree_of(function), parameter, inputs, partial(_method_of, _owner(function), function))


def _method_of(owner: object, but: object, name: str) -> tuple[ast.AST | None, list[str]] | None:
    """A method of a class as a tree, with its parameters after `self`."""
    inner = getattr(owner, name, None)
    if not inspect.isfunction(inner) or inner is but:
        return None
    return tree_of(inner), list(inspect.signature(inner).parameters)[1:]


Methods = Callable[[str], tuple[ast.AST | None, list[str]] | None]
"""The methods of the class by name: a tree, and the parameters after `self`."""


def batch_in(tree: ast.AST | None, parameter: str, inputs: Sequence[str], methods: Methods, depth: int = 4) -> str:
    """See `batch_of`, for a method that is known as a tree."""
    first = inputs[0] if inputs else "x"
    width, keys = 0, list[str]()
    for node in ast.walk(tree) if tree is not None else ():
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Name)
            and node.value.id == parameter
            and isinstance(node.targets[0], ast.Tuple | ast.List)
        ):
            width = max(width, len(node.targets[0].elts))
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == parameter
            and isinstance(node.slice, ast.Constant)
        ):
            if isinstance(node.slice.value, int):
                width = max(width, node.slice.value + 1, 2)
            elif isinstance(node.slice.value, str):
                keys.append(node.slice.value)
    keys = list(dict.fromkeys(keys))
    if keys:
        by_name = {name: name for name in inputs}
        left = [name for name in inputs if name not in keys]
        values = [by_name.get(key) or (left.pop(0) if left else "0") for key in keys]
        return "{" + ", ".join(f"{key!r}: {value}" for key, value in zip(keys, values, strict=True)) + "}"
    if width:
        parts = [*inputs[:width], *["0"] * (width - len(inputs))]
        return f"({', '.join(parts)}{',' if width == 1 else ''})"
    for callee, place in _handed_on(tree, parameter):
        inner = methods(callee)
        if inner is not None and place < len(inner[1]) and depth:
            return batch_in(inner[0], inner[1][place], inputs, methods, depth - 1)
    return first


def _handed_on(tree: ast.AST | None, parameter: str) -> Iterator[tuple[str, int]]:
    """Methods of self that get the parameter as it is, and at which place."""
    for node in ast.walk(tree) if tree is not None else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "self"
        ):
            for place, argument in enumerate(node.args):
                if isinstance(argument, ast.Name) and argument.id == parameter:
                    yield node.func.attr, place


def _owner(function: Callable[..., Any]) -> object:
    """The class that a method was defined in, found through its module."""
    owner: Any = inspect.getmodule(function)
    for part in function.__qualname__.split(".")[:-1]:
        owner = getattr(owner, part, None)
    return owner


def keys_read(tree: ast.AST | None, star: str) -> list[str]:
    """The keys of `**kwargs` that the function cannot do without."""
    keys = [
        node.slice.value
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == star
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) and isinstance(node.ctx, ast.Load)
    ]
    return list(dict.fromkeys(keys))
