"""The inputs of a target as arguments of a function: by name, then in order; what no input is there for is asked of the repository."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vaelint.core.assumption import Assumption, Chosen
from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.inputs import InputSet
from vaelint.core.paths import relative
from vaelint.loading.build import Loaded
from vaelint.step.flags import told_by_calls
from vaelint.step.reading import keys_read, tree_of


def bind_inputs(
    parameters: Sequence[inspect.Parameter], inputs: InputSet, where: str, function: Callable[..., Any], loaded: Loaded | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Arguments as written in a call, the input names in the order of the parameters, and notes.

    What no input is there for is asked of the repository's calls, where `loaded` is given.
    """
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    placed = {p.name for p in plain}.issuperset(spec.name for spec in inputs.specs)
    keys = _keyword_keys(parameters, function) if not placed else []  # `forward(self, x, **kwargs)` that reads kwargs["labels"]
    open_parameters = plain + [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=None) for k in keys]
    names: dict[int, str] = {i: spec.name for i, spec in enumerate(inputs.specs) if spec.name}
    given, waiting = _assigned(open_parameters, set(keys), inputs, names)
    asked = _defined_at(function)
    notes: list[str] = [
        Chosen(
            f"input {name} goes to {where}({parameter})",
            Assumption("input", parameter, name, "no parameter goes by the name of that input", asked),
        )
        for parameter, name in given.items()
        if name != parameter
    ]
    missing = [p.name for p in open_parameters if p.default is p.empty and p.name not in given]
    told = told_by_calls(loaded.repository, missing) if missing and loaded is not None and not loaded.package else {}
    if missing != [name for name in missing if name in told]:
        raise _too_few(missing, where, inputs, function)
    notes += [
        Chosen(
            f"{name}={value}: no --input given; taken from the call at {place}",
            Assumption("input", name, value, f"no --input given; taken from the call at {place}", asked),
        )
        for name, (value, place) in told.items()
    ]
    _name_the_rest(names, len(inputs.specs), {p.name for p in open_parameters})
    arguments = _written(open_parameters, given | {name: value for name, (value, _) in told.items()})
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        arguments += [names[i] for i in waiting]
    order = [given[p.name] for p in open_parameters if p.name in given]
    order += [names[i] for i in sorted(names) if names[i] not in order]
    return arguments, order, notes


def _assigned(
    parameters: Sequence[inspect.Parameter], keys: set[str], inputs: InputSet, names: dict[int, str]
) -> tuple[dict[str, str], list[int]]:
    """The name of the input for each parameter that gets one, and the inputs that are left. Inputs without a name get that of theirs."""
    known = {p.name for p in parameters}
    given = {spec.name: spec.name for spec in inputs.specs if spec.name in known}
    by_name = bool(given)
    waiting = [i for i, spec in enumerate(inputs.specs) if spec.name not in given]
    # required parameters first: an unnamed second input is a label rather than an option
    free = sorted((p for p in parameters if p.name not in given), key=lambda p: p.default is not p.empty)
    has_required = any(p.default is p.empty for p in free)
    for parameter in free:
        # an option is filled by position only where nothing required was left to fill
        is_option = parameter.default is not parameter.empty and parameter.name not in keys
        if not waiting or (is_option and (has_required or by_name or inputs.specs[waiting[0]].name)):
            continue
        i = waiting.pop(0)
        given[parameter.name] = names.setdefault(i, parameter.name)
    return given, waiting


def _name_the_rest(names: dict[int, str], count: int, known: set[str]) -> None:
    """Names for inputs that no parameter gave one: x, y, input1, ..."""
    taken = set(names.values()) | known
    for i in range(count):
        if i not in names:
            names[i] = next(n for n in ("x", "y", *(f"input{k}" for k in range(1, count + 2))) if n not in taken)
            taken.add(names[i])


def _keyword_keys(parameters: Sequence[inspect.Parameter], function: Callable[..., Any]) -> list[str]:
    star = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    return keys_read(tree_of(function), star) if star is not None else []


def _written(parameters: Sequence[inspect.Parameter], given: Mapping[str, str]) -> list[str]:
    arguments: list[str] = []
    skipped = False
    for p in parameters:
        if p.name not in given:
            skipped = True
        elif skipped or p.kind is p.KEYWORD_ONLY:
            arguments.append(f"{p.name}={given[p.name]}")
        else:
            arguments.append(given[p.name])
    return arguments


def _too_few(missing: Sequence[str], where: str, inputs: InputSet, function: Callable[..., Any]) -> TargetError:
    span = _defined_at(function)
    given = f"{len(inputs.specs)} input{'s' if len(inputs.specs) != 1 else ''} {'are' if len(inputs.specs) != 1 else 'is'} given"
    batch = inputs.symbols.get(inputs.batch or "", 32)
    example = " ".join(f"--input {name}={batch}x..." for name in missing)
    return TargetError(
        "VAE003",
        f"{where} also needs {', '.join(missing)}; {given}",
        f"add {example}; or let the sizes be found, in your training where there is one: vaelint check {span.file if span else 'FILE.py'}",
        span,
        (f"signature: {where}{inspect.signature(function)}",),
    )


def _defined_at(function: Callable[..., Any]) -> Span | None:
    """Where a function is defined; None for one that is not Python's."""
    code = getattr(function, "__code__", None)
    return Span(relative(code.co_filename), code.co_firstlineno) if code is not None else None
