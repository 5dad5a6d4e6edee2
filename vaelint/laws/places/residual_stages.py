"""Law C6, for quantisers of several stages: each stage quantises what all earlier ones have left.

Observed on the real run: what every stage looks up, and the code that it gets. Prediction, where the codes are added up: stage k looks up
z - (c_1 + ... + c_(k-1)). Where some of the earlier codes are taken off and others are not, the sum moves away from z again; so it does
where a stage looks up z itself though what is left was computed and is what the loss holds its code to. Exempt are other stages that all
look up z itself, parts of z, or what a layer has made of it.

Source: Juang & Gray 1982, Multiple stage vector quantization for speech coding; Zeghidour et al. 2021, SoundStream, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.nearest_codes import looked_up
from vaelint.record import ops
from vaelint.record.record import route, span
from vaelint.rule import Found

_MOST = 7  # earlier stages
_SAME = 1e-5
_LAID_OUT = ops.SHAPE | ops.CAST | {"detach", "data"}


@law("stages-take-what-is-left", "each of several stages quantises what all earlier ones have left", covered=("VAE508", "VAE515"))
def stages_take_what_is_left(bench: Bench) -> Iterator[Broken]:
    """Several lookups of rows of one length, whose codes are added up."""
    stages = [stage for book in codebooks_of(bench.model) if (stage := _stage(bench, book)) is not None]
    if len(stages) < 2 or len({rows.shape for _, rows, _, _ in stages}) != 1 or not _are_added(bench, [code for _, _, code, _ in stages]):
        return
    first = stages[0][1]
    left = _held_to(bench, first - stages[0][2], stages[1][2])
    if _is_same(stages[1][1], first) and left is not None:
        yield _whole(bench, stages[1][0], stages[1][3], left)
        return
    for k, (source, rows, _, _) in enumerate(stages[2:_MOST], 2):
        earlier = [code for _, _, code, _ in stages[:k]]
        if _is_same(rows, first - sum(earlier)):
            continue
        for many in range(1, k):
            taken = next((part for part in combinations(range(k), many) if _is_same(rows, first - sum(earlier[j] for j in part))), None)
            if taken is not None:
                yield _left(bench, [at for at, _, _, _ in stages[:k]], source, k, taken)
                return


def _held_to(bench: Bench, left: torch.Tensor, code: torch.Tensor) -> fx.Node | None:
    """A value on the way to the loss that is what the first stage leaves, and is compared with the next stage's code."""
    flow = bench.model.flow
    nodes = [n for n in flow.sorted(bench.model.reaching_loss) if bench.is_real(n) and bench.knows(n)]
    alike = [n for n in nodes if _is_these(bench, n, left)]
    pairs = ((n, other) for n in alike for user in flow.users.get(n, ()) for other in flow.inputs[user] if other not in alike)
    return next((n for n, other in pairs if bench.is_real(other) and bench.knows(other) and _is_these(bench, other, code)), None)


def _is_these(bench: Bench, node: fx.Node, rows: torch.Tensor) -> bool:
    value = bench.value(node)
    return value.numel() == rows.numel() and _is_same(value.reshape(rows.shape).double(), rows)


def _stage(bench: Bench, book: Codebook) -> tuple[fx.Node, torch.Tensor, torch.Tensor, fx.Node] | None:
    """What a stage looks up, as a node and as rows, the codes that it gets, as rows, and its index."""
    found = looked_up(bench, book) if bench.knows(book.code) else None
    if found is None or bench.value(book.code).numel() != found[0].numel():
        return None
    rows, source, index = found
    return source, rows.double(), bench.value(book.code).reshape(rows.shape).double(), index


def _are_added(bench: Bench, codes: list[torch.Tensor]) -> bool:
    """Whether some value of the run is the sum of all codes."""
    total = torch.stack(codes).sum(0)
    same = (n for n in bench.model.record.nodes if n in bench.model.flow.data and bench.is_real(n) and bench.knows(n))
    return any(v.numel() == total.numel() and _is_same(v.reshape(total.shape).double(), total) for v in map(bench.value, same))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) <= _SAME * float(other.abs().max())


def _whole(bench: Bench, source: fx.Node, index: fx.Node, left: fx.Node) -> Broken:
    model = bench.model
    looks = model.flow.sorted(model.flow.ancestors(index) & set(model.flow.users.get(source, ())))
    here = model.source.function(place) if (place := span(left)) is not None else None
    read = [s for user in looks for s in route(user) if here is not None and model.source.function(s) is here]
    found = Found(
        read[-1] if read else model.where(source),
        label="the next stage is given z itself",
        labels=model.labels((left, "what the first stage leaves, which the loss holds the next code to")),
        why="the codes are added up: stages that each quantise z whole add up to as many times z",
        help="look up what is left: code, index = codebook(residual)",
    )
    return Broken("code-not-nearest", found, "a stage looks up z less the sum of all earlier codes", "stage 2 looks up z itself")


def _computed(source: fx.Node) -> fx.Node:
    """The operation that made what is looked up, before its rows were laid out for it."""
    while ops.op(source) in _LAID_OUT and (behind := ops.value_inputs(source)):
        source = behind[0]
    return source


def _given(bench: Bench, earlier: list[fx.Node], source: fx.Node) -> Span | None:
    """Where what a stage looks up is made; where an earlier stage has looked up the same, where this stage is given it."""
    model, made = bench.model, _computed(source)
    here = model.source.function(place) if (place := span(made)) is not None else None
    if made in map(_computed, earlier):
        return next((s for s in reversed(route(source)) if here is not None and model.source.function(s) is here), model.where(source))
    return model.where(made)


def _left(bench: Bench, earlier: list[fx.Node], source: fx.Node, stage: int, taken: tuple[int, ...]) -> Broken:
    off = " and ".join(str(j + 1) for j in taken)
    found = Found(
        _given(bench, earlier, source),
        label=f"stage {stage + 1} is given z without the code of stage {off} alone",
        why="the codes are added up: a stage that does not know what all earlier ones have taken moves the sum away from z again, "
        "and more stages make it no better",
        help="take each code from what was left before it: residual = residual - code",
    )
    text = f"of {stage} earlier codes, what stage {stage + 1} looks up lacks that of stage {off} alone"
    return Broken("code-not-nearest", found, "a stage looks up z less the sum of all earlier codes", text)
