"""The suite runs under the package's own types: what breaks them must not pass in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from vaelint.anatomy.kl import readings
from vaelint.core import paths
from vaelint.core.finding import Span


def test_an_argument_of_another_type_is_refused() -> None:
    wrong: Any = 3
    with pytest.raises(BeartypeCallHintViolation, match="relative"):
        paths.relative(wrong)


def test_a_field_of_another_type_is_refused() -> None:
    wrong: Any = "first"
    with pytest.raises(BeartypeCallHintViolation, match="line"):
        Span("model.py", wrong)


def test_a_tensor_of_another_shape_is_refused() -> None:
    wrong = torch.zeros(2, 3)
    with pytest.raises(TypeCheckError, match="fit"):
        readings.fit(wrong, [])
