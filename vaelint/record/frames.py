"""In which function two values meet: the frame to point at when helpers lie between."""

from __future__ import annotations

from torch import fx

from vaelint.core.finding import Span


def frame_beside(node: fx.Node, other: fx.Node) -> Span | None:
    """The expression that made `node`, in the innermost function that both were made in or below; None without a place."""
    mine: list[Span] = [*reversed(node.meta.get("stack") or ())]
    theirs: list[Span] = [*reversed(other.meta.get("stack") or ())]
    for own, its in zip(mine, theirs, strict=False):
        if own != its:
            return own
    return mine[-1] if mine else None
