"""Law C5, for limits on gradients that add up over several passes: the limit is put on their sum, once.

Observed on the step as it is recorded: a limit by norm at one place finds the gradients of some parameters, a further pass adds to
them, and the same limit finds them again before a step uses them. What it limits the second time holds what was limited before, so the
first passes are made small again and again, and the last one counts in full. Exempt are limits that only read the norm (infinite or very
large), and gradients that are taken away in between, as where each sample's gradient is limited by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from vaelint.core.finding import Label
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import GradientUse, Record
from vaelint.rule import Found

_NO_LIMIT = 1e5


@law("sums-are-limited-once", "gradients of several passes are limited when all are there", covered=("VAE909", "VAE914", "VAE922"))
def sums_are_limited_once(bench: Bench) -> Iterator[Broken]:
    """Limits by torch's own functions, inside of a loop that accumulates."""
    record = bench.model.record
    limits = [(k, u) for k, u in enumerate(record.uses) if u.kind == "limited" and 0 < u.limit < _NO_LIMIT and u.place is not None]
    for (first, one), (second, other) in combinations(limits, 2):
        both = one.of & other.of
        if one.place == other.place and both and _adds(record, one, other, both) and _is_one_sum(record, first, second, both):
            yield _repeated(record, one, both)
            return


def _adds(record: Record, one: GradientUse, other: GradientUse, of: frozenset[int]) -> bool:
    return any(c.kind == "backward" and c.leaves & of for c in record.backwards[one.passes : other.passes])


def _is_one_sum(record: Record, first: int, second: int, of: frozenset[int]) -> bool:
    """Whether nothing uses or clears these gradients between two limits, and a step uses them afterwards."""
    between, later = record.uses[first + 1 : second], record.uses[second + 1 :]
    return not any(u.kind in ("stepped", "cleared") and u.of & of for u in between) and any(
        u.kind == "stepped" and u.of & of for u in later
    )


def _repeated(record: Record, one: GradientUse, of: frozenset[int]) -> Broken:
    assert one.place is not None
    passed = next((c.span for c in record.backwards if c.leaves & of), None)
    step = next((u.place for u in record.uses if u.kind == "stepped" and u.of & of), None)
    labels = [
        Label(span, text) for span, text in ((passed, "each pass adds to the gradients"), (step, "uses their sum")) if span is not None
    ]
    found = Found(
        one.place,
        label="limits a sum of gradients after each pass that is added to it",
        labels=tuple(labels),
        why="what the earlier passes left is made small again with each later one, so the last passes decide the step, and the others "
        "count for little",
        help="limit the gradients once, between the last backward() and step()",
    )
    return Broken(
        "limit-repeated", found, "one limit for one sum", f"gradients of {len(of)} parameters are limited again before their step"
    )
