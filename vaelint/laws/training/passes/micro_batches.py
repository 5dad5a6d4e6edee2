"""Law C5, for gradients that add up over several passes: all terms of one loss are averaged over the passes, or none.

Observed on the record of the step: how many passes of one loop add up to one step, and which addends of their loss are divided by that
number. Exempt are literals, a divisor that has nothing to do with the loop, and addends that are divided by a multiple of the number
or by the size of the whole batch, which may hold it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.term_weights import factors
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import BackwardCall, Record
from vaelint.rule import Found

_SUMS = frozenset({"add", "sub", "rsub", "iadd", "isub", "radd"})
_KEEP = ops.SHAPE | ops.CAST | ops.MUL | ops.DIV | {"mean", "sum", "neg", "negative"}
_CLOSE = 1e-6


@dataclass(frozen=True)
class _Addend:
    """An addend of a loss, and the linear operations from the loss down to it."""

    node: fx.Node
    chain: tuple[fx.Node, ...]


@law("passes-share-alike", "passes that add up to one step divide all terms alike", covered=("VAE402", "VAE920"))
def passes_share_alike(bench: Bench) -> Iterator[Broken]:
    """Loops of several passes before one step."""
    record = bench.model.record
    for call, turns in _accumulated(record):
        addends = [a for a in _addends(call.node) if bench.model.flow.ancestors(a.node) & set(record.inputs.values())]
        divided = {a: n for a in addends if (n := _divides(bench, a, call, turns)) is not None}
        whole = [a for a in addends if a not in divided and not _may_hold(bench, a, turns)]
        if divided and whole:
            one, at = next(iter(divided.items()))
            yield _unequal(bench, at, next(n for n in (*whole[0].chain, whole[0].node) if n not in one.chain), turns)
            return


def _accumulated(record: Record) -> Iterator[tuple[BackwardCall, int]]:
    """A pass of each loop whose gradients add up to one step, and how many do."""
    before = 0
    for step in (u for u in record.uses if u.kind == "stepped"):
        calls = [c for c in record.backwards[before : step.passes] if c.kind == "backward" and c.leaves & step.of]
        for stack in dict.fromkeys(c.stack for c in calls):
            same = [c for c in calls if c.stack == stack]
            cleared = [u for u in record.uses if u.kind == "cleared" and u.of & step.of and u.place is not None]
            if len(same) > 1 and len(cleared) < len(same):
                yield same[0], len(same)
        before = step.passes


def _addends(loss: fx.Node) -> list[_Addend]:
    found, waiting = list[_Addend](), [_Addend(loss, ())]
    while waiting:
        at = waiting.pop()
        live = [n for n in ops.value_inputs(at.node) if n.meta.get("grad")]
        goes_on = ops.op(at.node) in _SUMS or (ops.op(at.node) in _KEEP and len(live) == 1)
        waiting += [_Addend(n, (*at.chain, at.node)) for n in live] if goes_on else []
        found += [] if goes_on else [at]
    return found


def _divides(bench: Bench, addend: _Addend, call: BackwardCall, turns: int) -> fx.Node | None:
    """Where an addend is divided by the number of passes, by a name that the loop is made of too."""
    for factor in factors((*addend.chain, addend.node), bench.model.source):
        named = factor.origin == "named" and factor.value is not None and math.isclose(factor.value * turns, 1, rel_tol=_CLOSE)
        if named and _names(factor.text) & _of_loop(bench, call):
            return factor.node
    return None


def _may_hold(bench: Bench, addend: _Addend, turns: int) -> bool:
    """Whether a number that an addend is divided by may have the number of passes in it."""
    batch = bench.model.record.sizes.get(bench.model.inputs.batch or "", 0)
    for factor in factors((*addend.chain, addend.node), bench.model.source):
        if not factor.value:  # a tensor, or a power of a size
            return True
        by = 1 / abs(factor.value)
        whole = by >= turns and math.isclose(by / turns, round(by / turns), rel_tol=_CLOSE)
        if whole and (factor.origin != "size" or (batch and by >= batch)):
            return True
    return False


def _names(text: str) -> set[str]:
    """The names and attributes of an expression, as they are written."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return set()
    return _read(tree)


def _read(tree: ast.AST) -> set[str]:
    return {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute)} - {"self"}


def _of_loop(bench: Bench, call: BackwardCall) -> set[str]:
    """The names that stand in the header of a loop around a pass, and in what was assigned to them."""
    if call.span is None:
        return set()
    tree = bench.model.source.file(call.span.file).tree
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For) and n.lineno <= call.span.line <= (n.end_lineno or 0)]
    if not loops:
        return set()
    names = _read(max(loops, key=lambda n: n.lineno).iter)
    made = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and any(ast.unparse(t) in names for t in n.targets)]
    return names.union(*map(_read, made))


def _unequal(bench: Bench, at: fx.Node, whole: fx.Node, turns: int) -> Broken:
    model = bench.model
    found = Found(
        model.where(at),
        label=f"divided by the number of passes, {turns}",
        labels=model.labels((whole, "not divided by it, and added in each pass")),
        why=f"the gradients of the {turns} passes add up: one term counts once in the step, the other {turns} times",
        help="divide the whole loss: (error + beta * kl) / passes",
    )
    text = f"{turns} passes add up to one step; {model.written(at)} is divided by {turns}, {model.written(whole)} is not"
    return Broken("accumulated-unequally", found, "all terms are divided alike", text)
