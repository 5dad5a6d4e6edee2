"""User code raised while it was traced: which operation, on which shapes, born where, and what would fit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.core.finding import Label, Severity, ShapeRow, Span
from vaelint.core.messages import message_of
from vaelint.core.setup import stopped
from vaelint.core.sign import Found, Kind
from vaelint.diagnose.fits import fit_after_failure
from vaelint.diagnose.fitting import features_read, image_size_before, what_fits
from vaelint.diagnose.layer_checks import Refused, refused_by_layer
from vaelint.diagnose.wrong_axis import split_along_wrong_axis
from vaelint.faults.batch.mixing import batch_of
from vaelint.record import ops
from vaelint.record.flow import analyse_flow
from vaelint.record.record import Failure, Record, name_of, shape, span
from vaelint.rule import declared
from vaelint.trace.lift import lift

if TYPE_CHECKING:
    from vaelint.core.inputs import InputSet
    from vaelint.source.written import Source
    from vaelint.trace.ladder import Tracer

Said = tuple[Kind, Found]

_SHAPE_WORDS = re.compile(
    r"shape|size|dimension|mat1 and mat2|must match|broadcast|channels|expected input|elements|reduction dim|view|stack expects|"
    r"invalid for input|normalized_shape|number of features",
    re.IGNORECASE,
)


def diagnose(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, home: Span) -> tuple[Kind, Found, bool]:
    """What a failed run shows, and whether it says something of the model (as opposed to code that cannot be analysed)."""
    said, analysed = _diagnosed(record, tracer, inputs, step, source, home)
    return *said, analysed


def _said(code: str, place: Span, **how: Any) -> Said:
    """What a rule would say of it, in that rule's words; the shapes of the failed run alone decide it."""
    kind = next(r.kind for r in declared() if r.code == code)
    return replace(kind, severity=Severity.ERROR, basis="shapes"), Found(place, **how)


def _diagnosed(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, home: Span) -> tuple[Said, bool]:
    failure = record.failure
    assert failure is not None
    place = failure.spans[0] if failure.spans else home
    text = _first_line(failure.error)
    if isinstance(failure.error, RuntimeError | ValueError | IndexError) and failure.fn is not None and _range_problem(text):
        return _range_finding(record, failure, place, text, source), True
    if _is_shape_problem(failure, text):
        lifted = lifted_failure(record, tracer, inputs, step)
        misread = _batch_finding(lifted, tracer, inputs, step, source, text)
        known = misread or _split_finding(lifted, source, text)
        return known or _shape_finding(lifted, failure, place, text, source, inputs, tracer, step), True
    refused = refused_by_layer(record, failure)
    if refused is not None:
        return _refused_finding(lifted_failure(record, tracer, inputs, step), refused, place, text, source), True
    if not failure.spans and (failure.fn is None or isinstance(failure.error, TypeError | ValueError)):
        return _step_finding(text, step, home), False  # no line of the user's file was on the way
    return (
        _said(
            "VAE007",
            place,
            label=text,
            labels=tuple(Label(s, "called from here") for s in failure.spans[1:4]),
            help="fix the error, or pass the inputs and arguments it needs (--input, --init, --step)",
        ),
        False,
    )


def _step_finding(text: str, step: Any, home: Span) -> Said:
    return stopped("VAE003", f"the step raises {text}"), Found(
        home,
        help="fix --step; it can use model, the inputs by name, torch, nn, F, np, math, and what the file defines at its top level",
        notes=(f"the step: {step.code}",),
    )


def _first_line(error: BaseException) -> str:
    lines = [x.strip() for x in message_of(error).splitlines() if x.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _range_problem(text: str) -> bool:
    return "between 0 and 1" in text or "index out of range" in text


def _is_shape_problem(failure: Failure, text: str) -> bool:
    return isinstance(failure.error, RuntimeError | ValueError | IndexError) and failure.fn is not None and bool(_SHAPE_WORDS.search(text))


def _operands(failure: Failure) -> list[fx.Node]:
    return [n for n in ops.tensors(failure.args) if isinstance(n.meta.get("val"), torch.Tensor)]


def _is_loss(failure: Failure) -> bool:
    return failure.fn is not None and name_of(failure.fn) in ops.LOSSES


def _range_finding(record: Record, failure: Failure, place: Span, text: str, source: Source) -> Said:
    operands = _operands(failure)
    target_says = "target" in text.lower()
    squashed = bool(operands) and _ends_in(operands[0], {"sigmoid", "softmax", "clamp", "clip", "hardsigmoid", "hardtanh"})
    about_target = target_says or squashed
    bad = operands[1] if about_target and len(operands) > 1 else operands[0] if operands else None
    labels = _labels(operands[:2], source, record)
    if about_target:
        return _said(
            "VAE309",
            place,
            label=text,
            labels=labels,
            why="binary cross-entropy is the likelihood of values in [0, 1]; outside, it is unbounded below",
            help="scale the data to [0, 1], or use a Gaussian likelihood",
        )
    born = span(bad) if bad is not None else None
    return _said(
        "VAE304",
        place,
        label=text,
        labels=labels + ((Label(born, "made here, with no sigmoid"),) if born else ()),
        why="the reconstruction is unbounded, and binary_cross_entropy wants probabilities; on a GPU this is a device-side assert",
        help="use binary_cross_entropy_with_logits, or end the decoder with a sigmoid",
    )


def _ends_in(node: fx.Node, names: set[str]) -> bool:
    for _ in range(6):
        if ops.op(node) in names:
            return True
        if ops.op(node) in ops.SHAPE | ops.CAST and ops.value_inputs(node):
            node = ops.value_inputs(node)[0]
        else:
            return False
    return False


def _labels(nodes: list[fx.Node], source: Source, record: Record) -> tuple[Label, ...]:
    made = []
    for n in nodes:
        place = span(n)
        if place is not None:
            made.append(Label(place, f"{_name(n, source)}: {_dims(n, record)}"))
            origin = _reduced(n)
            reduced = span(origin) if origin is not None else None
            if origin is not None and reduced is not None and reduced.line != place.line:
                made.append(Label(reduced, f"reduced to {_dims(origin, record)} here"))
    return tuple(made)


def _reduced(node: fx.Node) -> fx.Node | None:
    """The sum or mean that a value has its shape from, through products with numbers: `beta * kl`. None where there is none."""
    while ops.op(node) in ops.ARITHMETIC | ops.CAST and len(ops.value_inputs(node)) == 1:
        node = ops.value_inputs(node)[0]
    return node if ops.op(node) in ops.LINEAR_REDUCE else None


def _name(node: fx.Node, source: Source) -> str:
    if node.op in ("placeholder", "get_attr"):
        return str(node.meta.get("input") or node.target)
    place = span(node)
    return (source.assigned(place) if source.is_whole_value(place) else "") or _short(source.expression(place)) or node.name


def _short(text: str) -> str:
    return text if len(text) <= 32 else text[:29] + "..."


def _dims(node: fx.Node, record: Record) -> str:
    return "(" + ", ".join(_shape(node, record)) + ")"


def _shape(node: fx.Node, record: Record) -> tuple[str, ...]:
    return record.shapes.get(node) or tuple(str(n) for n in shape(node))


def lifted_failure(record: Record, tracer: Tracer, inputs: InputSet, step: Any) -> Record:
    """The same run with sizes that move with the batch named, by failing once more at another batch size."""
    batch = inputs.batch
    if batch is None or record.lifted:
        return record
    size = inputs.symbols[batch]
    again = tracer.run(step, {batch: size + 1 if size + 1 not in inputs.symbols.values() else size + 5})
    if again.failure is not None and len(again.nodes) == len(record.nodes):
        lift(record, again, batch)
    return record


def _batch_finding(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, text: str) -> Said | None:
    """A batch that was split or cut apart on the way is the cause of shapes that do not fit, wherever they then meet."""
    from vaelint.anatomy.analyse import analyse  # the model of a partial run; models know nothing of failures

    failure = record.failure
    assert failure is not None
    model = analyse(record, tracer, inputs, step, source, None)
    batch = batch_of(model)
    reach = model.flow.ancestors(*_operands(failure)) if _operands(failure) else set()
    split = [f for f in batch.split() if f.node in reach]
    for code, found, advice in (
        (
            "VAE107",
            split,
            "split along the features: dim=1, or dim=-1",
        ),
        (
            "VAE104",
            [f for f in batch.as_time() if f.node in reach],
            "make the layer with batch_first=True, and take the last step with [:, -1]",
        ),
    ):
        for one in found:
            place = span(one.cause)
            if place is None:
                continue
            raised = tuple(Label(s, f"raises here: {text[:100]}") for s in failure.spans[:1])
            return _said(
                code,
                place,
                label=f"{_dims(one.source, record)} along its batch axis",
                labels=_labels([one.source], source, record) + raised,
                shapes=(ShapeRow(_name(one.source, source), _shape(one.source, record)),),
                help=advice,
            )
    return None


def _split_finding(record: Record, source: Source, text: str) -> Said | None:
    """A value that was split along another axis than the one the failing layer reads: the split is the place, not the layer."""
    failure = record.failure
    assert failure is not None
    operands = _operands(failure)
    name = name_of(failure.fn) if failure.fn is not None else ""
    asks = features_read(name, operands, failure)
    wrong = split_along_wrong_axis(operands[0], *asks) if asks is not None else None
    place = span(wrong.cut) if wrong is not None else None
    if asks is None or wrong is None or place is None:
        return None
    return _said(
        "VAE101",
        place,
        label=f"splits {_dims(wrong.source, record)} along axis {wrong.axis}: each part is {_dims(wrong.part, record)}",
        labels=tuple(Label(s, f"raises here: {text[:100]}") for s in failure.spans[:1]),
        shapes=tuple(ShapeRow(_name(n, source), _shape(n, record), _remark(n)) for n in (wrong.source, *operands[:2])),
        why=f"the layer takes {asks[1]} features along axis {wrong.fitting}, which is what a part has when that axis is split",
        help=f"split along the features: dim={wrong.fitting}",
        notes=(f"inside {failure.module}",) if failure.module else (),
    )


def _refused_finding(record: Record, refused: Refused, place: Span, text: str, source: Source) -> Said:
    """A recurrent layer's own check: at the split that left the features whole, where there is one, else at the call."""
    failure = record.failure
    assert failure is not None
    operand, wanted = refused.operand, refused.wanted
    wrong = split_along_wrong_axis(operand, -1, wanted)
    cut = span(wrong.cut) if wrong is not None else None
    born = tuple(Label(s, "the layer is made here") for s in failure.births[:1])
    return _said(
        "VAE101",
        cut or place,
        label=text[:160],
        labels=_labels([operand] if operand.op == "call_function" else [], source, record)
        + ((Label(place, "raises here"),) if cut is not None else ())
        + born,
        shapes=(ShapeRow(_name(operand, source), _shape(operand, record), f"{shape(operand)[-1]} features; {wanted} are wanted"),),
        why=f"{type(refused.layer).__name__} was made for {wanted} features",
        help=f"split along the features: dim={wrong.fitting}"
        if wrong is not None and cut is not None
        else f"make the layer for {shape(operand)[-1]} features, or give it {wanted}",
        notes=(f"inside {failure.module}",) if failure.module else (),
    )


def _shape_finding(
    record: Record, failure: Failure, place: Span, text: str, source: Source, inputs: InputSet, tracer: Tracer, step: Any
) -> Said:
    operands = _operands(failure)
    name = name_of(failure.fn) if failure.fn is not None else "operation"
    compared = _compares(record, failure, operands)
    remarks = _marks(operands, name)
    rows = tuple(ShapeRow(_name(n, source), _shape(n, record), remarks.get(n, _remark(n))) for n in operands[:4])
    born = tuple(Label(s, "the layer is made here") for s in failure.births[:1] if _is_layer(record, failure))
    called = tuple(Label(s, "reached from here") for s in failure.spans[1:3])
    why, advice = what_fits(name, operands, failure, lambda n: _shape(n, record), compared)
    notes = [f"inside {failure.module}"] if failure.module else []
    near, fits = fit_after_failure(tracer, step, inputs, record)
    if near:
        advice += "; or change the input: " + _other_input(near, inputs, operands)
    notes += [f"what fits: {f.text}" for f in fits]
    if trail := _trail(record):
        notes.append("the way here: " + " -> ".join(trail))
    return _said(
        "VAE302" if compared else "VAE101",
        place,
        label=text[:160],
        labels=_labels([n for n in operands[:2] if n.op == "call_function"], source, record) + born + called,
        shapes=rows,
        why=why,
        help=advice,
        notes=tuple(notes),
        facts={"fits": [f.to_json() for f in fits]} if fits else {},
    )


def _other_input(near: dict[str, int], inputs: InputSet, operands: list[fx.Node]) -> str:
    """`a 28x28 image gives 1x1 here; 32x32 would fit`."""
    if "H" not in near:
        return ", ".join(f"{s} = {n}" for s, n in near.items()) + " would fit"
    own, here = inputs.symbols, image_size_before(operands[0]) if operands else ""
    gives = f" gives {here} here" if here else " does not go through"
    return f"a {own['H']}x{own['W']} image{gives}; {near['H']}x{near['W']} would fit"


def _compares(record: Record, failure: Failure, operands: list[fx.Node]) -> bool:
    """Whether the failing call holds the reconstruction against the data."""
    if _is_loss(failure):
        return True
    name = name_of(failure.fn) if failure.fn is not None else ""
    if name not in ops.ADD or len(operands) < 2:
        return False
    flow = analyse_flow(record)
    return any(
        a in flow.data and a not in flow.learned and b in flow.learned and b in flow.data for a, b in (operands[:2], operands[1::-1])
    )


def _is_layer(record: Record, failure: Failure) -> bool:
    """Whether the innermost running module is a layer of torch, whose construction fixes the sizes."""
    try:
        module = record.model.get_submodule(failure.module or "")
    except AttributeError:
        return True
    return type(module).__module__.startswith("torch.nn")


def _remark(node: fx.Node) -> str:
    return "parameter" if node.meta.get("parameter") else ""


def _marks(operands: list[fx.Node], name: str) -> dict[fx.Node, str]:
    """What to look at in the shape table: the sizes that had to be equal."""
    if len(operands) < 2:
        return {}
    a, b = shape(operands[0]), shape(operands[1])
    if name == "linear" and a and len(b) == 2:
        return {operands[0]: f"{a[-1]} features", operands[1]: f"wants {b[1]}"}
    if name in ops.ADD | ops.MUL | ops.DIV | ops.LOSSES:
        differing = [-i - 1 for i, (p, q) in enumerate(zip(reversed(a), reversed(b), strict=False)) if p != q and 1 not in (p, q)]
        return {operands[1]: "dimension " + ", ".join(str(d) for d in differing) + ", counted from the right"} if differing else {}
    return {}


def _trail(record: Record) -> list[str]:
    """The shapes after each of the last layers, up to the failing operation."""
    steps: list[str] = []
    for node in record.nodes:
        if node.op == "placeholder":
            steps.append(f"{node.name} {_dims(node, record)}")
        elif ops.uses_parameter(node) and isinstance(node.meta.get("val"), torch.Tensor) and ops.op(node) not in ops.CAST:
            steps.append(f"{node.meta.get('module') or ops.op(node)} {_dims(node, record)}")
    return steps[:1] + steps[1:][-5:]
