"""Where sampler and KL read the encoder's head differently, and which of the two is the odd one."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Literal

from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.sampling.drawn_clash import other_scale
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import route, span
from vaelint.record.walk import behind
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_WORDS = {"logvar": "log-variance", "log-std": "log-standard deviation", "std": "standard deviation", "variance": "variance"}
FORMULAS = {"logvar": "exp(head / 2)", "log-std": "exp(head)", "std": "head", "variance": "sqrt(head)", "std (softplus)": "softplus(head)"}

_CUTS = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "hardtanh"})


@dataclass(frozen=True)
class Clash:
    """A posterior whose sampler and KL disagree."""

    site: Site
    fact: KlFact
    scale: fx.Node
    head: fx.Node
    kl: fx.Node
    sampler: str  # how the sampler reads the head
    kl_reads: str
    negative: bool  # the sampler's scale can be negative
    culprit: Literal["sampler", "kl"]
    tie: str = ""  # why it is this one, where the numbers leave it open

    def kl_place(self, model: Model) -> Span | None:
        """The formula; of a helper whose parameter is named for what the formula takes it for, the call that gives it something else."""
        places = route(self.kl)
        function = model.source.function(places[0]) if len(places) > 1 else None
        named = (
            [_named(a.arg.lower()) for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")]
            if function is not None
            else []
        )
        return places[1] if self.kl_reads in named else span(self.kl)

    @property
    def formula(self) -> str:
        """The scale that would agree with the KL."""
        return FORMULAS.get(self.kl_reads, self.kl_reads)

    @property
    def formula_now(self) -> str:
        """The scale as the sampler has it."""
        return FORMULAS.get(self.sampler, self.sampler)


@per_model
def clashes(model: Model) -> list[Clash]:
    """All posteriors whose KL is exact for another reading of the head than the sampler's."""
    found = []
    for fact in model.kls:
        site = fact.site
        drawn = other_scale(model, fact)
        if (
            (fact.probe.verdict != "parameterisation" and drawn is None)
            or site is None
            or site.scale is None
            or not site.scale_heads
            or fact.term.core is None
        ):
            continue
        reading = model.parameterisation(site)
        head = site.scale_heads[0]
        hint = _hint(model, head, site)
        kl_reads = drawn or fact.probe.reads_as
        if (
            drawn is None and fact.probe.reason and not reading.negative
        ):  # the KL takes the positive scale for a logarithm, or for a variance
            called = fact.probe.reads_as == "variance" and "var" in model.written(site.scale).lower()
            odd: Literal["sampler", "kl"] = "sampler" if called else "kl"
            tie = _tie("variance", model.written(site.scale)) if called else ""
            place = site.z if called and site.scale not in site.scale_heads else site.scale  # the variance is right
            found.append(Clash(site, fact, place, head, fact.term.core, reading.name, fact.probe.reads_as, False, odd, tie))
            continue
        derived = site.scale not in site.scale_heads and site.scale in model.flow.ancestors(
            *(n.node for n in fact.term.leaves), stop={site.z}
        )
        culprit: Literal["sampler", "kl"] = "sampler"
        tie = ""
        if derived and not reading.negative:
            culprit = "kl"  # a KL that is worked out from the sampler's scale is the one that changed it
        elif not reading.negative:
            said = hint is not None and _agrees(hint, reading.name) != _agrees(hint, kl_reads)
            culprit = "kl" if said and _agrees(hint or "", reading.name) else "sampler"
            tie = _tie(hint if said else None, model.written(head))
        scale = _scale_expression(site)
        found.append(Clash(site, fact, scale, head, fact.term.core, reading.name, kl_reads, reading.negative, culprit, tie))
    return found


def _tie(hint: str | None, written: str) -> str:
    """What settles which of two readings is meant, where each is right by itself."""
    if hint is None:
        return "either reading is right by itself: if the sampler's is the intended one, fix the KL instead"
    return f"either reading is right by itself, and only its name says that {written} is meant as a {_WORDS[hint]}"


def _scale_expression(site: Site) -> fx.Node:
    """Where the sampler reads its scale off the head: at the product with the noise, where the head is at most cut on the way there."""
    assert site.scale is not None
    scale = behind(site.scale, ops.SHAPE, until=site.scale_heads)  # a distribution broadcasts its parameters
    raw = behind(scale, ops.SHAPE | ops.CAST | _CUTS, until=site.scale_heads)
    return site.z if raw in site.scale_heads else scale


def _unpacked(model: Model, head: fx.Node) -> str:
    """The name that one part of a value is unpacked to: `logvar` in `mu, logvar = self.heads(h).chunk(2)`."""
    part = head.args[1] if head.target is operator.getitem and len(head.args) > 1 else None
    return model.source.unpacked(span(head), part) if isinstance(part, int) else ""


def _agrees(hint: str, reading: str) -> bool:
    return reading.startswith(hint)


def _hint(model: Model, head: fx.Node, site: Site) -> str | None:
    """What the user's names call the head. A tie-break only: measurement has already shown that two readings clash."""
    names = " ".join(
        n.lower()
        for n in (
            model.written(head),
            _unpacked(model, head),
            str(head.meta.get("module") or ""),
            *(model.written(u) for u in head.users if ops.op(u) in ops.SHAPE | ops.CAST),
        )
    )
    return _named(names)


def _named(names: str) -> str | None:
    if re.search(r"(log|ln).?_?(sigma|sig|std|s)_?(2|sq|squared)\b|\bls_?2\b", names):
        return "logvar"
    if re.search(r"log.?_?(std|sigma|sig\b|scale|sd)|ln.?sigma|logs\b|log_s\b|\b[a-z]?_?ls_?\d?\b", names):
        return "log-std"
    if re.search(r"log.?_?v|lv\b|logvar", names):
        return "logvar"
    if re.search(r"var", names):
        return None
    if re.search(r"std|sigma|scale", names):
        return "std"
    return None
