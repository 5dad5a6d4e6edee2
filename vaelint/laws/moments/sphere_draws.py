"""Law C3, for draws on a sphere: they scatter as the concentration says that their KL charges.

Where a term is KL(vMF(m, k) || uniform) in closed form, the model's own sampler is run at several k with everything else of the posterior
held. Prediction: the mean of many draws has the length A_d(k) = I_{d/2}(k) / I_{d/2-1}(k), which no turning or mirroring changes.

Exempt: a sampler that rejects draws, as its record is that of the draws that were accepted.

Source: Davidson et al. 2018, Hyperspherical variational auto-encoders, eq. 3 and algorithm 1; Ulrich 1984, Computer generation of
distributions on the m-sphere.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.kl.kl_sphere import mean_length, sphere_of
from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_LEVELS = (0.8, 2.0, 5.0)
_DRAWS = 4096
_OFF = 0.06  # beyond four times the error of such a mean


@law(
    "draws-scatter-as-charged",
    "draws on a sphere are as near to their mean direction as their KL charges",
    covered=("VAE408", "VAE444"),
    cost="replay",
)
def draws_scatter_as_charged(bench: Bench) -> Iterator[Broken]:
    """The first value of length 1 that noise and the concentration have made."""
    model, loss = bench.model, bench.model.record.loss
    if loss is None:
        return
    for fact in model.kls:
        if fact.probe.family != "von Mises-Fisher":
            continue
        try:
            known = sphere_of(fact.term, loss, model.flow, model.replay, model.symbols)
            found = _off(bench, *known) if known is not None else None
        except ReplayError as error:
            raise CannotMeasureError(f"the sampler does not run by itself: {message_of(error)}") from error
        if known is not None and found is not None:
            yield _broken(bench, fact.term, known[0], *found)
            return


def _off(bench: Bench, concentration: fx.Node, dimensions: int) -> tuple[fx.Node, float, float, float] | None:
    """The draw, and the concentration at which the length of its mean is another, with both; None where it is what it should be."""
    model, flow = bench.model, bench.model.flow
    made = flow.sorted(flow.descendants(concentration) & flow.noisy & model.reaching_loss)
    units = [n for n in made if bench.is_real(n) and len(shape(n)) == 2 and shape(n)[-1] == dimensions and model.dims(n)[:1] == ("B",)]
    sizes = {**model.record.sizes, "B": _DRAWS}
    for unit in units:
        inside = flow.ancestors(unit) - flow.ancestors(concentration)
        if any(n.meta["val"].dtype is torch.bool for n in inside & flow.noisy if isinstance(n.meta.get("val"), torch.Tensor)):
            return None
        held = _held(bench, unit, concentration, sizes)
        lengths = []
        for level in _LEVELS:
            k = torch.full(model.replay.shape_of(concentration, sizes), level, dtype=torch.float64)
            z = model.replay([unit], {**held, concentration: k}, sizes)[unit].detach().double()
            if float((z.norm(dim=1) - 1).abs().max()) > 1e-2:
                break
            lengths.append((level, float(z.mean(0).norm()), float(mean_length(torch.tensor(level, dtype=torch.float64), dimensions))))
        else:
            level, seen, right = max(lengths, key=lambda x: abs(x[1] - x[2]))
            return (unit, level, seen, right) if abs(seen - right) > _OFF else None
    return None


def _held(bench: Bench, unit: fx.Node, concentration: fx.Node, sizes: dict[str, int]) -> dict[fx.Node, torch.Tensor]:
    """One row for all samples of whatever else the data gives the draw."""
    model, flow = bench.model, bench.model.flow
    inside = flow.ancestors(unit, stop={concentration}) - {concentration}
    near = [i for n in inside & flow.noisy | {unit} for i in n.all_input_nodes if i in flow.data and i not in flow.noisy]
    found = {}
    for node in flow.sorted({n for n in near if n is not concentration and bench.is_real(n) and n not in flow.descendants(concentration)}):
        rows = model.replay([node], {}, sizes)[node].detach().double()
        found[node] = rows[:1].expand_as(rows).clone() if rows.dim() else rows
    return found


def _broken(bench: Bench, term: Term, concentration: fx.Node, unit: fx.Node, level: float, seen: float, right: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    way = flow.sorted(flow.descendants(concentration) & flow.noisy & (flow.ancestors(unit) | {unit}))
    found = Found(
        model.where(way[0] if way else unit),
        label="does not scatter as the concentration says that the KL charges",
        labels=model.labels((term.core, "a von Mises-Fisher KL to the uniform distribution on the sphere"), (unit, "the draw")),
        why="the posterior that is drawn is not the one that is charged: the concentration is learned for draws that do not have it",
        help="in three dimensions the height is 1 + log(u + (1 - u) * exp(-2 k)) / k, with u uniform; in more, Wood's rejection sampler",
    )
    text = f"at k = {level:g} the mean of {_DRAWS} draws has length {seen:.3f}, not {right:.3f}"
    return Broken("kl-formula", found, "the mean of draws at k has the length I_{d/2}(k) / I_{d/2-1}(k)", text)
