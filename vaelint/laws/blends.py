"""Law A3, for data that are completed: what was observed is kept, and what is missing is filled in.

A sum of two products, or a `where`, takes the data in some places and what the model draws in the others. Intervention: other data. What
the data give to the blend must not be zero for all of them, while the data that enter it are not: then they are taken in the very places
where a mask has made them zero, and the observed ones are overwritten.

Source: Ipsen, Mattei & Frellsen 2021, not-MIWAE: deep generative modelling with missing not at random data, eq. 7.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_FEWEST = 4  # elements that are zero, and that are not


@law("blends-keep-what-is-there", "data that are completed keep their observed values", covered=("VAE323",))
def blends_keep_what_is_there(bench: Bench) -> Iterator[Broken]:
    """Blends of masked data with what layers make. Data that no mask has made zero may be taken anywhere."""
    for node in bench.model.flow.sorted(bench.model.reaching_loss):
        blend = _blend(bench, node)
        if blend is not None and all(_is_empty(blend, *values) for values in _runs(bench, blend)):
            yield _broken(bench, blend)
            return


@dataclass(frozen=True)
class _Blend:
    """A value that is data in some places and learned in others."""

    node: fx.Node
    data: fx.Node  # the data that enter
    mask: fx.Node  # what says where they are taken
    taken_at: bool | None  # of a `where` the condition's value for the data; of a product None: the mask multiplies them


def _blend(bench: Bench, node: fx.Node) -> _Blend | None:
    ins = ops.value_inputs(node)
    if ops.op(node) in ops.ADD and len(ins) == 2:
        for given, made in (ins, ins[::-1]):
            parts = ops.value_inputs(given) if ops.op(given) in ops.MUL else []
            if ops.op(made) in ops.MUL and made in bench.model.flow.learned and len(parts) == 2:
                for data, mask in (parts, parts[::-1]):
                    if _is_data(bench, data) and _is_mask(bench, mask) and _says_where(bench, mask, made):
                        return _Blend(node, data, mask, None)
    if ops.op(node) == "where" and len(ins) == 3 and _is_mask(bench, ins[0]):
        for place, data in ((True, ins[1]), (False, ins[2])):
            if _is_data(bench, data) and ins[2 if place else 1] in bench.model.flow.learned:
                return _Blend(node, data, ins[0], place)
    return None


def _is_data(bench: Bench, node: fx.Node) -> bool:
    """Whether a value is made of several inputs and of nothing that is learned or drawn: data, with their gaps at zero."""
    flow = bench.model.flow
    inputs = flow.ancestors(node) & set(bench.model.record.inputs.values())
    return len(inputs) > 1 and node not in flow.learned and node not in flow.noisy and bench.knows(node) and bench.is_real(node)


def _is_mask(bench: Bench, node: fx.Node) -> bool:
    flow = bench.model.flow
    if node in flow.learned or node in flow.noisy or not bench.knows(node):
        return False
    value = bench.value(node)
    return bool(((value == 0) | (value == 1)).all()) and bool((value == 0).any()) and bool((value == 1).any())


def _says_where(bench: Bench, mask: fx.Node, made: fx.Node) -> bool:
    """Whether what is learned is multiplied by the complement of a mask."""
    others = [n for n in ops.value_inputs(made) if _is_mask(bench, n) and shape(n) == shape(mask)]
    return any(bool((bench.value(n).double() + bench.value(mask).double() == 1).all()) for n in others)


def _runs(bench: Bench, blend: _Blend) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The data that enter a blend and its mask, as recorded and with other data."""
    yield bench.value(blend.data), bench.value(blend.mask)
    real = [s.node for s in bench.of_kind("data") if s.node in bench.model.flow.ancestors(blend.data)]
    changed = {n: bench.value(n) + 0.5 for n in real if bench.is_real(n)}
    after = bench.after(changed, [blend.data, blend.mask]) if changed else {}
    if blend.data in after and blend.mask in after:
        yield after[blend.data], after[blend.mask]


def _is_empty(blend: _Blend, data: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether the data are zero wherever they are taken, and elsewhere are not."""
    taken = mask.bool() if blend.taken_at in (None, True) else ~mask.bool()
    taken = taken.expand(torch.broadcast_shapes(taken.shape, data.shape))  # type: ignore[no-untyped-call]
    there = (data != 0).expand(taken.shape)
    return not bool((there & taken).any()) and min(int(there.sum()), int(taken.sum())) >= _FEWEST


def _broken(bench: Bench, blend: _Blend) -> Broken:
    model = bench.model
    found = Found(
        model.where(blend.node),
        label="the data are taken where they are missing",
        labels=model.labels((blend.data, "zero in these places"), (blend.mask, "says where the data are taken")),
        why="what was observed is overwritten by what the model draws, and the gaps stay at zero",
        help="keep the data where they are observed: mask * x + (1 - mask) * drawn",
    )
    return Broken("mask-inverted", found, "data that are completed keep their observed values", "zero for all data, where they are taken")
