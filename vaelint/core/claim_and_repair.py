"""What a finding says beyond its words: what a real run would show, and how it can be mended. Imports no torch."""

from __future__ import annotations

import re

from vaelint.late import dataclass


def _in_words(made: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])", "_", made.__name__).lower()


@dataclass(frozen=True)
class Claim:
    """What a finding predicts of a real run. Each kind of claim is a class of its own, with an experiment that measures it."""

    predicted: str  # the prediction in words

    @classmethod
    def in_words(cls) -> str:
        """The name of its kind in words: `noise_rows`."""
        return _in_words(cls)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """How a finding can be mended. Each kind is a class of its own, with a function that proposes edits, made only when asked for."""

    sure: bool = False  # whether the likeliest edit is shown with the finding also where no --diff or --fix has checked it
