"""What becomes of a batch of one: the batch axis squeezed away, BatchNorm that needs two values."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.faults.batch.mixing import batch_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, shape, span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_NEEDS_TWO = "more than 1 value per channel"


@dataclass(frozen=True)
class Squeezed:
    """A squeeze without an axis, and what comes of it at B = 1."""

    node: fx.Node
    source: fx.Node
    raises: Span | None
    text: str
    changed: fx.Node | None  # a later value whose rank changes


@dataclass(frozen=True)
class NeedsTwo:
    """A normalisation over the batch that a batch of one cannot have."""

    made: Span | None
    called: Span | None
    path: str


class Single:
    """Questions about B = 1."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def squeezed(self) -> list[Squeezed]:
        """VAE105: only where a squeeze without an axis meets a dimension that is exactly B, and something comes of it."""
        model = self._model
        at = [
            n
            for n in model.record.graph.nodes
            if ops.op(n) == "squeeze"
            and len(n.args) < 2
            and not n.kwargs
            and isinstance(n.args[0], fx.Node)
            and self._drops_batch(n.args[0])
        ]
        if not at:
            return []
        one = self._run
        index = {n: i for i, n in enumerate(model.record.nodes)}
        theirs = one.nodes
        watched = (
            {s.z for s in model.sites}
            | {h for s in model.sites for h in s.heads}
            | {n for t in model.terms_of("reconstruction") for leaf in t.leaves for n in leaf.frontier}
        )
        found = []
        for node in at:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            below = model.flow.descendants(node)
            changed = next(
                (n for n in model.flow.sorted(below & watched) if index[n] < len(theirs) and len(shape(theirs[index[n]])) != len(shape(n))),
                None,
            )
            failure = one.failure
            raises = (
                failure.spans[0] if failure is not None and failure.spans and failure.fn is not None and index[node] < len(theirs) else None
            )
            if changed is not None or raises is not None:
                text = (
                    message_of(failure.error).strip().splitlines()[0][:120]
                    if failure is not None and message_of(failure.error).strip()
                    else ""
                )
                found.append(Squeezed(node, source, raises, text, changed))
        return found

    def _drops_batch(self, source: fx.Node) -> bool:
        samples = batch_of(self._model).samples
        labels = samples.of(source) if samples is not None else None
        if labels is None:
            return self._model.inputs.batch in self._model.dims(source)
        size = self._model.record.sizes[self._model.inputs.batch or ""]
        return any(p == size and q == size for p, q in zip(shape(source), labels.shape, strict=True))

    @cached_property
    def _run(self) -> Record:
        """A batch of one; in evaluation mode where BatchNorm does not let training pass."""
        model = self._model
        if model.single.failure is None or _NEEDS_TWO not in message_of(model.single.failure.error):
            return model.single
        return model.tracer.run(model.step, {model.inputs.batch or "B": 1}, training=False)

    def normalised(self) -> list[NeedsTwo]:
        """VAE801."""
        model = self._model
        if (
            not any(ops.op(n) == "batch_norm" for n in model.record.graph.nodes)
            or model.inputs.batch is None
            or model.record.sizes[model.inputs.batch] < 2
        ):
            return []
        failure = model.single.failure
        if failure is None or _NEEDS_TWO not in message_of(failure.error):
            return []
        node = next((n for n in model.record.graph.nodes if ops.op(n) == "batch_norm" and n.meta.get("module") == failure.module), None)
        called = span(node) if node is not None else (failure.spans[0] if failure.spans else None)
        return [NeedsTwo(failure.births[0] if failure.births else None, called, failure.module or "")]


def squeezed(model: Model) -> list[Squeezed]:
    """VAE105: squeezes that take the batch axis away at B = 1."""
    return Single(model).squeezed()


def needs_two(model: Model) -> list[NeedsTwo]:
    """VAE801: normalisations that raise at B = 1."""
    return Single(model).normalised()
