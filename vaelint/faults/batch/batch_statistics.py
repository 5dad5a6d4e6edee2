"""Statistics over the batch that samples are scaled or shifted by on their way to the posterior, in evaluation mode as in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.reach import walked
from vaelint.faults.batch.mixing import batch_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.replay.labels import FREE
from vaelint.replay.samples import Samples

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_EXTREMES = frozenset({"max", "min", "amax", "amin", "norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "normalize"})
_MEETS = ops.ADD | ops.MUL | ops.DIV | {"lerp", "addcmul", "addcdiv"}


@dataclass(frozen=True)
class Scaled:
    """`node` combines values of single samples with `statistic`, taken over the samples of `source`."""

    statistic: fx.Node
    source: fx.Node
    node: fx.Node


def batch_scaled(model: Model) -> list[Scaled]:
    """VAE103: one for each line.

    Means and deviations of hidden values are a batch normalisation written by hand, and left alone; so is whatever evaluation mode does
    without, a code that is one for the whole batch, and a scaling that the decoder undoes: HI-VAE, Nazabal et al. 2020, section 3.3.
    """
    samples = batch_of(model).samples
    ends = {h for s in model.sites for h in s.heads} | {s.z for s in model.sites}
    if samples is None or not ends:
        return []
    path, found = model.flow.ancestors(*ends), dict[object, Scaled]()
    for statistic, source in samples.statistics.items():
        if statistic in path and not _normalises(model, statistic, source) and (node := _meeting(model, samples, statistic)) in path:
            place = span(statistic)
            found.setdefault((place.file, place.line) if place is not None else statistic, Scaled(statistic, source, node))
    if not found:
        return []
    return [f for f in found.values() if _in_evaluation(model, f) and not _is_undone(model, samples, f.statistic)]


def _in_evaluation(model: Model, found: Scaled) -> bool:
    """Whether evaluation mode scales by the statistic as well: one that only moves a running value in training does not count."""
    nodes = [n for n in model.evaluation.graph.nodes if n.op == "call_function"]
    return any(_same(n, found.node) for n in walked([n for n in nodes if _same(n, found.statistic)], lambda n: n.users))


def _same(node: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes of different runs are one operation of the source."""
    return span(node) == span(other) and ops.op(node) == ops.op(other)


def _normalises(model: Model, statistic: fx.Node, source: fx.Node) -> bool:
    """Whether it is a moment of hidden values."""
    return source in model.flow.learned and ops.op(statistic) not in _EXTREMES


def _is_undone(model: Model, samples: Samples, statistic: fx.Node) -> bool:
    """Whether what is made of a draw is brought back to the data's own scale by the same statistic."""
    drawn = model.flow.descendants(*(s.z for s in model.sites))
    scales = {statistic, *model.flow.descendants(statistic)} - drawn
    return any(set(ops.value_inputs(user)) & drawn and set(ops.value_inputs(user)) & scales for user in _met(model, samples, statistic))


def _meeting(model: Model, samples: Samples, statistic: fx.Node) -> fx.Node | None:
    """The first operation in which the statistic, up to elementwise functions and changes of shape, meets values of single samples."""
    return next(_met(model, samples, statistic), None)


def _met(model: Model, samples: Samples, statistic: fx.Node) -> Iterator[fx.Node]:
    """All such operations, the nearest first."""
    todo, seen = [statistic], set[fx.Node]()
    while todo:
        node = todo.pop(0)
        for user in model.flow.users.get(node, ()):
            labels = samples.of(user)
            if user in seen or labels is None:
                continue
            seen.add(user)
            if bool((labels != FREE).any()):
                if ops.op(user) in _MEETS:
                    yield user
            elif ops.op(user) in ops.POINTWISE | ops.SHAPE | ops.SELECT:
                todo.append(user)
