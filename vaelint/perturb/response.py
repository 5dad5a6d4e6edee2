"""What became of a run with another size: it raised, it folded the batch anew, its reconstruction is broadcast, or nothing of that."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from enum import Enum
from types import TracebackType
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, shape, span
from vaelint.trace.spans import SpanFinder


class Kind(Enum):
    """How a run ended."""

    FINE = "runs"
    REFUSED = "the code refuses it"  # a raise or an assert of the user's own
    RAISES = "raises"
    REFOLDED = "another batch size comes out"
    BROADCAST = "reconstruction and input differ in shape"
    UNKNOWN = "is unclear"


_BAD = (Kind.RAISES, Kind.REFOLDED, Kind.BROADCAST)


@dataclass(frozen=True)
class Outcome:
    """The end of one run: `at` are the user's expressions to look for the number in, the nearest first; `depth` how far it came."""

    kind: Kind
    depth: int = 0
    at: tuple[Span, ...] = ()
    text: str = ""
    place: Span | None = None
    numbers: frozenset[int] = frozenset()  # the sizes that met where it raised

    @property
    def is_bad(self) -> bool:
        """Whether something is wrong with the run that the code does not say itself."""
        return self.kind in _BAD


def of_error(error: BaseException, spans: SpanFinder) -> Outcome:
    """A constructor that raised."""
    cause = error.__cause__ or error
    places = spans.of_traceback(cause)
    if _refused(cause, spans):
        return Outcome(Kind.REFUSED)
    return Outcome(Kind.RAISES, 0, places[:3], _line(cause), places[0] if places else None)


def of_record(record: Record, base: Record, spans: SpanFinder, batch: str | None) -> Outcome:
    """How a recorded run ended, beside one at the user's sizes with the same batch."""
    nodes = record.nodes
    if record.failure is not None:
        failure = record.failure
        if _refused(failure.error, spans):
            return Outcome(Kind.REFUSED)
        operands = [a for a in ops.tensors(failure.args) if isinstance(a, fx.Node)]
        at = (*failure.spans[:3], *failure.births, *_trail(record, operands))
        numbers = frozenset(s for a in operands for s in shape(a))
        return Outcome(Kind.RAISES, len(nodes), _once(at), _line(failure.error), failure.spans[0] if failure.spans else None, numbers)
    if (refolded := _refolded(record, base, batch)) is not None:
        node = refolded
        text = f"a batch of {record.sizes[batch or 'B']} becomes {'x'.join(map(str, shape(node)))}"
        return Outcome(Kind.REFOLDED, len(nodes), _once((*_spans_of(record, node), *_trail(record, [node]))), text, span(node))
    before = {key: alike for key, _, _, alike in _comparisons(base)}
    for key, recon, target, alike in _comparisons(record):
        if not alike and before.get(key, False):
            shapes = " and ".join("x".join(map(str, shape(n))) for n in (recon, target))
            return Outcome(Kind.BROADCAST, len(nodes), _once(_trail(record, [recon])), f"{shapes} are broadcast against each other", key[0])
    if (strayed := _strayed(record, base)) is not None:
        node, wanted = strayed
        text = f"the output for an input of {'x'.join(map(str, wanted))} is {'x'.join(map(str, shape(node)))}"
        return Outcome(Kind.BROADCAST, len(nodes), _once((*_spans_of(record, node), *_trail(record, [node]))), text, span(node))
    return Outcome(Kind.FINE, len(nodes))


def _strayed(record: Record, base: Record) -> tuple[fx.Node, tuple[int, ...]] | None:
    """An output that has the shape of an input at the user's sizes and has it no more: compared or not, it is no reconstruction now."""
    outputs, before = (list(_tensors_in(r.output)) for r in (record, base))
    if len(outputs) != len(before):
        return None
    for mine, theirs in zip(outputs, before, strict=True):
        for name, node in base.inputs.items():
            if len(shape(node)) > 2 and shape(theirs) == shape(node) and shape(mine) != shape(record.inputs[name]):
                return mine, shape(record.inputs[name])
    return None


def _refolded(record: Record, base: Record, batch: str | None) -> fx.Node | None:
    """The first value whose leading size is the batch at the user's sizes and is not any more, if an output has become so."""
    if batch is None:
        return None
    b = record.sizes[batch]
    outputs, before = (list(_tensors_in(r.output)) for r in (record, base))
    if len(outputs) != len(before):
        return None
    pairs = list(zip(outputs, before, strict=True))
    if not any(shape(y)[:1] == (b,) and shape(x)[:1] != (b,) for x, y in pairs):
        return None
    for mine, theirs in zip(record.nodes, base.nodes, strict=False):
        if ops.op(mine) != ops.op(theirs):
            break
        if shape(theirs)[:1] == (b,) and shape(mine)[:1] != (b,) and shape(mine):
            return mine
    return next((x for x, y in pairs if shape(y)[:1] == (b,) and shape(x)[:1] != (b,)), None)


def _tensors_in(value: Any) -> Iterator[fx.Node]:
    if isinstance(value, fx.Node):
        if isinstance(value.meta.get("val"), torch.Tensor):
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors_in(part)


def _comparisons(record: Record) -> Iterator[tuple[tuple[Span | None, str], fx.Node, fx.Node, bool]]:
    """The operations that lay something learned beside plain data of the input, and whether their shapes agree."""
    plain: set[fx.Node] = set()
    learned: set[fx.Node] = set()
    for node in record.nodes:
        sources = node.all_input_nodes
        if node.meta.get("input") is not None or node in record.inputs.values():
            plain.add(node)
        elif (node.op == "get_attr" and node.meta.get("parameter")) or any(s in learned for s in sources):
            learned.add(node)
        elif any(s in plain for s in sources):
            plain.add(node)
        if node.op != "call_function":
            continue
        operands = [s for s in ops.tensors(node.args[:2]) if isinstance(s, fx.Node) and len(shape(s)) >= 2]
        if len(operands) == 2 and (operands[0] in learned) != (operands[1] in learned):
            recon, target = operands if operands[0] in learned else (operands[1], operands[0])
            elementwise = ops.op(node) in ops.LOSSES | ops.ADD | ops.MUL | {"sub", "rsub", "binary_cross_entropy", "cross_entropy"}
            if target in plain and elementwise and len(shape(recon)) == len(shape(target)):
                yield (span(node), ops.op(node)), recon, target, shape(recon) == shape(target)


def _trail(record: Record, starts: list[fx.Node], limit: int = 16) -> list[Span]:
    """Where the values that met were made, and the layers that made them, going back from them."""
    found: list[Span] = []
    todo, seen = list(starts), set(starts)
    for _ in range(limit):
        if not todo:
            break
        node = todo.pop(0)
        found += _spans_of(record, node)
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return found


def _spans_of(record: Record, node: fx.Node) -> list[Span]:
    spans = list((node.meta.get("stack") or ())[:1])
    path = node.meta.get("module") or ""
    while path and path != "?":
        try:
            module = record.model.get_submodule(path)
        except AttributeError:
            break
        if (born := record.births.get(id(module))) is not None:
            spans.append(born)
        path = path.rpartition(".")[0]
    return spans


def _once(spans: Any) -> tuple[Span, ...]:
    return tuple(dict.fromkeys(s for s in spans if s is not None))


def _refused(error: BaseException, spans: SpanFinder) -> bool:
    """Whether the user's code raised by a statement of its own."""
    last: TracebackType | None = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not spans.is_user(last.tb_frame.f_code.co_filename) or last.tb_lasti < 0:
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _line(error: BaseException) -> str:
    text = next((x.strip() for x in message_of(error).splitlines() if x.strip()), "")
    return f"{type(error).__name__}: {text}"[:140] if text else type(error).__name__
