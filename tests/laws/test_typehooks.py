"""The suite runs under the package's own types: what breaks them must not pass in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import typehooks
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from vaelint.anatomy.kl import readings
from vaelint.core import paths
from vaelint.core.finding import Span


def test_an_argument_of_another_type_is_refused() -> None:
    wrong: Any = 3
    with pytest.raises(BeartypeCallHintViolation, match="relative"):
        paths.relative(wrong)


def test_functions_inside_others_share_their_checks_and_no_more() -> None:
    def made(by: int) -> Callable[[int], int]:
        def inner(value: int) -> int:
            return value + by

        return typehooks.checked(inner)

    first, second = made(1), made(10)
    wrong: Any = "three"
    assert (first(1), second(1)) == (2, 11)
    assert second.__name__ == "inner" and second is not first
    for function in (first, second):
        with pytest.raises(BeartypeCallHintViolation, match="inner"):
            function(wrong)


def test_a_field_of_another_type_is_refused() -> None:
    wrong: Any = "first"
    with pytest.raises(BeartypeCallHintViolation, match="line"):
        Span("model.py", wrong)


def test_a_tensor_of_another_shape_is_refused() -> None:
    wrong = torch.zeros(2, 3)
    with pytest.raises(TypeCheckError, match="fit"):
        readings.fit(wrong, [])
