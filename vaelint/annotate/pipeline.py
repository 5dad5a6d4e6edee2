"""The worker's side of `vaelint annotate`: proposes annotations from a trace; holds an annotated file to them in real runs."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import torch
from beartype import beartype
from torch import fx

from vaelint.anatomy.model import Model
from vaelint.annotate.dimension_names import Names
from vaelint.annotate.signatures import Form, Signature
from vaelint.core.edits import Edit, Proposal
from vaelint.core.errors import TargetError
from vaelint.core.messages import message_of
from vaelint.core.result import Request, TargetResult
from vaelint.faults.shapes.annotations import definition
from vaelint.faults.workbench import Bench
from vaelint.pipeline.prepare import home_of, prepare
from vaelint.pipeline.trace_step import another_size, trace_step
from vaelint.record.record import FunctionCall
from vaelint.replay.ranges import in_unit, wants_unit, without_range
from vaelint.source.shapetypes import shape_types
from vaelint.source.written import SourceFile
from vaelint.trace.mode import set_mode
from vaelint.trace.recorded_run import construct, quiet_torch

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_CULPRIT = re.compile(r"(?:parameters|return value) of ([\w.]+?)\.?\n")

Emit = Callable[[dict[str, Any]], None]


def annotate_target(request: Request, emit: Emit) -> TargetResult:
    """Without an overlay: proposals, one for each function. With one: the annotated source, run with its annotations checked.

    The second kind says in `confirm` whether it ran, at which batch sizes, what checked it, and which function did not keep to its word.
    """
    result = TargetResult(request.target)
    try:
        prepared = prepare(request, result)
        start = home_of(prepared.loaded)
        prepared.tracer.calls_in = None if request.overlay else (lambda file: file.startswith(start) and file.endswith(".py"))
        model = trace_step(request, result, prepared, emit)
    except TargetError as error:
        result.status = "failed"
        result.notes.append(error.message + (f" ({error.help})" if error.help else ""))
        return result
    if model is None:
        result.status = "failed"
        result.notes.append("the model's own code raises; vaelint check says where")
    elif request.overlay:
        _hold(model, {str(Path(file).absolute()) for file, _ in request.overlay}, result)
    else:
        emit({"kind": "proposals", "proposals": {name: [p.to_json()] for name, p in _proposals(model, prepared.loaded.file)}})
    return result


# --- proposals --------------------------------------------------------------------------------------------------------


def _proposals(model: Model, home: str) -> Iterator[tuple[str, Proposal]]:
    """A proposal for each function of the target's file that was called, and for each that the step itself calls: the loss."""
    bench, names = Bench(model.record, model.source, model), Names(model.symbols)
    grouped: dict[tuple[str, int, str], list[FunctionCall]] = {}
    for call in sorted(model.record.functions, key=lambda c: c.line):
        grouped.setdefault((call.file, call.line, call.name), []).append(call)
    own = model.tracer.spans.relative(home)
    elsewhere = model.evaluation.functions if model.evaluation.failure is None else []
    for (file, _, name), calls in grouped.items():
        if file != own and all(c.caller is not None for c in calls):
            continue
        code = bench.code(file)
        function = definition(code.file, calls[0])
        if function is None:
            continue
        signature = Signature(code, function)
        edits: list[Edit] = []
        for argument in calls[0].arguments:
            values = [c.arguments.get(argument) for c in calls]
            form = _form(model, names, [v for v in values if v != "NoneType"])
            edits += signature.argument(argument, form, optional="NoneType" in values)
        if _all_ways_seen(function, calls, [c for c in elsewhere if (c.file, c.line) == (calls[0].file, calls[0].line)]):
            edits += signature.result(_form(model, names, [c.result for c in calls]))
        if edits:
            yield f"{file}:{name}", Proposal(f"annotates {name}", tuple(edits))


def _all_ways_seen(function: ast.FunctionDef | ast.AsyncFunctionDef, calls: list[FunctionCall], evaluated: list[FunctionCall]) -> bool:
    """Whether every `return` of a function was taken, in training or evaluation mode, and gave a value of the same make."""
    inner = {n for f in ast.walk(function) if f is not function and isinstance(f, _SCOPES) for n in ast.walk(f)}
    returns = [n for n in ast.walk(function) if isinstance(n, ast.Return) and n not in inner]
    taken = {c.left_at for c in (*calls, *evaluated)}
    seen = all(any(n.lineno <= line <= (n.end_lineno or n.lineno) for line in taken) for n in returns)
    return seen and all(_make(c.result) == _make(calls[0].result) for c in evaluated)


def _make(value: Any) -> Any:
    """A value's sizes inside its tuples: what an annotation speaks of, without names."""
    if isinstance(value, fx.Node):
        return _kind(value), tuple(value.meta["val"].shape)
    return tuple(_make(v) for v in value) if isinstance(value, tuple | list) else value if isinstance(value, str) else None


def _form(model: Model, names: Names, values: list[Any]) -> Form:
    """What a value was at all calls: a tensor with one set of axes, a tuple of such, a plain type; None where the calls differ in make."""
    if not values:
        return None
    first = values[0]
    if isinstance(first, fx.Node):
        if not all(isinstance(v, fx.Node) for v in values):
            return None
        kinds = {_kind(v) for v in values}
        maps = any(_of_convolution(model, v) for v in values)
        axes = names.axes([model.dims(v) for v in values], maps)
        return (kinds.pop(), axes) if len(kinds) == 1 and axes is not None else None
    if isinstance(first, tuple):
        if not all(isinstance(v, tuple) and len(v) == len(first) for v in values):
            return None
        return [_form(model, names, [v[i] for v in values]) for i in range(len(first))]
    return first if isinstance(first, str) and all(v == first for v in values) else None


def _kind(node: fx.Node) -> str:
    dtype = node.meta["val"].dtype
    if dtype.is_floating_point:
        return "Float"
    if dtype == torch.bool:
        return "Bool"
    return "Complex" if dtype.is_complex else "Int" if dtype.is_signed else "UInt"


def _of_convolution(model: Model, node: fx.Node) -> bool:
    """Whether a value of three or more axes has channels behind the batch: it goes into, or comes out of, a convolution."""
    near = {node, *node.users, *node.all_input_nodes}
    return any("conv" in model.op(n) or "pool" in model.op(n) or "batch_norm" in model.op(n) for n in near) or len(model.dims(node)) == 4


# --- the run that holds a file to its annotations ---------------------------------------------------------------------


def _hold(model: Model, files: set[str], result: TargetResult) -> None:
    """Runs the step at two batch sizes with the annotations of `files` checked; the outcome goes to `result.confirm`."""
    batch = model.inputs.batch
    size = model.inputs.symbols[batch] if batch is not None else 1
    sizes = [size, another_size(size, set(model.inputs.symbols.values()))] if batch is not None else [size]
    watched = _watch(files)
    facts: dict[str, Any] = {"outcome": "ran", "batches": sizes, "functions": watched}
    result.confirm = facts
    for n in sizes:
        try:
            _run(model, {batch: n} if batch is not None else None)
        except Exception as error:  # noqa: BLE001 - whatever the annotated code raises is the answer
            text = message_of(error)
            found = _CULPRIT.search(text + "\n")
            facts.update(
                outcome="raised", batch=n, reason=f"{type(error).__name__}: {text.strip().splitlines()[0] if text.strip() else ''}",
                function=found[1] if found is not None and isinstance(error, jaxtyping.TypeCheckError) else "",
            )  # fmt: skip
            return


def _run(model: Model, sizes: dict[str, int] | None) -> None:
    """The step on real tensors; inputs without a declared range are drawn from [0, 1] where the loss takes no others."""

    def step(squeezed: frozenset[str]) -> None:
        with quiet_torch():
            built = construct(model.tracer.construct, model.tracer.spans)
            set_mode(built.model, True)
            model.step(built.model, in_unit(model.tracer.inputs(sizes), squeezed))

    try:
        step(frozenset())
    except Exception as error:
        if not wants_unit(error) or not (free := without_range(model)):
            raise
        step(free)


def _watch(files: set[str]) -> list[str]:
    """Has each annotated function of these files checked at every call; returns their names."""
    found = []
    for module in [m for m in list(sys.modules.values()) if str(getattr(m, "__file__", "")) in files]:
        file = SourceFile(str(module.__file__))
        typed = {f.name for f in file.functions() if any(any(True for _ in shape_types(a, file)) for a in _annotations(f))}
        owners: list[Any] = [module, *(c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__)]
        for owner in owners:
            for name, held in list(vars(owner).items()):
                function = held.__func__ if isinstance(held, staticmethod | classmethod) else held
                if name in typed and inspect.isfunction(function) and function.__module__ == module.__name__:
                    checked = jaxtyping.jaxtyped(typechecker=beartype)(function)
                    setattr(owner, name, type(held)(checked) if isinstance(held, staticmethod | classmethod) else checked)
                    found.append(function.__qualname__)
    return found


def _annotations(function: Any) -> list[Any]:
    arguments = function.args
    return [a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)] + [function.returns]
