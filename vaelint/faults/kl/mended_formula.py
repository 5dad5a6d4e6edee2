"""The one operation of a KL's formula with another of which the term would be the KL: the place of the slip, and its repair."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from vaelint.anatomy.kl.gaussian import probe_kl
from vaelint.anatomy.kl.kl_slice import loose_ends
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.mended import mended_operation, said_of
from vaelint.anatomy.model import Model
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.replay.measuring import bases


@dataclass(frozen=True)
class MendedFormula:
    """Where the operation is, and what it takes there when the formula is right."""

    place: Span | None
    words: str


def mended_formula(model: Model, fact: KlFact) -> MendedFormula | None:
    """The operation with another of which the term is the KL of its own draw; None where it takes more than one."""
    site, loss = fact.site, model.record.loss
    if site is None or loss is None:
        return None
    slice_ = loose_ends(fact.term, loss, model.sites, model.flow, model.replay)
    ends = {*slice_.heads, *slice_.others, *slice_.draws, *slice_.after, *(s.z for s in slice_.sites)}

    def holds(at: Mapping[str, int]) -> bool:
        probed = next((probe for s, probe in probe_kl(slice_, at) if s is not None and s.z is site.z), None)
        return probed is not None and probed.verdict in ("exact", "prior") and not probed.constant

    for at in bases(model.symbols):
        found = mended_operation(model, fact.term, ends, partial(holds, at))
        if found is not None:
            return MendedFormula(model.where(found.node), said_of(model, found, "it is the KL"))
    return None
