"""User code raised while it was traced: which operation, on which shapes, born where, and what would fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.finding import Certainty, Finding, Label, Severity, ShapeRow, Span
from vaelint.graph import Failure, Record, name_of, shape, span

if TYPE_CHECKING:
    from vaelint.inputs import InputSet
    from vaelint.source import Source
    from vaelint.trace.ladder import Tracer

_SHAPE_WORDS = re.compile(
    r"shape|size|dimension|mat1 and mat2|must match|broadcast|channels|expected input|elements|reduction dim|view|stack expects|invalid for input|normalized_shape|number of features", re.IGNORECASE
)


def diagnose(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, home: Span) -> tuple[Finding, bool]:
    """The finding for a failed run, and whether it is a finding about the model (as opposed to code that cannot be analysed)."""
    failure = record.failure
    assert failure is not None
    place = failure.spans[0] if failure.spans else home
    text = _first_line(failure.error)
    if isinstance(failure.error, RuntimeError | ValueError | IndexError) and failure.fn is not None and _range_problem(text):
        return _range_finding(record, failure, place, text, source), True
    if _is_shape_problem(failure, text):
        return _shape_finding(record, failure, place, text, source, inputs, tracer, step), True
    return (
        Finding(
            "VAE007", "code-raises", Severity.ERROR, "the model's own code raises", place, Certainty.PROVED, label=text,
            labels=tuple(Label(s, "called from here") for s in failure.spans[1:4]),
            help="mend the error, or give the inputs and arguments it wants (--input, --init, --step)",
        ),
        False,
    )  # fmt: skip


def _first_line(error: BaseException) -> str:
    lines = [x.strip() for x in str(error).splitlines() if x.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _range_problem(text: str) -> bool:
    return "between 0 and 1" in text or "index out of range" in text


def _is_shape_problem(failure: Failure, text: str) -> bool:
    return isinstance(failure.error, RuntimeError | ValueError | IndexError) and failure.fn is not None and bool(_SHAPE_WORDS.search(text))


def _operands(failure: Failure) -> list[fx.Node]:
    return [n for n in ops.tensors(failure.args) if isinstance(n.meta.get("val"), torch.Tensor)]


def _is_loss(failure: Failure) -> bool:
    return failure.fn is not None and name_of(failure.fn) in ops.LOSSES


def _range_finding(record: Record, failure: Failure, place: Span, text: str, source: Source) -> Finding:
    operands = _operands(failure)
    target_says = "target" in text.lower()
    squashed = bool(operands) and _ends_in(operands[0], {"sigmoid", "softmax", "clamp", "clip", "hardsigmoid", "hardtanh"})
    about_target = target_says or squashed
    bad = operands[1] if about_target and len(operands) > 1 else operands[0] if operands else None
    labels = _labels([n for n in operands[:2]], source)
    if about_target:
        return Finding(
            "VAE309", "target-range", Severity.ERROR, "the target of a Bernoulli likelihood lies outside [0, 1]", place, Certainty.PROVED, label=text, labels=labels,
            why="binary cross-entropy is the likelihood of values in [0, 1]; outside, it is unbounded below", help="scale the data to [0, 1], or use a Gaussian likelihood",
        )  # fmt: skip
    born = span(bad) if bad is not None else None
    return Finding(
        "VAE304", "bce-on-unbounded", Severity.ERROR, "binary cross-entropy gets values outside [0, 1]", place, Certainty.PROVED, label=text,
        labels=labels + ((Label(born, "made here, with no sigmoid"),) if born else ()),
        why="the reconstruction is unbounded, and binary_cross_entropy wants probabilities; on a GPU this is a device-side assert", help="use binary_cross_entropy_with_logits, or end the decoder with a sigmoid",
    )  # fmt: skip


def _ends_in(node: fx.Node, names: set[str]) -> bool:
    for _ in range(6):
        if ops.op(node) in names:
            return True
        if ops.op(node) in ops.SHAPE | ops.CAST and ops.value_inputs(node):
            node = ops.value_inputs(node)[0]
        else:
            return False
    return False


def _labels(nodes: list[fx.Node], source: Source) -> tuple[Label, ...]:
    made = []
    for n in nodes:
        place = span(n)
        if place is not None:
            made.append(Label(place, f"{_name(n, source)}: {_dims(n)}"))
    return tuple(made)


def _name(node: fx.Node, source: Source) -> str:
    if node.op in ("placeholder", "get_attr"):
        return str(node.meta.get("input") or node.target)
    place = span(node)
    return (source.assigned(place) if source.is_whole_value(place) else "") or source.expression(place)[:40] or node.name


def _dims(node: fx.Node) -> str:
    return "(" + ", ".join(str(n) for n in shape(node)) + ")"


def _shape_finding(record: Record, failure: Failure, place: Span, text: str, source: Source, inputs: InputSet, tracer: Tracer, step: Any) -> Finding:
    operands = _operands(failure)
    name = name_of(failure.fn) if failure.fn is not None else "operation"
    rows = tuple(ShapeRow(_name(n, source), tuple(str(s) for s in shape(n)), _remark(n)) for n in operands[:4])
    born = tuple(Label(s, "the layer is made here") for s in failure.births[:1])
    called = tuple(Label(s, "reached from here") for s in failure.spans[1:3])
    notes = []
    fits = _what_fits(name, operands, failure)
    if failure.module:
        notes.append(f"inside {failure.module}")
    trail = _trail(record, source)
    if trail:
        notes.append("the way here: " + " -> ".join(trail))
    code, slug, message = ("VAE302", "target-cannot-match", "reconstruction and target have shapes that cannot be compared") if _is_loss(failure) else ("VAE101", "shape-mismatch", "an operation cannot take these shapes")
    return Finding(
        code, slug, Severity.ERROR, message, place, Certainty.PROVED, label=text[:160], labels=_labels([n for n in operands[:2] if n.op == "call_function"], source) + born + called,
        shapes=rows, why=fits[0], help=fits[1], notes=tuple(notes),
    )  # fmt: skip


def _remark(node: fx.Node) -> str:
    return "parameter" if node.meta.get("parameter") else ""


def _what_fits(name: str, operands: list[fx.Node], failure: Failure) -> tuple[str, str]:
    """Why the shapes do not go together, and the size that would."""
    sizes = [shape(n) for n in operands]
    if name == "linear" and len(sizes) >= 2 and sizes[0] and len(sizes[1]) == 2:
        got, wants = sizes[0][-1], sizes[1][1]
        return f"the layer takes {wants} features and gets {got}", f"make it nn.Linear({got}, {sizes[1][0]}), or feed it {wants} features"
    if name.startswith("conv") and len(sizes) >= 2 and len(sizes[0]) >= 2 and len(sizes[1]) >= 2:
        axis = 0 if "transpose" in name else 1
        return f"the layer takes {sizes[1][axis]} channels and gets {sizes[0][1] if len(sizes[0]) > 1 else '?'}", "make the layer's in_channels equal to the channels that reach it"
    if name in ("view", "reshape", "unflatten") and sizes:
        total = 1
        for n in sizes[0]:
            total *= n
        return f"the tensor has {total} elements, which the new shape cannot hold", "compute the sizes from the tensor (x.size(0), -1, flatten(1)) in place of fixed numbers"
    if name in ops.LOSSES and len(sizes) >= 2:
        pairs = [(a, b) for a, b in zip(sizes[0], sizes[1], strict=False) if a != b]
        difference = ", ".join(f"{a} against {b}" for a, b in pairs) or f"{len(sizes[0])} dimensions against {len(sizes[1])}"
        return f"the decoder gives {difference}", "make the decoder give back the input's shape (output_padding, kernel sizes, a final crop), or reshape one of the two"
    if len(sizes) >= 2:
        return f"{' and '.join(str(s) for s in sizes[:2])} cannot be combined", "bring both operands to one shape before this line"
    return "", "check the sizes that reach this line"


def _trail(record: Record, source: Source) -> list[str]:
    """The shapes after each of the last layers, up to the failing operation."""
    steps: list[str] = []
    for node in record.nodes:
        if node.op == "placeholder":
            steps.append(f"{node.name} {_dims(node)}")
        elif ops.uses_parameter(node) and isinstance(node.meta.get("val"), torch.Tensor):
            steps.append(f"{node.meta.get('module') or ops.op(node)} {_dims(node)}")
    return steps[:1] + steps[1:][-5:]
