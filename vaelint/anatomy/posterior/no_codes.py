"""Noise that is moved and scaled, and makes no code of a posterior."""

from __future__ import annotations

from torch import fx

from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.flow import Flow

_UNIFORM = frozenset({"rand", "rand_like", "uniform"})
_INVERSES = frozenset({"log", "log1p", "logit", "erfinv", "ndtri", "icdf", "tan"})
_PASSED = ops.CAST | ops.SHAPE | ops.ADD | ops.MUL | {"neg", "negative", "clamp", "clip", "clamp_min", "clamp_max", "where"}


def covers_lookup(mu: fx.Node | None, scale: fx.Node | None, flow: Flow) -> bool:
    """Whether noise has the length of a value's distance from its nearest code: it stands for the error of a quantisation."""
    above = flow.ancestors(scale) if scale is not None else set()
    if scale is None or mu not in above or not any(ops.is_position(n) for n in above):
        return False
    looked_up = {n for n in above if any(ops.is_position(i) for i in flow.ancestors(*ops.value_inputs(n), stop=above - _plain(above)))}
    return bool(looked_up & flow.ancestors(scale, stop={n for n in above if ops.uses_parameter(n)}))


def _plain(nodes: set[fx.Node]) -> set[fx.Node]:
    """What only changes the shape or the type of a value."""
    return {n for n in nodes if ops.op(n) in ops.SHAPE | ops.CAST | {"one_hot", "getitem"}}


def is_uniform(z: fx.Node, noise: tuple[fx.Node, ...], flow: Flow) -> bool:
    """Whether uniform noise is brought to another range, and all that is made of it before a layer goes through an inverse distribution
    function: a relaxed variable is drawn so from its truncated distribution.

    Source: Tucker et al. 2017, REBAR, section 3.1.
    """
    if not noise or not all(_is_uniform_draw(n) for n in noise):
        return False
    met = [n for n in walked([z], lambda n: flow.users.get(n, ()) if n is z or _is_passed(n) else ()) if n is not z]
    ends = [n for n in met if not _is_passed(n)]
    return bool(ends) and all(ops.op(n) in _INVERSES for n in ends)


def _is_uniform_draw(node: fx.Node) -> bool:
    """Whether a value is a uniform draw, kept off its ends or not, by a bound or by a narrower range."""
    while _is_passed(node) and len(sources := ops.value_inputs(node)) == 1:
        node = sources[0]
    return ops.op(node) in _UNIFORM


def _is_passed(node: fx.Node) -> bool:
    return ops.op(node) in _PASSED and not ops.uses_parameter(node)
