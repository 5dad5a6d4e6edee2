"""Likelihoods of no family that is known, told by their own sum: whose exp(-term) adds up to one number over the data is a density.

One unit of such a term is one nat, so what it weighs against a KL is known, whatever it is called.
"""

from __future__ import annotations

from dataclasses import replace

from vaelint.anatomy.kl.kl_parts import weight_of
from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.model import Model
from vaelint.anatomy.reconstruction.density_kind import Density
from vaelint.anatomy.reconstruction.recon import ReconProbe
from vaelint.laws.bench import Bench
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.densities.normalised import is_density, nearest_support
from vaelint.laws.supports.supports import levels_of_data
from vaelint.replay.measuring import own_symbols
from vaelint.replay.replay import ReplayError
from vaelint.replay.scale import Scaling

MEASURED = "measured"
_UNKNOWN = ("other", "unknown")


def prove_densities(model: Model) -> None:
    """Gives the reconstructions that no formula was found for the weight of the density that they are, where they are one."""
    if model.record.loss is None or not any(_is_open(fact) for fact in model.recons):
        return
    for one in Elementwise.all_of(Bench(model, None)):
        own = {leaf.node for leaf in one.at.term.leaves}
        facts = [fact for fact in model.recons if fact.pair.leaf.node in own]
        if not facts or not all(map(_is_open, facts)) or not _is_proven(one):
            continue
        scaling = weight_of(Leaf(one.core, ()), model.record.loss, model.replay, model.symbols)
        if scaling is None or not scaling.constant:
            continue
        scaling, first = (
            Scaling(abs(scaling.value), scaling.exponents, abs(scaling.constant)),
            facts[0],
        )  # of log p too, which is subtracted
        event = first.event or own_symbols(model.replay.texts_of(one.at.target), model.symbols)
        probe = ReconProbe(MEASURED, scaling.value)
        density = Density(MEASURED, scaling.value, learned=True)
        known = replace(first, probe=probe, scaling=scaling, density=density, event=event)
        known.learned_variance, known.moving_weight, known.learned_weight = False, False, None  # its scale is that of the density
        model.recons = [known if fact is first else fact for fact in model.recons if fact is first or fact not in facts]


def _is_open(fact: ReconFact) -> bool:
    return fact.density is None and fact.probe.kernel in _UNKNOWN


def _is_proven(one: Elementwise) -> bool:
    """Whether a term that learns its own spread adds up to one number as it stands, at no other weight."""
    if not one.learns_its_spread or one.is_detached or one.has_data_elsewhere:
        return False
    try:
        found = nearest_support(one, levels_of_data(one))
        return found is not None and found[0] <= found[1].spread and is_density(one, found[1], lambda *_: {}, (1.0,))
    except ReplayError:
        return False
