"""Reconstructions of parts of one output of the decoder, each held against its own part of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

import torch
from torch import fx

from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.replay import Replay, ReplayError

_MOST = 4  # parts of one output: of a table's many columns the first tells


@dataclass
class OutputParts:
    """Which elements of each of the decoder's outputs the reconstructions that were met so far are made of."""

    flow: Flow
    replay: Replay
    sizes: Mapping[str, int]
    seen: dict[fx.Node, list[set[int] | None]] = field(default_factory=dict)  # None: all, or not known

    def is_new(self, pair: Pair) -> bool:
        """Whether a reconstruction is of elements that no other is of; from then on they are taken."""
        known = [r for r in pair.raw if r in self.seen]
        if not known:
            own = self._elements(pair)
            self.seen.update((r, [own]) for r in pair.raw)
            return True
        taken = self.seen[known[0]]
        own = self._elements(pair) if len(pair.raw) == 1 and None not in taken and len(taken) < _MOST else None
        if own is None or any(own & (other or set()) for other in taken):
            return False
        taken.append(own)
        return True

    def _elements(self, pair: Pair) -> set[int] | None:
        """The elements of its output that a reconstruction selects; None where it is all of them, or something else is done to them."""
        between = self.flow.ancestors(pair.recon, stop=set(pair.raw)) - set(pair.raw)
        selects = any(ops.op(n) in ops.SELECT for n in between)
        if (
            len(pair.raw) != 1
            or not selects
            or any(ops.op(n) not in ops.SELECT | ops.SHAPE | ops.CAST and n.op == "call_function" for n in between)
        ):
            return None
        size = self.replay.shape_of(pair.raw[0], self.sizes)
        numbers = torch.arange(torch.Size(size).numel(), dtype=torch.float64).view(size)
        try:
            got = self.replay([pair.recon], {pair.raw[0]: numbers}, self.sizes)[pair.recon]
        except ReplayError:
            return None
        return {int(v) for v in got.flatten().tolist()}
