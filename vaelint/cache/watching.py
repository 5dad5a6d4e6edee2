"""Begins to write down what this process reads. For a process of its own: it cannot be taken back."""

from __future__ import annotations

import sys

from vaelint.cache.witness import Witness
from vaelint.cache.wrapped import wrap
from vaelint.source.words_in_files import watched_by


def watch() -> Witness:
    """Writes down what this process reads from now on."""
    witness = Witness()
    wrap(witness)
    watched_by(witness.search)
    sys.addaudithook(witness.hook)
    return witness
