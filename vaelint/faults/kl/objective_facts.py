"""What is off, or notable, about the KL and the balance of the loss. Each fact is worked out when a rule first asks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.pointing import odd_part, wrong_part
from vaelint.anatomy.loss.signs import sign_place
from vaelint.anatomy.loss.terms import Term
from vaelint.core.finding import Span
from vaelint.core.sign import Found
from vaelint.faults.gradients.saved import changed_in_place
from vaelint.faults.kl import missing
from vaelint.faults.kl.categorical_faults import CategoricalFault, categorical_faults
from vaelint.faults.kl.direction import reversed_at
from vaelint.faults.kl.discrepancy import turned_discrepancies
from vaelint.faults.kl.scale_report import scale_found
from vaelint.faults.kl.scale_verdicts import ScaleVerdict, judge_scale
from vaelint.faults.kl.split_draws import SplitDraws, split_draws
from vaelint.faults.kl.tied_batch import with_batch
from vaelint.faults.likelihood.swapped import Swap, find_swap
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


_PARTS = {"m": "mu^2", "s2": "sigma^2", "1": "log sigma^2"}


class Objective:
    """What is off, or notable, about the KL and the balance of the loss."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def scale_verdicts(self) -> list[ScaleVerdict]:
        """The fault of each effective beta, one for each place in the source."""
        if self._model.record.loss is not None and self._model.elements(self._model.record.loss) > 1:
            return []  # who reduces it later decides on its scale
        record, weighted = self._model.record, bool(self._model.step.unknown_weights)
        judged = [judge_scale(with_batch(b, record), record, self._model.symbols, weighted) for b in self._model.betas]
        seen: dict[Any, ScaleVerdict] = {}
        for v in judged:
            if v is not None:
                seen.setdefault((v.fault, span(v.node) if v.node is not None else None), v)
        return list(seen.values())

    def scale_found(self, verdict: ScaleVerdict, label: str, why: str, help: str) -> Found:
        """The finding for a scale verdict; info where a named weight is in the way."""
        return scale_found(self._model, verdict, label, why, help)

    def is_partly_read(self, fact: KlFact) -> bool:
        """Whether a KL takes the head for a log-variance in one part and for a log-standard deviation in another."""
        return fact.probe.verdict == "wrong" and any(k.startswith("exp(") for k in fact.probe.coefficients)

    def relative_coefficients(self, fact: KlFact) -> dict[str, float]:
        """Coefficients of m, s^2 and -1 in the gradients, against the largest that agrees with another."""
        known = fact.probe.coefficients
        unit = max((abs(v) for v in known.values()), default=1.0) or 1.0
        return {k: round(v / unit, 6) for k, v in known.items()}

    def wrong_part(self, fact: KlFact) -> Span | None:
        """The addend of a KL that is not the formula's."""
        scales = set(fact.site.scale_heads) if fact.site is not None else set()
        charged = [leaf for leaf in fact.term.leaves if fact.probe.entropy and scales.issuperset(leaf.frontier)]
        return self._model.where(sign_place(self._model, charged[0], None)) if charged else wrong_part(self._model, fact)

    def reversed_at(self, fact: KlFact) -> Span | None:
        """Where a KL in the wrong direction was turned round."""
        return reversed_at(self._model, fact)

    def wrong_coefficient(self, fact: KlFact) -> str:
        """Which coefficient is off and what it should be, "" where more than one is."""
        odd = odd_part(fact)
        others = [v for k, v in fact.probe.coefficients.items() if k != odd]
        if odd is None or not others[0]:
            return ""
        return f"the coefficient of {_PARTS[odd]} is {fact.probe.coefficients[odd] / others[0]:.4g} times what it should be"

    def sign_place(self, fact: KlFact) -> fx.Node | None:
        """Where a KL gets its wrong sign."""
        return sign_place(self._model, fact.term.leaves[0], fact.term.core)

    def swap(self, fact: KlFact) -> Swap:
        """The expression that exchanges mean and log-variance, and what settles that it is this one."""
        return find_swap(self._model, fact)

    @cached_property
    def turned_discrepancies(self) -> list[tuple[Term, fx.Node | None]]:
        """Distances to the prior that enter with the wrong sign, and where they get it."""
        return [(t, sign_place(self._model, t.leaves[0], t.core)) for t in turned_discrepancies(self._model)]

    def ceiling_of(self, fact: KlFact) -> fx.Node | None:
        """The operation that cuts a KL off from above; None where it is the posterior's own mean or scale that is kept in bounds."""
        node, site = missing.ceiling(self._model, fact.term), fact.site
        made = self._model.flow.ancestors(*(n for n in (site.mu, site.scale) if n is not None)) if site is not None else set()
        return None if node in made and node is not fact.term.core else node

    @cached_property
    def unreduced(self) -> fx.Node | None:
        """The addend that makes the loss more than one number, where the others are one number each."""
        return missing.unreduced(self._model)

    @cached_property
    def blind_term(self) -> fx.Node | None:
        """The addend of the loss that knows the data alone."""
        return missing.blind_term(self._model)

    def detached_terms(self, role: str) -> list[Term]:
        """Terms that enter the loss without a gradient."""
        return missing.detached_terms(self._model, role)

    def detached_place(self, term: Term) -> Span | None:
        """Where a term was cut off from its gradient."""
        return missing.detached_place(self._model, term)

    @cached_property
    def misplaced_logsumexp(self) -> list[fx.Node]:
        """Log-sum-exps over the batch that leave the axis of the samples."""
        return missing.misplaced_logsumexp(self._model)

    @cached_property
    def changed_in_place(self) -> list[tuple[fx.Node, fx.Node]]:
        """Values that backward still needs and that are changed in place."""
        return changed_in_place(self._model)

    @cached_property
    def split_draws(self) -> list[SplitDraws]:
        """Monte Carlo KLs at two draws, or at a draw and the mean."""
        return split_draws(self._model)

    @cached_property
    def categorical_faults(self) -> list[CategoricalFault]:
        """Categorical KLs that are not one."""
        return categorical_faults(self._model)
