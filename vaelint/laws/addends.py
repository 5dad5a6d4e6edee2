"""Law B1, for terms: an addend of the loss that hangs on what is trained has a gradient.

Intervention: the draw is moved; an addend whose value follows and whose gradient does not exist pulls at nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.core.finding import Span
from vaelint.experiment.trial import differ
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.rule import Found

_NOTHING = 1e-6
_SHIFT = 0.5
_UNMOVED = 1e-3
_WEIGHTS = frozenset({"softmax", "log_softmax", "logsumexp"})


@law(
    "addends-have-gradients",
    "every term of the loss that depends on the draw has a gradient",
    covered=("VAE413", "VAE503", "VAE505", "VAE509"),
)
def addends_have_gradients(bench: Bench) -> Iterator[Broken]:
    """Terms that are cut off. One that is taken back elsewhere (a straight-through value, a baseline) is none, and a part of a
    log-weight: a bound that weighs its draws may hold some of it (doubly reparameterised: Tucker et al. 2019, eq. 8). The logarithm of
    a scale that was made of the error and is held is none either, where the error is divided by that scale, nor a shift that the rest of
    the loss takes back, as the largest of the log-weights before they are exponentiated."""
    live = {leaf.node for term in bench.model.terms if term.detached is None for leaf in term.leaves}
    for term in bench.model.terms:
        if term.detached is None or term.role == "constant":
            continue
        for leaf in term.leaves:
            if leaf.detached is None or _is_taken_back(bench, leaf, live) or _is_weighed(bench, leaf) or not bench.knows(leaf.node):
                continue
            if _is_of_a_held_scale(bench, leaf) or _cancels(bench, leaf):
                continue
            moved = moved_by_draws(bench, leaf)
            if moved > _NOTHING:
                yield _cut_off(bench, term, leaf, moved)
                return


def _is_taken_back(bench: Bench, leaf: Leaf, live: set[fx.Node]) -> bool:
    """Whether it is made of a cost that is in the loss with its gradient too: its average over steps, the value of a straight-through."""
    flow = bench.model.flow
    costs = live - flow.ancestors(*(s.z for s in bench.model.sites)) if bench.model.sites else live
    return bool(flow.ancestors(leaf.node) & costs)


def _is_weighed(bench: Bench, leaf: Leaf) -> bool:
    """Whether the draws are weighed by it: a softmax or a log-sum over draws is made of it."""
    return any(ops.op(n) in _WEIGHTS for n in bench.model.flow.descendants(leaf.node))


def _is_of_a_held_scale(bench: Bench, leaf: Leaf) -> bool:
    """Whether an addend that is trained is multiplied with, or divided by, what was held here: it is the rest of its normaliser."""
    flow = bench.model.flow
    assert leaf.detached is not None
    held = flow.descendants(leaf.detached)
    trained = [other for term in bench.model.terms if term.role == "reconstruction" for other in term.leaves if other.detached is None]
    made = flow.ancestors(*(n for other in trained for n in (other.node, *other.chain)))
    for node in (n for n in flow.descendants(leaf.detached) & made if ops.op(n) in ops.MUL | ops.DIV):
        operands = ops.value_inputs(node)
        if any(n in held for n in operands) and any(n not in held and n in flow.learned for n in operands):
            return True
    return False


def _cancels(bench: Bench, leaf: Leaf) -> bool:
    """Whether the loss stays where it is when what was held is another value: the rest of it takes back what the addend adds."""
    cut, loss = leaf.detached, bench.model.record.loss
    users = bench.model.flow.users.get(cut, ()) if cut is not None else ()
    if cut is None or loss is None or len(users) < 2 or not bench.knows(cut) or not bench.knows(loss):
        return False  # what is read once is not taken back
    same = bench.same([cut])
    before, after = (bench.after(c, [loss])[loss] for c in (same, {cut: same[cut] + _SHIFT}))
    return float((after - before).abs()) < _UNMOVED * _SHIFT


def moved_by_draws(bench: Bench, leaf: Leaf) -> float:
    """How much the addend moves with the draws that training moves."""
    flow = bench.model.flow
    draws = [s.z for s in bench.model.sites if s.z in flow.ancestors(leaf.node) and bench.knows(s.z) and s.z.meta.get("grad")]
    if not draws:
        return 0.0
    same = bench.same(draws)
    before = bench.after(same, [leaf.node]).get(leaf.node)
    after = bench.after({z: v + 0.5 for z, v in same.items()}, [leaf.node]).get(leaf.node)
    return 0.0 if before is None or after is None else differ(before, after)


def _cut_off(bench: Bench, term: Term, leaf: Leaf, moved: float) -> Broken:
    model = bench.model
    assert leaf.detached is not None
    found = Found(
        entered(leaf.detached, leaf.node) or model.where(leaf.detached),
        label="the gradient ends here",
        labels=model.labels((leaf.node, f"this addend of the loss ({model.written(leaf.node)}) only shifts its value")),
        why="it moves the value of the loss and pulls at no parameter: training goes as if it were not there",
        help="keep the graph of the trained values (no detach or no_grad around them); detach only targets and logged values",
    )
    text = f"it moves by {moved:.2g} of its size with the draw, and has no gradient"
    return Broken("term-without-gradient", found, "an addend that moves with the draw has a gradient", text)


def entered(cut: fx.Node, leaf: fx.Node) -> Span | None:
    """Of the places that led to the cut, the one beside the addend: in the function where both are written."""
    mine, theirs = route(cut)[::-1], route(leaf)[::-1]
    shared = 0
    while shared < min(len(mine), len(theirs)) and mine[shared] == theirs[shared]:
        shared += 1
    return mine[min(shared, len(mine) - 1)] if mine else None
