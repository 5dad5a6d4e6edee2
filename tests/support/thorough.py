"""How many examples a law is tried on: `make test` takes few of them, always the same ones, and `make test-cases` all."""

from __future__ import annotations

import os

ALL = os.environ.get("VAELINT_CASES") == "all"


def examples(few: int, many: int) -> int:
    """The number for this run."""
    return many if ALL else few
