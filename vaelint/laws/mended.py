"""Which operation of a term breaks a law: the one with another of which the term keeps it."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.replay.exchanges import Exchange, mending


def mended_operation(bench: Bench, term: Term, ends: set[fx.Node], holds: Callable[[], bool]) -> Exchange | None:
    """The one exchange that mends a term; None where it takes more than one.

    Args:
        bench: has the record.
        term: breaks the law.
        ends: values that the term is a function of: its formula begins after them.
        holds: whether the law holds, measured anew.
    """
    model = bench.model
    own = {n for leaf in term.leaves for n in (leaf.node, *(leaf.chain[leaf.chain.index(term.core) :] if term.core in leaf.chain else ()))}
    factors = {i for n in own if ops.op(n) in ops.MUL | ops.DIV for i in ops.value_inputs(n)}
    inside = model.flow.sorted((model.flow.ancestors(*own, *factors, stop=ends) | own) - ends)
    kept = dict(model.facts)  # what is worked out meanwhile is of another formula
    try:
        return mending(model.replay, inside, holds)
    finally:
        model.facts.clear()
        model.facts.update(kept)


def said_of(bench: Bench, found: Exchange, what: str) -> str:
    """`with alpha squared here it is the KL`."""
    return f"with {found.words.format(bench.model.written(found.operand))} here {what}"
