"""Experiments on the noise and on what becomes of it: rows, axes, moments, repetition, scale."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from vaelint.anatomy.posterior.noise import divides
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.isolated import leaves_like, moments
from vaelint.experiment.runs import calm
from vaelint.experiment.trial import SAME, Trial, differ, tolerance
from vaelint.experiment.verdict import POWER, CannotMeasureError, NoPowerError, Verdict, exactly, experiment, number, seen
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.sampling.evaluation import twin_of
from vaelint.faults.sampling.sampling_claims import (
    EvalOffset,
    NoiseAxes,
    NoiseMoments,
    NoiseRepeats,
    NoiseRows,
    ScaleCurve,
    ScaleNegative,
    ScaleUnread,
    ZUnused,
)
from vaelint.record import ops

_DRAWS = 20_000


def noise_in_z(trial: Trial, site: Site) -> tuple[torch.Tensor, torch.Tensor]:
    """((z - mu) / scale, its rounding error), element by element; the noise itself where the scale is a matrix."""
    z = trial.value(site.z).detach().double()
    mu = trial.value(site.mu).detach().double() if site.mu is not None else torch.zeros((), dtype=torch.float64, device=z.device)
    if site.scale is not None and trial.has(site.scale) and not _mixes(trial, site):
        s = trial.value(site.scale).detach().double()
        if divides(site, trial.model.flow):
            s = 1 / s
        try:
            full = torch.broadcast_shapes(z.shape, mu.shape, s.shape)  # type: ignore[no-untyped-call]
        except RuntimeError:
            full = torch.Size()
        if full == z.shape and bool((s.abs() > 1e-8).all()):
            rounding = torch.finfo(trial.value(site.z).dtype).eps
            return (z - mu) / s, 4 * rounding * (z.abs() + mu.abs()) / s.abs() + 4 * rounding
    if not site.noise:
        raise CannotMeasureError("the noise of the draw was not found")
    eps = trial.value(site.noise[0]).detach().double()
    try:
        return torch.broadcast_to(eps, z.shape), torch.zeros_like(z) + 1e-12
    except RuntimeError as error:
        raise CannotMeasureError("the noise has not the shape of z") from error


def _mixes(trial: Trial, site: Site) -> bool:
    """Whether a matrix product stands between the noise and z."""
    flow = trial.model.flow
    between = flow.ancestors(site.z, stop={*site.noise, *site.heads})
    below = flow.descendants(*site.noise) if site.noise else set()
    return any(ops.op(n) in ops.PRODUCT for n in between & below)


@experiment(NoiseRows, "(z - mu) / scale, row against row", "32 roundings of the type, for each row")
def noise_rows(trial: Trial, claim: NoiseRows) -> Verdict:
    """Whether all rows of the noise are equal."""
    site: Site = claim.site
    e, error = noise_in_z(trial, site)
    axis = trial.batch_axis(site.z) or 0
    if e.shape[axis] < 2:
        raise CannotMeasureError("a batch of one has no second row")
    rows, errors = e.movedim(axis, 0).flatten(1), error.movedim(axis, 0).flatten(1)
    gap, allowed = (rows - rows[:1]).abs(), 8 * (errors + errors[:1])
    equal = bool((gap <= allowed).all())
    measured = f"{'equal' if equal else 'different'} rows: the largest difference between rows is {number(float(gap.max()))}"
    effect, claimed = float((gap / allowed.clamp(min=1e-300)).max()), not claim.equal
    return seen(effect, 1.0, measured, f"{rows.shape[0]} rows", claimed=claimed, least=_least(allowed))


def _least(allowed: torch.Tensor) -> float:
    """By how much noise of spread 1 passes what rounding allows: where the scale is tiny, z says nothing about it."""
    return 1 / max(float(allowed.median()), 1e-300)


@experiment(NoiseAxes, "(z - mu) / scale along the axes of the latent", "32 roundings of the type")
def noise_axes(trial: Trial, claim: NoiseAxes) -> Verdict:
    """Whether the noise is constant along the named axes."""
    site: Site = claim.site
    e, error = noise_in_z(trial, site)
    dims = trial.model.dims(site.z)
    names = list(claim.axes)
    axes = [i for i, d in enumerate(dims) if d in names and e.shape[i] > 1]
    if not axes:
        raise CannotMeasureError(f"z has no axis {', '.join(names)} longer than 1")
    gaps = [(e - e.narrow(a, 0, 1)).abs() for a in axes]
    allowed = [8 * (error + error.narrow(a, 0, 1)).clamp(min=1e-300) for a in axes]
    effect = max(float((g / at).max()) for g, at in zip(gaps, allowed, strict=True))
    along = ", ".join(dims[a] for a in axes)
    told = f"largest difference along {along}: {number(max(float(g.max()) for g in gaps))}"
    return seen(effect, 1.0, told, claimed=False, least=min(_least(a) for a in allowed))


@experiment(NoiseMoments, "mean and standard deviation of the noise, over many draws", "5 standard errors and 0.02")
def noise_moments(trial: Trial, claim: NoiseMoments) -> Verdict:
    """Draws the noise again with the real generator and compares its moments with those of N(0, 1)."""
    site: Site = claim.site
    if not site.noise:
        raise CannotMeasureError("the noise of the draw was not found")
    eps, parts, count = site.noise[0], list[torch.Tensor](), 0
    for seed in range(200):
        part = trial.recompute([eps], {}, redraw=True, seed=1 + seed)[eps].detach().double().flatten()
        parts.append(part)
        count += part.numel()
        if count >= _DRAWS:
            break
    x = torch.cat(parts)
    mean, std = float(x.mean()), float(x.std())
    kurtosis = float((((x - mean) / std) ** 4).mean()) - 3 if std > 0 else -3.0
    error = 5 / count**0.5
    normal = abs(mean) < error + 0.02 and abs(std - 1) < error + 0.02 and abs(kurtosis) < 5 * error + 0.1
    told = [(mean, claim.mean), (std, claim.std)]
    as_told = all(t is None or abs(m - t) < error * max(1.0, std) + 0.02 * max(1.0, abs(t)) for m, t in told)
    measured = f"mean {number(mean)}, standard deviation {number(std)}, excess kurtosis {kurtosis:.2f}"
    return Verdict(exactly(not normal and as_told, mean, std), measured, f"{count} numbers; N(0, 1) has 0, 1 and 0")


@experiment(NoiseRepeats, "two calls of one model with different seeds", SAME)
def noise_repeats(trial: Trial, claim: NoiseRepeats) -> Verdict:
    """Whether a value is the same in two successive calls."""
    node = claim.node or (claim.site.z if claim.site is not None else None)
    if node is None:
        raise CannotMeasureError("no draw was found")
    return _same_in_two_calls(trial, [node], "z" if claim.site else "the value")


@experiment(ScaleUnread, "the decoder's outputs after the scale has moved, with the mean held", "none: equal bits")
def scale_unread(trial: Trial, claim: ScaleUnread) -> Verdict:
    """Whether what gives the scale moves the decoder only by way of the mean."""
    mean, scale = (trial.value(n).detach() for n in (claim.mean, claim.scale))
    ends = [n for n in claim.ends if trial.has(n)]
    if not ends:
        raise CannotMeasureError("no reconstruction was found")
    before = [trial.value(n).detach() for n in ends]
    after = trial.recompute(ends, {claim.mean: mean.clone(), claim.scale: 1.5 * scale + 0.1})
    gaps = [float((after[n].detach() - v).abs().max()) for n, v in zip(ends, before, strict=True)]
    return Verdict(max(gaps) == 0, f"the outputs move by {number(max(gaps))} when the scale moves by half of itself")


@experiment(ZUnused, "the reconstruction in two calls of one model with different seeds", SAME)
def z_unused(trial: Trial, claim: ZUnused) -> Verdict:
    """Whether what the decoder makes is the same for two draws."""
    node: fx.Node | None = claim.node
    nodes = [node] if node is not None else reconstruction_ends(trial.model)
    if not nodes:
        raise CannotMeasureError("no reconstruction was found")
    return _same_in_two_calls(trial, nodes, "the reconstruction")


def _same_in_two_calls(trial: Trial, nodes: list[fx.Node], what: str) -> Verdict:
    first, second = trial.twice(calm)
    gap = max(differ(first.value(n), second.value(n)) for n in nodes)
    limit = tolerance(*(first.value(n) for n in nodes))
    if gap > limit and any("dropout" in ops.op(n) for n in trial.model.record.graph.nodes):
        raise CannotMeasureError("a functional dropout makes calls differ by itself")
    measured = f"{what} differs by {number(gap)} of its size" if gap else f"{what} is the same in both"
    return seen(gap, limit, measured, "dropout layers at rate 0, batch normalisation in evaluation mode", claimed=False)


@experiment(EvalOffset, "(z - mu) / scale in evaluation mode, in two calls", f"4 times {SAME}")
def eval_offset(trial: Trial, claim: EvalOffset) -> Verdict:
    """Whether evaluation mode adds a fixed multiple of the scale to the mean."""
    site: Site = claim.site
    multiple = float(claim.multiple)
    hits, apart = [], []
    for seed in (1, 2):
        record = trial.again(training=False, seed=seed).record
        twins = {h: twin_of(h, record) for h in site.heads}
        if any(t is None for t in twins.values()):
            raise CannotMeasureError("the heads were not found in evaluation mode")
        m, s = moments(trial, site, {h: t.meta["val"].detach() for h, t in twins.items() if t is not None})
        wanted = (m + multiple * s).detach()
        values = [n.meta["val"] for n in record.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
        limit = 4 * tolerance(wanted)
        apart.append(differ(wanted, m.detach()) / limit)
        hits.append(any(v.shape == wanted.shape and v.is_floating_point() and differ(wanted, v) < limit for v in values))
    if not min(apart) >= POWER:  # nor where it is NaN
        raise NoPowerError("the scale is too small beside the mean")
    text = f"both calls give z = mu + {multiple:.3g} * scale" if all(hits) else f"no value of the run is mu + {multiple:.3g} * scale"
    return Verdict(all(hits), text, "evaluation mode")


@experiment(ScaleNegative, "the values of the scale", "the sign")
def scale_negative(trial: Trial, claim: ScaleNegative) -> Verdict:
    """Whether the scale takes negative values: in the run as it is, else for heads around 0."""
    site: Site = claim.site
    if site.scale is None:
        raise CannotMeasureError("the scale was not found")
    real = trial.value(site.scale).detach()
    if bool((real < 0).any()):
        return Verdict(True, f"{float((real < 0).double().mean()):.0%} of the scales are negative, the lowest {number(float(real.min()))}")
    _, s = moments(trial, site, leaves_like(trial, site.heads, spread=2.0))
    low = float(s.detach().min())
    return Verdict(exactly(low < 0, low), f"the lowest scale is {number(low)}", "heads drawn from N(0, 4)")


READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda h: (h / 2).exp(),
    "log-std": lambda h: h.exp(),
    "std": lambda h: h,
    "variance": lambda h: h.clamp(min=0).sqrt(),
    "std (softplus)": torch.nn.functional.softplus,
}
"""The standard deviation that a head stands for, by parameterisation."""


@experiment(ScaleCurve, "the scale that z is drawn with, against the one that the KL reads", f"10 times {SAME}")
def scale_curve(trial: Trial, claim: ScaleCurve) -> Verdict:
    """Whether the sampler's scale differs from what the KL takes the head for."""
    site: Site = claim.site
    reading = READINGS.get(str(claim.reads))
    if reading is None or len(site.scale_heads) != 1:
        raise CannotMeasureError("the scale is not a function of one head")
    heads = leaves_like(trial, site.heads, spread=1.0)
    head = heads[site.scale_heads[0]].detach()
    s = moments(trial, site, heads)[1].detach()
    if s.numel() != head.numel():
        raise CannotMeasureError("scale and head have different sizes")
    drawn, read = s.flatten().abs(), reading(head.flatten())
    at = int((drawn - read).abs().argmax())
    h, a, b = (number(float(t[at])) for t in (head.flatten(), s.flatten(), read))
    told = f"at head {h} z is drawn with scale {a}, and the KL reads {b}"
    return seen(differ(read, drawn), 10 * tolerance(s), told, least=1.0)  # over N(0, 1) any two readings of a head are far apart
