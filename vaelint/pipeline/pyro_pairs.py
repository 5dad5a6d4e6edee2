"""What Pyro's guide and model say of themselves, as findings and as errors: of an observed training, and of a step that was told."""

from __future__ import annotations

from vaelint.core.finding import Finding, Span
from vaelint.core.result import Request
from vaelint.core.setup import SETUP
from vaelint.core.sign import sign
from vaelint.record.record import Record
from vaelint.trace.pyro_sites import CODE, Sites


def found_in(sites: Sites | None, request: Request) -> list[Finding]:
    """What is wrong with a guide and a model that run."""
    found = (sites.found or []) if sites is not None and request.wants(CODE) else []
    place = Span(request.target.partition(":")[0], 1)
    return [sign(SETUP[CODE], f, place, f.label) for f in found]


def raise_if_swapped(sites: Sites, request: Request) -> None:
    """Raises TargetError where model and guide are exchanged."""
    if request.wants(CODE) and (swapped := sites.swapped) is not None:
        raise swapped


def raise_if_no_pair(record: Record, request: Request) -> None:
    """Raises TargetError where model and guide are exchanged, or where Pyro refused them in a step that was told."""
    sites: Sites | None = record.sites
    if sites is None:
        return
    raise_if_swapped(sites, request)
    error = record.failure.error if record.failure is not None else None
    if (known := sites.explain(error)) is not None and record.failure is not None:
        known.span = known.span or next(iter(record.failure.spans), None)
        raise known from error
