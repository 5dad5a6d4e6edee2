"""Law B4, for one weight: it multiplies the KL once.

Intervention: a number that an object of the user's holds is doubled. Where two products on one way from the KL to the loss double with it,
the KL has the square of the weight that is set and reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch

from vaelint.anatomy.loss.term_weights import Factor
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import span
from vaelint.rule import Found

_MOST = 3  # attributes of one value that are tried


@law("weights-count-once", "a weight of the KL multiplies it once", covered=("VAE415", "VAE436"), cost="all")
def weights_count_once(bench: Bench) -> Iterator[Broken]:
    """Two products with one number, on one way to the loss, that both follow an attribute.

    Exempt: a product that runs again and again, as a discount does, and a square that is written as one.
    """
    for fact in bench.model.kls:
        named = [f for f in fact.factors if f.origin == "named" and f.value is not None and abs(f.value) not in (0.0, 1.0)]
        for outer, inner in combinations(named, 2):
            one, other = span(outer.node), span(inner.node)
            if outer.value != inner.value or one is None or other is None or (one.file, one.line) == (other.file, other.line):
                continue
            name = next((name for at, name in _held(bench, outer) if _both_follow(bench, at, name, (outer, inner))), None)
            if name is not None:
                yield _twice(bench, outer, inner, name)
                return


def _held(bench: Bench, factor: Factor) -> list[tuple[int, str]]:
    """Where this number is kept: the owner's place among the user's objects, and the attribute."""
    owners = enumerate(user_objects(bench.model.record.model))
    return [(at, name) for at, owner in owners for name, v in vars(owner).items() if type(v) in (int, float) and v == factor.value][:_MOST]


def _both_follow(bench: Bench, at: int, name: str, factors: tuple[Factor, Factor]) -> bool:
    """Whether the numbers in both products are twice as large where the attribute is."""

    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        owner = user_objects(model)[at]
        setattr(owner, name, 2 * vars(owner)[name])

    again = bench.base.again(prepare=put)
    if again.record.failure is not None:
        raise CannotMeasureError("the step does not run with another weight")
    products = [again.pairs.get(f.node) for f in factors]
    return all(n is not None and 2 * f.value in n.args for n, f in zip(products, factors, strict=True) if f.value is not None)


def _twice(bench: Bench, outer: Factor, inner: Factor, name: str) -> Broken:
    assert outer.value is not None
    found = Found(
        bench.model.where(outer.node),
        label=f"{name} = {outer.value:g} multiplies the KL again",
        labels=bench.model.labels((inner.node, "here it does already")),
        why=f"the KL weighs {outer.value * outer.value:g}, not {outer.value:g}: twice {name} weighs it four times",
        help="multiply the KL by its weight at one place",
    )
    return Broken("weight-twice", found, f"one product follows {name}", f"with twice {name} two products double")
