"""The one operation of a KL's formula with another of which the term would be the KL: the place of the slip, and its repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import fx

from vaelint.anatomy.kl.gaussian import probe_kl
from vaelint.anatomy.kl.kl_slice import loose_ends
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.model import Model
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.exchanges import Exchange, mending
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
    inside = model.flow.sorted(_formula(model, fact.term, ends))
    kept = dict(model.facts)  # what is worked out meanwhile is of another formula

    def holds(at: Mapping[str, int]) -> bool:
        probed = next((probe for s, probe in probe_kl(slice_, at) if s is not None and s.z is site.z), None)
        return probed is not None and probed.verdict in ("exact", "prior") and not probed.constant

    for at in bases(model.symbols):
        found = mending(model.replay, inside, partial(holds, at))
        model.facts.clear()
        model.facts.update(kept)
        if found is not None:
            return MendedFormula(model.where(found.node), _said(model, found))
    return None


def _formula(model: Model, term: Term, ends: set[fx.Node]) -> set[fx.Node]:
    """What each addend is made of, with its factors, up to where all are one sum."""
    own = {n for leaf in term.leaves for n in (leaf.node, *_until(leaf.chain, term.core))}
    factors = {i for n in own if ops.op(n) in ops.MUL | ops.DIV for i in ops.value_inputs(n)}
    return (model.flow.ancestors(*own, *factors, stop=ends) | own) - ends


def _until(chain: Sequence[fx.Node], core: fx.Node | None) -> Sequence[fx.Node]:
    """A chain runs from the loss inwards: of it, what comes after the core."""
    return chain[chain.index(core) :] if core in chain else ()


def _said(model: Model, found: Exchange) -> str:
    return "with " + found.words.format(model.written(found.operand)) + " here it is the KL"
