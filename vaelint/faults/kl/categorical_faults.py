"""Which KLs of discrete latents are none: a prior of another mass than 1, logits for log-probabilities, one half of a Bernoulli one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.anatomy.kl.bernoulli import is_half
from vaelint.anatomy.kl.categorical import CategoricalFit, categorical_site, fit_categorical
from vaelint.late import dataclass
from vaelint.replay.exempt import exempt
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.model import Model
    from vaelint.anatomy.posterior.sites import Site


_UP = 0.5  # how far the numbers of a learned prior are moved
_HALF = "it counts one value of each latent alone: q (log q - log p) without (1 - q) (log(1 - q) - log(1 - p))"


@dataclass(frozen=True)
class CategoricalFault:
    """What is wrong with a KL of discrete latents; `binary` where they are Bernoulli."""

    fact: KlFact
    what: str
    binary: bool = False
    of_learned_prior: bool = False


def _mass_of_other_numbers(model: Model, fact: KlFact, site: Site, fitted: CategoricalFit) -> float | None:
    """The total mass of a learned prior where its own numbers have moved up; None where it stays, or nothing of it is learned."""
    flow, loss = model.flow, model.record.loss
    own = flow.ancestors(*(leaf.node for leaf in fact.term.leaves)) - flow.ancestors(*site.heads)
    numbers = [n for n in flow.sorted(own) if n.op == "get_attr" and n.meta.get("parameter") and n.meta.get("grad")]
    if loss is None or not numbers or fitted.mass <= 0:
        return None
    sizes = {**model.symbols, "B": 2}
    now = model.replay(numbers, {}, sizes)
    moved = fit_categorical(fact.term, site, loss, model.replay, sizes, put={n: now[n].double() + _UP for n in numbers})
    return moved.mass if moved is not None and abs(moved.mass / fitted.mass - 1) > _UP / 10 else None


def _is_entropy(fit: CategoricalFit) -> bool:
    """The entropy alone stands for the KL to the uniform prior, which is a constant more: nothing is trained otherwise."""
    return fit.is_entropy


CONSTANTS = (("the negative entropy, which the constant of a uniform prior is left out of", _is_entropy),)
"""What keeps the rule silent about a prior of another mass than 1."""


def categorical_faults(model: Model) -> list[CategoricalFault]:
    """KL terms of categorical posteriors whose prior is none, or that take logits for log-probabilities; halves of Bernoulli ones."""
    found = []
    for fact in model.kls:
        site = categorical_site(fact.term)
        if fact.site is not None or site is None or model.record.loss is None:
            continue
        try:
            sizes = {**model.symbols, "B": 2}
            fitted = fit_categorical(fact.term, site, model.record.loss, model.replay, sizes)
            half = fitted is None and is_half(fact.term, site, model.record.loss, model.replay, sizes)
        except ReplayError:
            continue
        if fitted is None and half:
            found.append(CategoricalFault(fact, _HALF, binary=True))
        if fitted is None or fitted.weight <= 0:
            continue
        if fitted.fault:
            found.append(CategoricalFault(fact, fitted.fault))
            continue
        if (moved := _mass_of_other_numbers(model, fact, site, fitted)) is not None:
            what = f"its learned prior adds up to {moved:.4g} with numbers of its own that are {_UP:g} higher, and {fitted.mass:.4g} here"
            found.append(CategoricalFault(fact, what, of_learned_prior=True))
            continue
        if fitted.logits_for_logs:
            found.append(CategoricalFault(fact, "logits are used as log-probabilities"))
        elif abs(fitted.mass - 1) > 1e-4 and not exempt(model, "VAE419", CONSTANTS, fact.term.core, fitted):
            found.append(CategoricalFault(fact, f"its prior has a total mass of {fitted.mass:.4g}: at the prior the term is not 0"))
    return found
