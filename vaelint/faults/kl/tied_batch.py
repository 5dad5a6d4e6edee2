"""How a weight moves with the batch where the code runs at one batch size only: read off the reductions, as the sizes cannot be varied."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from vaelint.anatomy.loss.facts import Beta
from vaelint.record import ops
from vaelint.record.record import Record, shape
from vaelint.replay.scale import Scaling


def with_batch(beta: Beta, record: Record) -> Beta:
    """The beta with the exponent of B that its reductions give; as it is where sizes were varied, or where an axis cannot be told."""
    size = record.sizes.get("B")
    site = beta.kl.site
    if record.shapes or size is None or site is None or beta.recon.scaling is None or beta.kl.scaling is None:
        return beta
    if [n == size for n in shape(site.z)].count(True) != 1:
        return beta  # which axis of z is the batch is not known
    kl, recon = _powers(beta.kl.term.leaves[0].chain, size), _powers((*beta.recon.pair.leaf.chain, beta.recon.pair.meet), size)
    if kl is None or recon is None or kl == recon:
        return beta
    moved = [_moved(s, power, size) for s, power in ((beta.kl.scaling, kl), (beta.recon.scaling, recon), (beta.scaling, kl - recon))]
    return replace(beta, kl=replace(beta.kl, scaling=moved[0]), recon=replace(beta.recon, scaling=moved[1]), scaling=moved[2])


def _powers(chain: tuple[fx.Node, ...], size: int) -> int | None:
    """-1 where a mean is over all axes of a value, the batch among them; 0 where all is summed; None where it cannot be told.

    A number among the factors that is the batch size, or a part of it, may be the batch.
    """
    power = 0
    for node in chain:
        name, source = ops.op(node), next(iter(ops.value_inputs(node)), None)
        if name in ops.LOSSES:
            mean = node.kwargs.get("reduction", "mean") == "mean"
        elif name in ("mean", "nanmean", "sum", "nansum") and source is not None and shape(source):
            axes = ops.dims_of(node)
            if axes is None or set(axes) != set(range(len(shape(source)))):
                return None
            mean = name in ("mean", "nanmean")
        elif name in ops.MUL | ops.DIV and any(isinstance(a, int | float) and abs(a) not in (0.5, 1.0, 2.0) for a in node.args):
            return None
        else:
            continue
        if mean and source is not None and size not in shape(source):
            return None
        power -= mean
    return power


def _moved(scaling: Scaling, power: int, size: int) -> Scaling:
    return Scaling(scaling.value, {**scaling.exponents, "B": float(power)}, scaling.value / float(size) ** power)
