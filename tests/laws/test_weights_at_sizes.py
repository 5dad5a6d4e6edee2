"""A weight is that of the user's sizes: what was seen at another size alone, and could not be followed from there, is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx

from vaelint.record.record import Record
from vaelint.replay.measuring import measured
from vaelint.replay.replay import Replay, ReplayError

SIZES = {"B": 16, "D": 8}


def mean_over_batch(batches: tuple[int, ...]) -> Callable[[float, Mapping[str, int]], float]:
    """1 / B, at these batch sizes only."""

    def weight(even: float, sizes: Mapping[str, int]) -> float:
        if sizes["B"] not in batches:
            raise ReplayError("the code insists on its batch")
        return 1 / sizes["B"]

    return weight


def replay() -> Replay:
    empty = Record(fx.Graph(), torch.nn.Identity(), "symbolic", SIZES)
    return Replay(empty, lambda node: None, lambda sizes: {}, SIZES)


def test_a_weight_that_was_seen_at_another_batch_alone_is_unknown() -> None:
    assert measured(mean_over_batch((3,)), SIZES, replay()) is None


def test_a_weight_that_was_seen_at_the_users_batch_alone_is_that() -> None:
    found = measured(mean_over_batch((16,)), SIZES, replay())
    assert found is not None and found.value == 1 / 16 and found.exponents["B"] is None


def test_a_weight_that_moves_with_the_batch_is_followed() -> None:
    found = measured(mean_over_batch((3, 6, 16)), SIZES, replay())
    assert found is not None and found.value == 1 / 16 and found.exponents["B"] == -1
