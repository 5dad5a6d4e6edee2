"""Law B1, for the spread of a draw: where the mean of a draw learns from what is decoded, its spread does too.

Observed on the record: noise that was multiplied with a learned spread leaves the gradient (`detach`, `.data`), and is then added to a mean
that keeps its own. The decoder is given the spread, and the encoder is not told what it did: the KL alone sets it.

Exempt: draws that are cut as a whole, mean and all, and values that nothing decodes.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_CUTS = frozenset({"detach", "data"})
_SAME = ops.SHAPE | ops.CAST


@law(
    "spreads-learn-from-the-data",
    "where the mean of a draw has a gradient from the reconstruction, its spread has one",
    covered=("VAE207", "VAE217", "VAE503"),
    cost="replay",
)
def spreads_learn_from_the_data(bench: Bench) -> Iterator[Broken]:
    """Products of noise and a spread that are cut before they are added to a mean."""
    model, flow = bench.model, bench.model.flow
    compared = [r.pair.recon for r in model.recons]
    if not compared:
        return
    decoded = flow.ancestors(*compared)
    for cut in (n for n in flow.order if ops.op(n) in _CUTS and n in decoded and n in flow.noisy):
        scaled = _scaled_noise(bench, cut)
        sums = [u for u in flow.users.get(cut, ()) if ops.op(u) in ops.ADD and u in decoded and u.meta.get("grad")]
        if scaled is not None and sums:
            yield _cut_off(bench, cut, scaled, sums[0])
            return


def _scaled_noise(bench: Bench, cut: fx.Node) -> fx.Node | None:
    """The learned spread that noise was multiplied with, directly before the cut."""
    flow = bench.model.flow
    node = next(iter(ops.value_inputs(cut)), None)
    while node is not None and ops.op(node) in _SAME:
        node = next(iter(ops.value_inputs(node)), None)
    if node is None or ops.op(node) not in ops.MUL or not node.meta.get("grad"):
        return None
    sides = ops.value_inputs(node)
    noise = [n for n in sides if n in flow.pure_noise]
    spread = [n for n in sides if n in flow.learned and n not in flow.pure_noise]
    return spread[0] if noise and spread else None


def _cut_off(bench: Bench, cut: fx.Node, spread: fx.Node, z: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(cut),
        label="no gradient passes here",
        labels=model.labels((spread, "the spread has a gradient up to here"), (z, "the mean keeps its own")),
        why="the reconstruction does not tell the encoder what its spread costs: the KL alone sets it to the prior's",
        help="remove the detach: z = mu + std * eps has a gradient in both",
    )
    text = f"{model.written(z)} has a gradient in the mean, and none in {model.written(spread)}"
    return Broken("encoder-cut-off", found, "both moments of a draw have a gradient from the reconstruction", text)
