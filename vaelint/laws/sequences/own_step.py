"""Law A7, for sequences: the posterior of a step sees its own step.

Measured by gradients, with every draw held: which steps of the data the posterior of step t is made of. In a filter it is those up to t, in
a smoother all or those from t on; a model that predicts ahead is off by a constant. Where no constant fits, the steps were turned round
and not turned back.

Asked once more with what the decoder is given beside the draw held, as the states of the steps before in a smoother of Fraccaro et al.
2016, Sequential Neural Models with Stochastic Layers, section 3: by way of these every posterior may see all steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.record import route, shape
from vaelint.rule import Found

_LEAST = 5  # steps: with fewer, a sequence and its reverse are too much alike
_MOST = 64
_SHIFTS = (-1, 0, 1, 2)  # a posterior of the step before, of this one, of those that are predicted


@law("steps-see-themselves", "the posterior of a step sees its own step", covered=("VAE104", "VAE113"))
def steps_see_themselves(bench: Bench) -> Iterator[Broken]:
    """Draws in a loop over the steps of the data, and draws of all steps at once."""
    for seat in bench.of_kind("data"):
        steps = shape(bench.base.node(seat.node))
        if seat.axis != 0 or len(steps) < 3 or not _LEAST <= steps[1] <= _MOST:
            continue
        for heads, site in _by_step(bench, steps[1]):
            for held in _held(bench, [head for head, _ in heads]):
                seen = {t: _seen(bench, seat, held, *heads[t]) for t in sorted({0, 1, 2, len(heads) // 2, len(heads) - 2, len(heads) - 1})}
                if all(bool(s.any()) for s in seen.values()) and not any(_fits(seen, shift) for shift in _SHIFTS):
                    yield _broken(bench, site, seat, seen, held)
                    return


def _held(bench: Bench, heads: list[fx.Node]) -> Iterator[Held]:
    """What is held: every draw, and then also what layers make of the data for the decoder and the posterior alike."""
    flow, draws = bench.model.flow, {s.z for s in bench.model.sites}
    held = bench.same({z for z in draws if bench.knows(z)})
    yield held
    given = flow.ancestors(*(n for r in bench.model.recons for n in (r.pair.recon, *r.pair.raw)), stop=draws) - draws
    both = {n for n in given & flow.ancestors(*heads, stop=draws) & flow.data & flow.learned if bench.knows(n) and bench.is_real(n)}
    if both - set(heads):
        yield {**held, **bench.same(both - set(heads))}


Held = dict[fx.Node, torch.Tensor]


Part = tuple[fx.Node, int | None]
"""A head of the posterior, and the place of the step on its second axis where it has all of them."""


def _by_step(bench: Bench, steps: int) -> Iterator[tuple[list[Part], Site]]:
    """For each latent the posterior's mean, step by step."""
    loops: dict[object, list[Site]] = {}
    for site in bench.model.sites:
        if site.mu_heads and bench.knows(site.mu_heads[0]):
            loops.setdefault(route(site.z), []).append(site)
    for sites in loops.values():
        sizes = shape(sites[0].mu_heads[0])
        if len(sites) == steps:
            yield [(s.mu_heads[0], None) for s in sites], sites[0]
        elif len(sites) == 1 and len(sizes) == 3 and sizes[1] == steps:
            yield [(sites[0].mu_heads[0], t) for t in range(steps)], sites[0]


def _seen(bench: Bench, seat: Seat, held: Held, head: fx.Node, at: int | None) -> torch.Tensor:
    """(B, T): which steps of the data the posterior of each sample depends on."""
    x = bench.value(seat.node).clone().requires_grad_()
    value = bench.base.recompute([head], {**held, seat.node: x})[head]
    part = value if at is None else value[:, at]
    gradient = bench.base.gradient(part.double().pow(2) + part.double(), [x])[0]
    if gradient is None:
        return torch.zeros(x.shape[:2], dtype=torch.bool)
    if not bool(gradient.isfinite().all()):
        raise CannotMeasureError("a gradient is not finite")
    return (gradient.flatten(2) != 0).any(2).cpu()


def _fits(seen: dict[int, torch.Tensor], shift: int) -> bool:
    """Whether most samples' posterior of step t sees step t + shift, wherever there is one."""
    for t, moved in seen.items():
        looks = moved[moved.any(1)]
        if 0 <= t + shift < moved.shape[1] and 2 * int(looks[:, t + shift].sum()) < len(looks):
            return False
    return True


def _broken(bench: Bench, site: Site, seat: Seat, seen: dict[int, torch.Tensor], held: Held) -> Broken:
    model = bench.model
    source = _with_all_steps(bench, site, seat, held, seen[1])
    sees = torch.nonzero(seen[0].any(0)).flatten().tolist()
    which = f"{min(sees)} to {max(sees)}" if len(sees) > 1 else str(sees[0])
    found = Found(
        model.where(source),
        label="its steps are in another order than those of the data",
        labels=model.labels((site.z, "drawn for a step here")),
        shapes=(model.row(source),),
        why="each step is encoded from other steps than the one that is then compared with what the decoder makes of it",
        help="turn the states round again before they are read step by step: what was flipped along time is flipped back",
    )
    text = f"in most samples the posterior of step 0 sees step {which} of {seat.name}, and no constant shift fits the others"
    return Broken("steps-out-of-place", found, "the posterior of step t sees step t, or one at a constant distance", text)


def _with_all_steps(bench: Bench, site: Site, seat: Seat, held: Held, last: torch.Tensor) -> fx.Node:
    """The first value on the way to the posterior that has all steps, and is made of the data as the posterior is: in step 1."""
    flow, steps = bench.model.flow, shape(bench.base.node(seat.node))[1]
    way = flow.sorted(flow.descendants(seat.node) & flow.ancestors(site.mu_heads[0]) - {seat.node})
    whole = [n for n in way if bench.knows(n) and bench.is_real(n) and len(shape(n)) > 2 and steps == shape(bench.base.node(n))[1]]
    return next((n for n in whole if torch.equal(_seen(bench, seat, held, n, 1), last)), whole[-1] if whole else site.mu_heads[0])
