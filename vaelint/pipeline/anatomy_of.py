"""The anatomy of a step, with what laws tell of its likelihoods."""

from __future__ import annotations

from typing import Any

from vaelint.anatomy.analyse import analyse
from vaelint.anatomy.model import Model
from vaelint.core.inputs import InputSet
from vaelint.laws.likelihoods.proven import prove_densities
from vaelint.record.record import Record
from vaelint.source.written import Source
from vaelint.trace.ladder import Tracer


def anatomy_of(record: Record, tracer: Tracer, inputs: InputSet, step: Any, source: Source, other: Record | None) -> Model:
    """Finds the anatomy of a recorded step."""
    model = analyse(record, tracer, inputs, step, source, other)
    prove_densities(model)
    return model
