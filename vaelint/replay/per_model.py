"""For facts: an ordinary function over a recorded step or a model that is worked out once for each, when somebody first asks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from vaelint.replay.traced import Traced

M = TypeVar("M", bound=Traced)
T = TypeVar("T")


def per_model(work: Callable[[M], T]) -> Callable[[M], T]:
    """Keeps what the function returned for a model on the model. An exception is not kept: who asks next meets it again."""

    @functools.wraps(work)
    def kept(model: M) -> T:
        if work not in model.facts:
            model.facts[work] = work(model)
        found: T = model.facts[work]
        return found

    return kept
