"""Expressions that look like a draw and are its density: `log q = -e - 2 softplus(-e) - log s` adds what was learned to the same noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.record import ops
from vaelint.record.flow import Flow

if TYPE_CHECKING:
    from vaelint.anatomy.posterior.sites import Site


def without_densities(sites: list[Site], flow: Flow) -> list[Site]:
    """The draws without those that no layer reads, where another one of the same noise is read by one."""
    read = [s for s in sites if _is_read(s, flow)]
    known = [set(s.roots) for s in read]
    return [s for s in sites if s.kind not in ("categorical", "noise") or s in read or set(s.roots) not in known]


def _is_read(site: Site, flow: Flow) -> bool:
    return any(ops.uses_parameter(n) and ops.op(n) in ops.LAYERS for n in flow.descendants(site.z))
