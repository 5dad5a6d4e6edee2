"""Repairs of the noise: its shape, its distribution, that it is drawn anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.edits import Edit, Proposal
from vaelint.core.finding import Span
from vaelint.faults.sampling.sampling_claims import DrawAnew, DrawLike, NormalNoise
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.source.spot import Code, Spot, propose

_NORMAL = {"rand_like": "randn_like", "rand": "randn"}
_WITH_SHAPE = (
    ("keras.random.normal", "keras.ops.shape"),
    ("tensorflow.random.normal", "tensorflow.shape"),
    ("keras.backend.random_normal", "keras.backend.shape"),
    ("tensorflow.keras.backend.random_normal", "tensorflow.keras.backend.shape"),
)


def standard_normal(code: Code, name: str) -> str:
    """Standard normal noise in the shape of a value, as the file can write it."""
    for normal, shape in _WITH_SHAPE:
        if (draw := code.spelling(normal)) and (size := code.spelling(shape)):
            return f"{draw}({size}({name}))"
    spelled = code.spelling("torch.randn_like")
    return f"{spelled}({name})" if spelled else f"{name}.new_empty({name}.shape).normal_()"


@repair(DrawLike)
def draw_like(bench: Bench, wanted: DrawLike) -> Iterator[Proposal]:
    """eps in the shape of the scale."""
    spot, names = bench.spot(wanted.noise), bench.scope(wanted.noise)
    names = names or next((held for n in ops.value_inputs(wanted.noise) if (held := bench.scope(n))), {})  # `randn(...).to(device)`
    name = bench.name_of(wanted.scale, names) or bench.like(wanted.like, names)
    if spot is not None and name:
        yield from propose(f"draws eps in the shape of {name}", spot.to(standard_normal(spot.code, name)))


@repair(NormalNoise)
def normal_noise(bench: Bench, wanted: NormalNoise) -> Iterator[Proposal]:
    """A standard normal draw in the place of another one."""
    spot = bench.spot(wanted.root)
    if spot is None:
        return
    if spot.called in _NORMAL:
        yield from propose("draws normal noise, not uniform", spot.named(_NORMAL[spot.called]))
    if spot.called == "uniform_" and spot.receiver is not None:
        yield from propose("draws normal noise, not uniform", spot.to(f"{spot.receiver.text}.normal_()"))
    name = bench.like(wanted.like, bench.scope(wanted.root))
    if name:
        yield from propose("draws standard normal noise", spot.to(standard_normal(spot.code, name)))


@repair(DrawAnew)
def draw_anew(bench: Bench, wanted: DrawAnew) -> Iterator[Proposal]:
    """A draw where a constant stands; no seed and no seeded generator where a draw is made."""
    frozen = wanted.frozen
    spot, names = bench.spot(frozen.node), bench.scope(frozen.node)
    if spot is None:
        return
    yield from _without_seed(spot)
    draw = bench.name_of(frozen.draw, names)
    scale = bench.like(frozen.scale, names)
    new = draw or (standard_normal(spot.code, scale) if scale else "")
    says = f"multiplies by {draw}, which is drawn and was not used" if draw else "draws new noise at each call"
    if not new:
        return
    for part in reversed(list(spot.inside())):
        held = names.get(part.text)
        if isinstance(part.node, ast.Name | ast.Attribute | ast.Call | ast.Constant) and (
            held is None or held not in bench.model.flow.data
        ):
            yield from propose(says, part.to(new))


def _without_seed(spot: Spot) -> Iterator[Proposal]:
    function = spot.function()
    if function is None:
        return
    for part in (function.spot(n) for n in ast.walk(function.node) if isinstance(n, ast.Call)):
        above = part.parent
        if part.called == "manual_seed" and above is not None and isinstance(above.node, ast.Expr):
            place = above.span
            whole = Span(place.file, place.line, 1, (place.end_line or place.line) + 1, 1)
            yield from propose("no longer seeds the generator at each call", Edit(whole, ""))
