"""Hands a model's outputs and inputs to a loss function's parameters, by what they mean. Runs no user code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from vaelint.late import dataclass
from vaelint.step.meaning import LITERALS, Kind, kinds
from vaelint.step.reading import keys_read, tree_of

RoleOf = Callable[[torch.Tensor], str | None]
_ROLES = {"recon": Kind.RECON, "mu": Kind.MU, "logvar": Kind.SCALE, "std": Kind.SCALE, "z": Kind.Z}
_NO_TENSOR = re.compile(
    r"load|func|fn$|^opts?$|optim|sched|path|file|dir$|callback|criterion|logger|writer|args|config|dataset", re.IGNORECASE
)
_TRACED, _NAMED, _WEAK = 4, 3, 1  # how much a kind is worth: seen in the trace, said by a name, by shape or order alone
_SEARCH_LIMIT = 20_000  # assignments looked at before a function with many alike parameters is given up


@dataclass(frozen=True)
class Source:
    """Something a parameter may get: an expression, what it holds and how sure that is. `index` is its place among the outputs."""

    expr: str
    kind: Kind | None
    strength: int
    name: str | None = None
    index: int = -1
    value: Any = None


@dataclass(frozen=True)
class Wanted:
    """One parameter to bind. `container` means that the function takes it apart (`p["mu"]`, `p.mu`, `a, b = p`)."""

    name: str
    kinds: tuple[Kind, ...]
    required: bool
    keyword: bool
    container: bool = False
    star: bool = False  # one of *args: its place among them counts more than its name


@dataclass(frozen=True)
class Binding:
    """Arguments for a call. `used` are the kinds it covers; `alternatives` other ways that are equally good."""

    arguments: tuple[tuple[str, str, bool], ...]  # name, expression, by keyword
    used: frozenset[Kind]
    score: int
    made_up: tuple[tuple[str, str], ...] = ()  # parameters that got a value of ours, with it
    alternatives: tuple[Binding, ...] = ()
    needs_output: bool = False
    guessed: bool = False  # a parameter whose name says nothing got what was left

    def text(self) -> str:
        """The arguments as Python writes them."""
        return ", ".join(f"{name}={expr}" if keyword else expr for name, expr, keyword in self.arguments)


def sources_of(output: object, role_of: RoleOf, names: Sequence[str | None], input_shapes: Mapping[str, tuple[int, ...]]) -> list[Source]:
    """The leaves of a model's output, as expressions over `out`; nested groups of tensors count as one more source."""
    found: list[Source] = []
    top = dict(enumerate(names))
    for expr, name, value in _leaves(output, "out", top):
        kind, strength = _kind_of(value, name, role_of)
        found.append(Source(expr, kind, strength, name, len(found), value))
    return _by_shape(found, input_shapes)


def _leaves(
    value: object, expr: str, names: Mapping[int, str | None], name: str | None = None, depth: int = 3
) -> Iterator[tuple[str, str | None, object]]:
    if isinstance(value, torch.Tensor | torch.distributions.Distribution) or depth == 0 or value is None:
        if value is not None:
            yield expr, name, value
        return
    parts: list[tuple[str, str | None, object]]
    if isinstance(value, Mapping):
        parts = [(f"{expr}[{key!r}]", str(key), part) for key, part in value.items()]
    elif hasattr(value, "_fields"):
        parts = [(f"{expr}.{field}", str(field), getattr(value, field)) for field in value._fields]
    elif isinstance(value, list | tuple):
        parts = [(f"{expr}[{i}]", names.get(i), part) for i, part in enumerate(value)]
    elif dataclasses.is_dataclass(value):
        parts = [(f"{expr}.{f.name}", f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif hasattr(value, "__dict__"):
        parts = [(f"{expr}.{key}", key, part) for key, part in vars(value).items() if not key.startswith("_")]
    else:
        return
    for part_expr, part_name, part in parts:
        yield from _leaves(part, part_expr, {}, part_name, depth - 1)
        if isinstance(part, list | tuple | dict) or (
            hasattr(part, "__dict__") and not isinstance(part, torch.Tensor | torch.distributions.Distribution)
        ):
            yield part_expr, part_name, part  # a group of tensors may be wanted as one: (mu, logvar), a posterior object


def _kind_of(value: object, name: str | None, role_of: RoleOf) -> tuple[Kind | None, int]:
    if isinstance(value, torch.Tensor):
        role = role_of(value)
        if role is not None and role.startswith("input:"):
            return Kind.TARGET, _TRACED
        if role in _ROLES:
            return _ROLES[role], _TRACED
        if name is not None:
            said = [k for k in kinds(name) if k in (Kind.RECON, Kind.MU, Kind.SCALE, Kind.Z, Kind.TARGET)]
            if len(said) == 1 or (said and said[0] is Kind.RECON and set(said) <= {Kind.RECON, Kind.MU, Kind.TARGET}):
                return said[0], _NAMED
        return None, 0
    return Kind.POSTERIOR, _NAMED


def _by_shape(sources: list[Source], input_shapes: Mapping[str, tuple[int, ...]]) -> list[Source]:
    """Where nothing was said of an output: one shaped like the input is the reconstruction, the two others, alike, mu and its scale."""
    kinds_known = {s.kind for s in sources}
    shapes = list(input_shapes.values())
    changed = list(sources)
    unknown = [i for i, s in enumerate(sources) if s.kind is None and isinstance(s.value, torch.Tensor) and s.value.ndim > 0]
    if Kind.RECON not in kinds_known:
        alike = [i for i in unknown if any(fits(tuple(sources[i].value.shape), shape) for shape in shapes)]
        if len(alike) == 1:
            changed[alike[0]] = dataclasses.replace(sources[alike[0]], kind=Kind.RECON, strength=_WEAK)
            unknown.remove(alike[0])
    if not kinds_known & {Kind.MU, Kind.SCALE} and len(unknown) == 2:
        first, second = (sources[i] for i in unknown)
        if tuple(first.value.shape) == tuple(second.value.shape):
            for i, kind in zip(unknown, (Kind.MU, Kind.SCALE), strict=True):
                changed[i] = dataclasses.replace(sources[i], kind=kind, strength=_WEAK)
    return changed


def fits(output: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an output can be compared with a target: the same shape, flat against not, or scores for each class of the target."""
    if len(output) == 0 or len(target) == 0 or output[0] != target[0]:
        return False
    classes_last, classes_second = output[:-1] == target, (*output[:1], *output[2:]) == target
    return output == target or math.prod(output) == math.prod(target) or classes_last or classes_second


def wanted_by(function: Callable[..., Any], *, skip_first: bool = False) -> list[Wanted] | None:
    """The parameters of a loss function. `*args` that are read as `args[0]`, `args[1]` count as parameters of those names.

    None where Python cannot tell.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[1 if skip_first else 0 :]
    except (TypeError, ValueError):
        return None
    tree = tree_of(function)
    taken_apart = _taken_apart(function)
    found: list[Wanted] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            found += [Wanted(name, tuple(kinds(name)), True, False, star=True) for name in _star_names(tree, p.name)]
        elif p.kind is p.VAR_KEYWORD:
            found += [Wanted(key, tuple(kinds(key)), True, True) for key in keys_read(tree, p.name)]
        else:
            keyword = p.kind is p.KEYWORD_ONLY or p.default is not p.empty
            found.append(Wanted(p.name, tuple(kinds(p.name)), p.default is p.empty, keyword, p.name in taken_apart))
    return found


def _taken_apart(function: Callable[..., Any], depth: int = 3) -> set[str]:
    """The parameters that a function takes apart, itself or in the functions of its module that it hands them to."""
    names: set[str] = set()
    tree = tree_of(function)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and depth > 0:
            callee = getattr(function, "__globals__", {}).get(node.func.id)
            if inspect.isfunction(callee) and callee is not function:
                inner = _taken_apart(callee, depth - 1)
                names |= {
                    a.id
                    for a, p in zip(node.args, inspect.signature(callee).parameters, strict=False)
                    if isinstance(a, ast.Name) and p in inner
                }
        if not isinstance(node, ast.Subscript | ast.Attribute | ast.Assign) or not isinstance(node.value, ast.Name):
            continue
        by_key = isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
        by_field = isinstance(node, ast.Attribute) and not hasattr(torch.Tensor, node.attr)
        unpacked = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List)
        if by_key or by_field or unpacked:
            names.add(node.value.id)
    return names


def _star_names(tree: ast.AST | None, star: str) -> list[str]:
    """The names that `*args` are given: `recons = args[0]`, or `recons, x, mu = args`."""
    names: dict[int, str] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        if (
            isinstance(value, ast.Subscript)
            and isinstance(value.value, ast.Name)
            and value.value.id == star
            and isinstance(value.slice, ast.Constant)
        ):
            if isinstance(target, ast.Name) and isinstance(value.slice.value, int) and value.slice.value >= 0:
                names[value.slice.value] = target.id
        elif isinstance(value, ast.Name) and value.id == star and isinstance(target, ast.Tuple):
            names.update({i: e.id for i, e in enumerate(target.elts) if isinstance(e, ast.Name)})
    return [names.get(i, f"_{i}") for i in range(max(names) + 1)] if names else []


def bind(
    wanted: Sequence[Wanted], outputs: Sequence[Source], inputs: Sequence[Source], whole: Source | None, fixed: Mapping[Kind, str]
) -> Binding | None:
    """The best way to fill `wanted`, None if a required parameter stays empty.

    `whole` is the output as one value; `fixed` holds expressions for kinds that are always the same (the model, the batch size).
    """
    choices: list[list[tuple[Source | None, int]]] = []
    starred = iter(_starred(wanted, outputs))
    for want in wanted:
        options = _options(want, outputs, inputs, whole, fixed)
        if want.star and (given := next(starred, None)) is not None:
            options = [(given, _TRACED)]
        if not want.required:
            options.append((None, 0))
        choices.append(options)
    if not all(choices):
        ordered = _in_order(wanted, outputs)
        return _binding(wanted, ordered, 0) if ordered is not None else None
    best = _assign(choices)
    if not best:
        return None
    score, chosen = best[0]
    rivals = [c for s, c in best[1:] if s == score and {x.expr for x in c if x} != {x.expr for x in chosen if x}]
    bindings = [_binding(wanted, c, score) for c in (chosen, *rivals[:3])]
    return dataclasses.replace(bindings[0], alternatives=tuple(bindings[1:]))


def _starred(wanted: Sequence[Wanted], outputs: Sequence[Source]) -> list[Source]:
    """The outputs that go into `*args` as they come, unless what was traced contradicts the names they get there."""
    names = [w for w in wanted if w.star]
    top = [s for s in outputs if s.expr.count("[") + s.expr.count(".") == 1]
    if len(top) < len(names):
        return []
    clash = any(
        s.strength >= _NAMED and w.kinds and s.kind not in w.kinds and w.kinds[0] not in LITERALS for s, w in zip(top, names, strict=False)
    )
    return [] if clash else top[: len(names)]


def _in_order(wanted: Sequence[Wanted], outputs: Sequence[Source]) -> list[Source] | None:
    """The outputs one by one, where the function has just as many parameters, all required, and no name contradicts."""
    top = [s for s in outputs if s.expr.count("[") + s.expr.count(".") == 1]
    if len(top) != len(wanted) or len(top) < 2 or not all(w.required for w in wanted):
        return None
    return top if all(s.kind is None or not w.kinds or s.kind in w.kinds for s, w in zip(top, wanted, strict=True)) else None


def _options(
    want: Wanted, outputs: Sequence[Source], inputs: Sequence[Source], whole: Source | None, fixed: Mapping[Kind, str]
) -> list[tuple[Source | None, int]]:
    """What may go into one parameter, with what it is worth."""
    worths = ((source, _worth(want, source)) for source in (*outputs, *inputs))
    found: list[tuple[Source | None, int]] = [(source, worth) for source, worth in worths if worth is not None]
    named_whole = Kind.WHOLE in want.kinds
    wants_whole = (named_whole or (want.required and not found)) if want.container else (named_whole and not found)
    wants_whole = wants_whole and not (want.kinds and want.kinds[0] in fixed)  # what is called model is the model
    if whole is not None and not isinstance(whole.value, torch.Tensor) and wants_whole:
        found.append((whole, _NAMED + (2 if want.container else -2)))
    if not want.required:
        return found if not LITERALS.keys() & set(want.kinds) else []
    for kind in want.kinds:
        expr = fixed.get(kind) or LITERALS.get(kind)
        if expr is not None:
            found.append((Source(expr, kind, _NAMED, want.name if kind in LITERALS else None), _NAMED))
            break
    return found


def _worth(want: Wanted, source: Source) -> int | None:
    """How well an output or input suits a parameter, None for not at all."""
    is_tensor = source.index < 0 or isinstance(source.value, torch.Tensor)
    if want.container and is_tensor:
        return None
    same_name = source.name is not None and plain_name(source.name) == plain_name(want.name)
    usable = is_tensor or want.container or isinstance(source.value, torch.distributions.Distribution)
    if source.kind is not None and source.kind in want.kinds and usable:
        return max(source.strength - want.kinds.index(source.kind) + (4 if same_name else 0), 1)
    if same_name:
        return _TRACED if source.kind is None or not want.kinds or source.index < 0 else _WEAK + 1
    if source.kind is not Kind.RECON:
        return None
    if Kind.TARGET in want.kinds:
        return 0  # `loss(input, target)`: whoever is not the target is the reconstruction
    left_over = not want.kinds and not want.star and want.required and not _NO_TENSOR.search(want.name)
    return 0 if left_over else None  # `loss(p, x, mu, logvar)`: p is what is left


def plain_name(name: str) -> str:
    """A name without its underscores and capitals."""
    return name.replace("_", "").lower()


def _assign(choices: Sequence[Sequence[tuple[Source | None, int]]]) -> list[tuple[int, tuple[Source | None, ...]]]:
    """All ways to give every parameter its own source, best first; among equals those that keep the outputs' order."""
    complete: list[tuple[int, int, tuple[Source | None, ...]]] = []
    looked = 0

    def go(i: int, score: int, taken: tuple[Source | None, ...]) -> None:
        nonlocal looked
        looked += 1
        if looked > _SEARCH_LIMIT:
            return
        if i == len(choices):
            places = [s.index for s in taken if s is not None and s.index >= 0]
            crossings = sum(a > b for k, a in enumerate(places) for b in places[k + 1 :])
            complete.append((score, -crossings, taken))
            return
        for source, worth in sorted(choices[i], key=lambda option: -option[1]):
            if source is None or source.kind in LITERALS or not any(t is not None and t.expr == source.expr for t in taken):
                go(i + 1, score + worth, (*taken, source))

    go(0, 0, ())
    complete.sort(key=lambda c: c[:2], reverse=True)
    return [(score, taken) for score, _, taken in complete]


def _binding(wanted: Sequence[Wanted], chosen: Sequence[Source | None], score: int) -> Binding:
    arguments: list[tuple[str, str, bool]] = []
    made_up: list[tuple[str, str]] = []
    skipped = guessed = False
    for want, source in zip(wanted, chosen, strict=True):
        if source is None:
            skipped = True
            continue
        arguments.append((want.name, source.expr, want.keyword or skipped))
        guessed |= not want.kinds and not want.star and source.index >= 0 and plain_name(source.name or "") != plain_name(want.name)
        if source.kind in LITERALS and source.index < 0 and source.expr in LITERALS.values():
            made_up.append((want.name, source.expr))
    used = frozenset(s.kind for s in chosen if s is not None and s.kind is not None)
    needs = any(s is not None and s.index >= 0 for s in chosen)
    return Binding(tuple(arguments), used, score, tuple(made_up), (), needs, guessed)
