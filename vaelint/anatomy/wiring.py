"""Questions about how the model is wired, each answered by a file of its own and computed once: `model.wiring.batch.mixed()`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.mixing import Batch
from vaelint.finding import Span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


class Wiring:
    """The analyses behind the rules on batches, gradients, devices and numbers."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def batch(self) -> Batch:
        """What becomes of the batch axis."""
        return Batch(self._model)

    def birth_of(self, node: fx.Node) -> Span | None:
        """Where the layer that a node ran in was constructed."""
        return self._model.birth(str(node.meta.get("module") or ""))
