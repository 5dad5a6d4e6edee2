"""Laws A4 and C6: what is decoded moves with the noise of its draw.

Intervention: each sample takes the noise of another, and nothing else changes. The value that the decoder's first layer reads must move. A
straight-through value that is rounded from the scores without their noise does not: its gradient is that of a draw, its value is the mode.

Exempt are values that stay the same with these weights alone (a gate that starts at 0).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_NOTHING = 1e-5  # of its size: x - x.detach() leaves a rounding error
_SHIFTS = (1, 2)
_SEED = 1
_ROUNDS = frozenset({"argmax", "argmin", "max", "topk", "round", "floor", "sign", "one_hot", "gt", "ge", "lt", "le", "heaviside"})


@law(
    "noise-reaches-the-decoder",
    "the input of the decoder moves with the noise of its draw",
    covered=("VAE201", "VAE202", "VAE204", "VAE208", "VAE218", "VAE503", "VAE505"),
)
def noise_reaches_the_decoder(bench: Bench) -> Iterator[Broken]:
    """Every draw of a posterior with noise of its own, as the first layer below it reads it."""
    for site in bench.model.sites:
        entry = _entry(bench, site)
        noise = [n for n in (site.noise or site.roots) if bench.knows(n) and bench.is_real(n) and bench.batch_axis(n) is not None]
        if entry is None or not noise or bench.model.op(site.z) in ("gumbel_softmax", "bernoulli", "multinomial"):
            continue
        if not _moves(bench, noise, entry) and not _moves(bench.reweighed(_SEED), noise, entry):
            yield _unmoved(bench, site, entry)
            return


def _entry(bench: Bench, site: Site) -> fx.Node | None:
    """What the first layer below a draw reads on the way to the reconstruction."""
    flow = bench.model.flow
    recons = [r.pair.recon for r in bench.model.recons]
    below = flow.descendants(site.z) | {site.z}
    way = below & flow.ancestors(*recons) if recons else set()
    for node in flow.sorted(way):
        given = [n for n in node.all_input_nodes if n in below and bench.is_real(n) and bench.knows(n)]
        if ops.op(node) in ops.LAYERS and ops.uses_parameter(node) and given:
            return given[0]
    return None


def _moves(bench: Bench, noise: list[fx.Node], entry: fx.Node) -> bool:
    """Whether other noise gives another value to decode."""
    before = bench.after(bench.same(noise), [entry]).get(entry)
    for shift in _SHIFTS:
        after = bench.after({n: _other(bench.value(n), bench.batch_axis(n) or 0, shift) for n in noise}, [entry]).get(entry)
        if before is None or after is None or before.shape != after.shape or not bool(before.isfinite().all()):
            return True
        if float((before - after).abs().max()) > _NOTHING * max(float(before.abs().max()), 1e-6):
            return True
    return False


def _other(noise: torch.Tensor, axis: int, shift: int) -> torch.Tensor:
    """The noise of another sample; of one sample alone, that of its other places, turned round."""
    return noise.roll(shift, axis) if noise.shape[axis] > 1 else -noise.flatten().roll(shift).view_as(noise)


def _unmoved(bench: Bench, site: Site, entry: fx.Node) -> Broken:
    model, flow = bench.model, bench.model.flow
    noisy = flow.descendants(*site.roots)
    clean = [n for n in flow.sorted(flow.ancestors(entry) - noisy) if ops.op(n) in _ROUNDS and n in flow.data and n in flow.learned]
    culprit = clean[0] if clean else entry
    found = Found(
        model.where(culprit),
        label="taken from the scores without their noise" if clean else "the same whatever the noise",
        labels=model.labels((site.z, "the draw, of which the gradient alone is left")),
        why="the decoder gets the mode: it never sees a draw, and the gradient is that of another value than the one decoded",
        help="round the noisy value itself: soft.argmax(-1), not logits.argmax(-1)",
    )
    return Broken("latent-not-sampled", found, "other noise gives another value to decode", "the value that is decoded stays the same")
