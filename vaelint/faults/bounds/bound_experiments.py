"""Experiments on flows, hierarchies and draws: what the prior sees, what a determinant weighs, which parameters have a part."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.noise import divides
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.isolated import slope, term_value
from vaelint.experiment.trial import Trial, tolerance
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, exactly, experiment, number, seen
from vaelint.faults.bounds.bounds_claims import DeterminantWeight, EqualRows, KlSees, NoPart, PriorSees
from vaelint.faults.bounds.flows import FlowBound


@experiment(PriorSees, "the slope of the divergence in the value that is decoded", "none: a slope of exactly 0")
def prior_sees(trial: Trial, claim: PriorSees) -> Verdict:
    """Whether no addend but the reconstruction depends on the value that is decoded."""
    node: fx.Node = claim.node
    leaves = [leaf for t in trial.model.terms if t.role != "reconstruction" for leaf in t.leaves]
    at = {node: trial.value(node).detach().clone().requires_grad_()}
    steepest = float(slope(term_value(trial, Term("kl", leaves), at), at)[node].abs().max())
    told = f"the divergence has a slope of {number(steepest)} in {trial.model.written(node)}, which is decoded"
    return seen(steepest, 0.0, told, claimed=False)


@experiment(DeterminantWeight, "the weight of the log-determinant, computed from the map itself", "2% of the weight")
def determinant_weight(trial: Trial, claim: DeterminantWeight) -> Verdict:
    """Whether the addends are another multiple of minus log|det| than the KL's weight."""
    bound: FlowBound = claim.bound
    leaves: tuple[Leaf, ...] = claim.leaves
    start, site = bound.site.z, bound.site
    held: dict[fx.Node, torch.Tensor] = {}
    if not leaves:  # the whole divergence, with z_K where it is: what is left must not move with the determinant
        leaves = tuple(leaf for t in trial.model.terms if t.role != "reconstruction" for leaf in t.leaves)
        held = {n: trial.value(n).detach() for n in (bound.bent, *site.heads, *site.noise)}
    base = trial.value(start).detach()
    columns, values = [], []
    for seed in range(6):
        noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        z = noise.to(base.dtype).to(base.device).requires_grad_()
        end = trial.recompute([bound.bent], {start: z})[bound.bent]
        rows = [torch.autograd.grad(end[:, d].sum(), [z], retain_graph=True)[0] for d in range(z.shape[1])]
        told = torch.linalg.slogdet(torch.stack(rows, 1).double())[1].sum()
        columns.append([told, _error(trial, site, z.detach()), torch.ones_like(told)] if held else [told, torch.ones_like(told)])
        values.append(term_value(trial, Term("other", list(leaves)), {**held, start: z.detach()}).detach().double())
    table = torch.stack([torch.stack(row) for row in columns]).cpu()
    weight = -float(torch.linalg.lstsq(table, torch.stack(values).cpu().unsqueeze(1)).solution[0])
    off = abs(weight / bound.kl_weight - 1)
    return Verdict(exactly(off > 0.02, off), f"it weighs {number(weight)}, the KL {number(bound.kl_weight)}")


def _error(trial: Trial, site: Site, z: torch.Tensor) -> torch.Tensor:
    """(z - m)^2 / (2 s^2), summed: what log q_0 may hold of z_0."""
    if site.mu is None or site.scale is None:
        raise CannotMeasureError("the draw has no mean or scale of its own")
    m, s = trial.value(site.mu).detach().double(), trial.value(site.scale).detach().double()
    if divides(site, trial.model.flow):
        s = 1 / s
    return ((z.double() - m) ** 2 / (2 * s**2)).sum()


@experiment(KlSees, "the slopes of the KL in the two Gaussians that the posterior is made of", "none: a slope of exactly 0")
def kl_sees(trial: Trial, claim: KlSees) -> Verdict:
    """Whether the KL's own expression moves with the encoder's half and not with the prior's."""
    leaf: Leaf = claim.leaf
    asked = {**dict.fromkeys(claim.encoder, "encoder"), **dict.fromkeys(claim.prior, "prior")}
    halves = {n: half for n, half in asked.items() if trial.value(n).is_floating_point()}
    if set(halves.values()) != {"encoder", "prior"}:
        raise CannotMeasureError("one of the two halves has no slope: it chooses between values")
    at = {n: trial.value(n).detach().clone().requires_grad_() for n in halves}
    held = {n: trial.value(n).detach() for n in leaf.frontier if n not in halves}
    got = slope(term_value(trial, Term("kl", [leaf]), {**held, **at}), at)
    steepest = {half: max(float(got[n].abs().max()) for n in halves if halves[n] == half) for half in ("encoder", "prior")}
    text = f"slopes of {number(steepest['encoder'])} in the encoder's half, {number(steepest['prior'])} in the prior's"
    if steepest["encoder"] == steepest["prior"] == 0:
        raise NoPowerError(text)
    return seen(steepest["prior"], 0.0, text, claimed=False, least=steepest["encoder"])


@experiment(NoPart, "the derivative of the decoder's output with respect to a posterior parameter", "8e-3 of one of its parts in float32")
def no_part(trial: Trial, claim: NoPart) -> Verdict:
    """Whether a value does not move with a head although it is computed from it."""
    entry, head, through = claim.entry, claim.head, claim.through
    leaf = trial.value(head).detach().clone().requires_grad_()
    inside = trial.model.flow.descendants(head, stop={claim.draw}) - {claim.draw}  # the draw stays what it was
    got = trial.recompute([entry, through], {head: leaf}, inside=inside)
    probe = torch.randn(got[entry].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(got[entry])
    (whole,) = trial.gradient((got[entry] * probe).sum(), [leaf])
    (part,) = trial.gradient((got[entry] * probe).sum(), [got[through]])
    if whole is None or part is None:
        raise CannotMeasureError("no gradient runs between the two")
    slopes = [float(g.abs().max()) for g in (whole, part)]
    told = f"the slope is {number(slopes[0])}, one of its parts {number(slopes[1])}"
    if not slopes[1] > 0:
        raise NoPowerError(told)
    return seen(slopes[0] / slopes[1], 10 * tolerance(leaf), told, claimed=False, least=1.0)


@experiment(EqualRows, "the rows of a table before training", "none: equal bits", at_start=True)
def equal_rows(trial: Trial, claim: EqualRows) -> Verdict:
    """Whether all rows of a table are one."""
    rows = trial.value(claim.node).detach()
    rows = rows if claim.axis == 0 else rows.movedim(int(claim.axis), 0)
    different = len(torch.unique(rows.reshape(rows.shape[0], -1), dim=0))
    return Verdict(different == 1 < rows.shape[0], f"{different} different among {rows.shape[0]}")
