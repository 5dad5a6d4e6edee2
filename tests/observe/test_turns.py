"""Which step ends an iteration, told from the order in which optimizers step."""

from __future__ import annotations

import pytest
import torch

from vaelint.core.finding import Span
from vaelint.observe.iterations.turns import Turns


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ("ABABAB", "...b.b"),
        ("ABCABCABC", ".....c..c"),
        ("AABAABAAB", ".....b..b"),
        ("PPPABABAB", "......b.b"),
        ("1A2A3A4A5A6A7A8A9A0A", "...............a.a.a"),
        ("ABAAAAAAAAAA", "........aaaa"),
        ("AAAAAAAA", ".....aaa"),
    ],
)
def test_an_iteration_ends_with_the_last_step_before_the_first_comes_again(steps: str, ends: str) -> None:
    turns, held = Turns(), {name: [torch.zeros(())] for name in set(steps)}
    found = [s.lower() if turns.ends(held[s], Span("train.py", ord(s)), alone=False) else "." for s in steps]
    assert "".join(found) == ends


def test_the_only_optimizer_ends_each_iteration_wherever_it_steps() -> None:
    turns, held = Turns(), [torch.zeros(())]
    assert all(turns.ends(held, Span("train.py", line), alone=True) for line in (1, 1, 2, 1))
