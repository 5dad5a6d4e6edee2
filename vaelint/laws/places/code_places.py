"""Law A7, for quantisers: a code comes back to the place that asked for it.

Intervention: one element of what the encoder put out is moved far enough to get another code. Where codes and values are compared
element by element, what moves lies at that element's place: it may differ along the axis of the code's entries, and along no other.
A code for a whole map fills several axes; then the element itself is among what moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.rule import Found

_ELEMENTS = 6
_FAR = 20.0  # of the values' own spread: another code is nearer then


@law("codes-keep-their-places", "a code comes back to the place that asked for it", covered=("VAE103", "VAE112", "VAE113"))
def codes_keep_their_places(bench: Bench) -> Iterator[Broken]:
    """Every lookup of a nearest code whose result is held against what was looked up."""
    flow = bench.model.flow
    for book in codebooks_of(bench.model):
        below = flow.descendants(book.code)
        for join in flow.sorted(below):
            pair = _compared(bench, join, below)
            if pair is None:
                continue
            value, codes = pair
            source = _asked(bench, value)
            if source is not None and (apart := _scattered(bench, source, value, codes)) is not None:
                yield _broken(bench, _reshaped(bench, codes, book.code), value, codes, apart)
                return
            break


def _compared(bench: Bench, join: fx.Node, below: set[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """The two operands of one shape of which one comes from the codes and the other does not."""
    ins = [n for n in ops.value_inputs(join) if bench.is_real(n) and bench.knows(n)]
    if len(ins) != 2 or shape(ins[0]) != shape(ins[1]) or len(shape(ins[0])) < 3:
        return None
    codes, values = ([n for n in ins if (n in below) is inside] for inside in (True, False))
    return (values[0], codes[0]) if codes and values and values[0] in bench.model.flow.data else None


def _asked(bench: Bench, value: fx.Node) -> fx.Node | None:
    """What the encoder put out, behind changes of layout."""
    value = behind(value, ops.SHAPE | {"contiguous", "detach", "clone"})
    return value if value in bench.model.flow.learned and bench.knows(value) else None


def _scattered(bench: Bench, source: fx.Node, value: fx.Node, codes: fx.Node) -> tuple[int, int] | None:
    """How many entries of the codes move with one element, and along how many axes they lie off it; None where that is one at most,
    or where the element itself is among them."""
    val = bench.value(source)
    before = bench.after({source: val.clone()}, [value, codes])
    size, total = float(val.std()) or 1.0, val[0].numel()
    for k in range(_ELEMENTS):
        changed = val.clone()
        at = torch.unravel_index(torch.tensor(int(total * (k + 0.5) / _ELEMENTS)), val[0].shape)
        changed[0][at] += _FAR * size
        after = bench.after({source: changed}, [value, codes])
        if any(n not in after or after[n].shape != before[n].shape for n in (value, codes)):
            return None
        here = torch.nonzero(after[value] != before[value])
        there = torch.nonzero((after[codes] - before[codes]).abs() > 1e-6 * size)
        if len(here) != 1 or not len(there):
            continue
        axes = int((there != here[0]).any(0).sum())
        if axes > 1 and not bool((there == here[0]).all(1).any()):
            return len(there), axes
    return None


def _reshaped(bench: Bench, codes: fx.Node, looked_up: fx.Node) -> fx.Node:
    """The last change of shape between the lookup and the comparison that only counts the memory in another way."""
    node = codes
    while node is not looked_up and ops.op(node) not in ("view", "reshape", "unflatten", "view_as", "reshape_as"):
        behind = [n for n in ops.value_inputs(node) if n in bench.model.flow.descendants(looked_up)]
        if not behind:
            return codes
        node = behind[0]
    return node


def _broken(bench: Bench, culprit: fx.Node, value: fx.Node, codes: fx.Node, apart: tuple[int, int]) -> Broken:
    model = bench.model
    found = Found(
        model.where(culprit),
        label=f"{model.shape_text(culprit)}: the codes are laid out in another order than the values that asked for them",
        labels=model.labels((value, "what was quantised"), (codes, "what came back")),
        shapes=(model.row(value), model.row(culprit, "a view moves nothing: it counts the same memory in another way")),
        why="every place is held against, and decoded from, the code of another place",
        help="give the codes the layout they were looked up in, then turn the axes back: view(b, t, c).permute(0, 2, 1)",
    )
    text = f"one element gets another code, and {apart[0]} entries move that are off it along {apart[1]} axes"
    return Broken("codes-elsewhere", found, "the entries that move share all but one axis with the element, or cover it", text)
