"""Which of the optimizers' steps ends an iteration, where no loader gives the batches: the last one before the first comes again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from vaelint.core.finding import Span

_MOST = 16  # steps that are looked at until the first comes again
_IN_A_ROW = 6  # steps of one kind: a critic is trained up to five times before its generator

Key = tuple[frozenset[int], Span | None]
"""What a step moves, and where it stands: an optimizer may be made anew in each iteration."""


class Turns:
    """Told of each step of a training, in order."""

    def __init__(self) -> None:
        self._steps: list[Key] = []
        self._first: Key | None = None
        self._end: Key | None = None
        self._ended = True  # whether the last one has come since the first one came
        self._waited = 0  # how often the first one came again before the last one did

    @property
    def several(self) -> bool:
        """Whether an iteration is known to have several steps, and to begin before the first of them."""
        return self._end != self._first

    def ends(self, held: Sequence[torch.Tensor], place: Span | None, *, alone: bool) -> bool:
        """Whether the step over some parameters ends an iteration. `alone`: no other optimizer was made."""
        step = frozenset(map(id, held)), place
        if self._end is None:
            self._steps.append(step)
            self._first, self._end = self._found(alone)
        first, last = self._first, self._end
        if first is None or last is None:
            return False
        if last == first:
            return step[0] == first[0]
        if step == first:
            self._waited = 0 if self._ended else self._waited + 1
            if self._waited >= _IN_A_ROW:  # the other one steps in some iterations only
                self._end = first
                return True
            self._ended = False
        self._ended = self._ended or step == last
        return step == last

    def _found(self, alone: bool) -> tuple[Key | None, Key | None]:
        """The first and the last step of an iteration, where they can be told by now. Steps of one kind in a row count as one."""
        first, last = self._steps[0], self._steps[-1]
        if alone or (len(self._steps) >= _IN_A_ROW and {*self._steps} == {first}):
            return last, last
        kinds = [kind for kind, _ in groupby(self._steps)]
        if kinds.count(last) == 1:
            return (first, first) if len(self._steps) > _MOST else (None, None)
        before = kinds[-2]
        return (last, before) if self._steps.count(before) == 1 else (last, last)
