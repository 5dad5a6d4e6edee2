"""Which operation of a term breaks what it should keep: the one with another of which the term keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.model import Model
from vaelint.record import ops
from vaelint.replay.exchanges import Exchange, mending


def mended_operation(model: Model, term: Term, ends: set[fx.Node], holds: Callable[[], bool]) -> Exchange | None:
    """The one exchange that mends a term; None where it takes more than one.

    Args:
        model: has the record.
        term: breaks a law, or is not what it stands for.
        ends: values that the term is a function of: its formula begins after them.
        holds: whether the law holds, measured anew.
    """
    with other_formulas(model):
        return mending(model.replay, model.flow.sorted(_formula(model, term, ends)), holds)


@contextmanager
def other_formulas(model: Model) -> Iterator[None]:
    """What is worked out meanwhile is of another formula than the one that was written: the model forgets it."""
    kept = dict(model.facts)
    try:
        yield
    finally:
        model.facts.clear()
        model.facts.update(kept)


def said_of(model: Model, found: Exchange, what: str) -> str:
    """`with alpha squared here it is the KL`."""
    return f"with {found.words.format(model.written(found.operand))} here {what}"


def _formula(model: Model, term: Term, ends: set[fx.Node]) -> set[fx.Node]:
    """What each addend is made of, with its factors, up to where all are one sum."""
    own = {n for leaf in term.leaves for n in (leaf.node, *_until(leaf.chain, term.core))}
    factors = {i for n in own if ops.op(n) in ops.MUL | ops.DIV for i in ops.value_inputs(n)}
    return (model.flow.ancestors(*own, *factors, stop=ends) | own) - ends


def _until(chain: Sequence[fx.Node], core: fx.Node | None) -> Sequence[fx.Node]:
    """A chain runs from the loss inwards: of it, what comes after the core."""
    return chain[chain.index(core) :] if core in chain else ()
