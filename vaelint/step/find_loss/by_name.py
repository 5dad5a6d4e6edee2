"""A loss that is called by names alone: its parameters have the names of what `forward` returns and takes. Runs no user code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from vaelint.step.bind import Binding, Source, Wanted, fits, plain_name, wanted_by
from vaelint.step.candidates import PART, Candidate
from vaelint.step.meaning import is_loss_name
from vaelint.step.reading import called_names

_LEAST_NAMES = 2  # parameters that have to be found by their names before what is left goes to what is left


def named_call(
    among: Iterable[Candidate],
    outputs: Sequence[Source],
    call: str,
    forward: Callable[..., Any],
    input_shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Candidate, Binding] | None:
    """The one loss that takes all outputs, each by the name that `forward` returns it under, and inputs by theirs.

    One parameter may be left for one output that has no name there. A loss of one parameter gets an output that is a single tensor,
    unless that has the shape of an input. None where no function, or more than one that no other calls, is called so.
    """
    top = [s for s in outputs if s.expr.count("[") + s.expr.count(".") <= 1]
    inputs = _input_names(call, forward)
    found = []
    for candidate in among:
        if candidate.rank == PART or not is_loss_name(candidate.name):
            continue
        wanted = wanted_by(candidate.function, skip_first=candidate.skip_self)
        binding = _bound_by_name(wanted, top, inputs, input_shapes) if wanted else None
        if binding is not None:
            found.append((candidate, binding))
    called = {name for c, _ in found for name in called_names(c.function) if name != c.name}
    roots = [(c, b) for c, b in found if c.name not in called]
    return roots[0] if len(roots) == 1 else None


def _input_names(call: str, forward: Callable[..., Any]) -> dict[str, str]:
    """The expression of each input, by the name that it has in the call and by that of the parameter it goes to."""
    try:
        node = ast.parse(call, mode="eval").body if call else None
        parameters = list(inspect.signature(forward).parameters)
    except (SyntaxError, TypeError, ValueError):
        return {}
    if not isinstance(node, ast.Call):
        return {}
    parameters = parameters if inspect.ismethod(forward) else parameters[1:]
    pairs = [*zip(parameters, node.args, strict=False), *((k.arg, k.value) for k in node.keywords if k.arg)]
    named: dict[str, str] = {}
    for parameter, value in pairs:
        if isinstance(value, ast.Name):
            named.setdefault(plain_name(parameter), value.id)
    return named | {plain_name(v.id): v.id for _, v in pairs if isinstance(v, ast.Name)}


def _bound_by_name(
    wanted: Sequence[Wanted], top: Sequence[Source], inputs: Mapping[str, str], input_shapes: Mapping[str, tuple[int, ...]]
) -> Binding | None:
    """The arguments where names agree one for one, None where they do not."""
    by_name = {plain_name(s.name): s for s in top if s.name}
    nameless = [s for s in top if not s.name]
    required = [w for w in wanted if w.required]
    if len(by_name) + len(nameless) != len(top) or any(w.star for w in wanted) or by_name.keys() & inputs.keys():
        return None
    left = [w for w in required if plain_name(w.name) not in by_name.keys() | inputs.keys()]
    alone = len(required) == len(top) == len(left) == 1 and _is_no_output_of_data(top[0], input_shapes)
    if len(left) != len(nameless) or len(left) > 1 or not (alone or len(required) - len(left) >= _LEAST_NAMES):
        return None
    arguments: list[tuple[str, str, bool]] = []
    taken: list[Source] = []
    for want in wanted:
        source = by_name.get(plain_name(want.name)) or (nameless[0] if want in left else None)
        expr = source.expr if source is not None else inputs.get(plain_name(want.name)) if want.required else None
        if expr is not None:
            arguments.append((want.name, expr, want.keyword))
            taken += [source] if source is not None else []
    if len(taken) != len(top):
        return None
    return Binding(tuple(arguments), frozenset(s.kind for s in taken if s.kind is not None), 0, needs_output=True)


def _is_no_output_of_data(source: Source, input_shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether an output is a tensor that cannot be compared with an input: a bound or log weights, say, no reconstruction."""
    value = source.value
    return isinstance(value, torch.Tensor) and not any(fits(tuple(value.shape), shape) for shape in input_shapes.values())
