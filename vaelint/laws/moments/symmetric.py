"""A covariance stays symmetric: what is added to it, or taken from it, is a matrix, and not a vector that is spread over its rows.

Prediction: a covariance (symmetric, no eigenvalue below 0, not diagonal) is symmetric still with variances added, and without its
diagonal. Where a vector of positive numbers is added to all of its rows or columns, variance j is counted as a covariance of every latent
with latent j; where it is taken from all of them, each is taken from covariances.

Exempt: matrices of pairs of samples, as of distances, vectors that are constants or of either sign, matrices that are symmetric again on
their way to the loss, scores of which a softmax is taken, and what is decoded, as the edges of a graph are.

Source: Kumar et al. 2018, Variational Inference of Disentangled Latent Concepts (DIP-VAE), eq. 5: Cov(z) = E[Sigma(x)] + Cov(mu(x)),
with the variances on the diagonal of Sigma.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_OF_SCORES = frozenset({"softmax", "log_softmax", "logsumexp", "cross_entropy"})
_SUMS = frozenset({"add", "iadd", "radd"})
_DIFFERENCES = frozenset({"sub", "isub", "rsub"})
_NOTHING = 1e-9  # of the largest entry
_SEEDS = (3, 4)


@dataclass(frozen=True)
class _Sum:
    """`node` = covariance + spread, with the vector spread over the rows or columns of the matrix."""

    node: fx.Node
    covariance: fx.Node
    spread: fx.Node


@law(
    "covariances-stay-symmetric",
    "what is added to a covariance, or taken from it, leaves it symmetric",
    covered=("VAE426",),
    cost="replay",
)
def covariances_stay_symmetric(bench: Bench) -> Iterator[Broken]:
    """Sums of a square matrix and a vector of its size."""
    reasons: list[str] = []
    for found in _sums(bench):
        try:
            broken = all(_is_turned(bench, found, seed) for seed in _SEEDS)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if broken:
            yield _broken(bench, found)
            return
    if reasons:
        raise CannotMeasureError(f"the covariance does not run by itself: {reasons[0]}")


def _sums(bench: Bench) -> Iterator[_Sum]:
    """Sums of which one part is square and the other a vector that something learned is behind."""
    model, flow = bench.model, bench.model.flow
    decoded = flow.ancestors(*(r.pair.recon for r in model.recons))
    for node in flow.sorted(model.reaching_loss - decoded):
        parts = ops.value_inputs(node) if ops.op(node) in _SUMS | _DIFFERENCES else []
        if len(parts) != 2 or not _is_square(node) or bench.is_of_pairs(node):
            continue
        for whole, spread in (parts, parts[::-1]):
            if shape(whole) == shape(node) and _is_spread(spread, shape(node)[-1]) and spread in flow.learned:
                yield _Sum(node, whole, spread)


def _is_square(node: fx.Node) -> bool:
    return len(shape(node)) > 1 and shape(node)[-1] == shape(node)[-2] > 1


def _is_spread(node: fx.Node, size: int) -> bool:
    """Whether a value has one entry for a row, or for a column, of a square matrix of this size."""
    return shape(node)[-2:] in ((size,), (1, size), (size, 1))


def _is_turned(bench: Bench, found: _Sum, seed: int) -> bool:
    """Whether the matrix is a covariance without the positive vector, and no longer with it, nor later."""
    model, sizes = bench.model, dict(bench.model.record.sizes)
    like = {n for n in model.flow.descendants(found.node) & model.reaching_loss if shape(n)[-2:] == shape(found.node)[-2:]}
    if any(ops.op(u) in _OF_SCORES for n in like for u in n.users):
        return False
    later = [n for n in model.flow.sorted(like) if bench.is_real(n)]
    got = model.replay([found.covariance, found.spread], {}, sizes, seed=seed)
    covariance, spread = (got[n].detach() for n in (found.covariance, found.spread))
    if not (_is_covariance(covariance) and bool((spread > 0).all())):
        return False
    held = {found.covariance: covariance, found.spread: _uneven(spread, seed)}
    after = model.replay([found.node, *later], held, sizes, seed=seed)
    values = {n: v.detach() for n, v in after.items()}
    return not _is_symmetric(values[found.node]) and not any(_is_symmetric(values[n]) and not _is_diagonal(values[n]) for n in later)


def _uneven(spread: torch.Tensor, seed: int) -> torch.Tensor:
    """The vector; one whose entries are still equal, as a learned one begins, with others."""
    if not torch.equal(spread, spread.flatten()[0].expand_as(spread)):
        return spread
    return spread * (0.5 + torch.rand(spread.shape, dtype=spread.dtype, generator=torch.Generator().manual_seed(seed)))


def _is_symmetric(value: torch.Tensor) -> bool:
    return float((value - value.mT).abs().max()) <= _NOTHING * float(value.abs().max())


def _is_diagonal(value: torch.Tensor) -> bool:
    off = value - torch.diag_embed(torch.diagonal(value, dim1=-2, dim2=-1))
    return float(off.abs().max()) <= _NOTHING * float(value.abs().max())


def _is_covariance(value: torch.Tensor) -> bool:
    if not bool(value.isfinite().all()) or not _is_symmetric(value) or _is_diagonal(value):
        return False
    least, most = (v(torch.linalg.eigvalsh(value)) for v in (torch.amin, torch.amax))
    return float(least) >= -_NOTHING * float(most)


def _broken(bench: Bench, found: _Sum) -> Broken:
    model = bench.model
    rows = "column" if shape(found.spread)[-2:] == (shape(found.node)[-1], 1) else "row"
    taken = ops.op(found.node) in _DIFFERENCES
    done, sign = ("taken from", "-") if taken else ("added to", "+")
    said = Found(
        model.where(found.node),
        label=f"{model.shape_text(found.spread)} is {done} each {rows} of {model.shape_text(found.covariance)}",
        labels=model.labels((found.covariance, "the covariance"), (found.spread, "the variances")),
        shapes=(model.row(found.covariance), model.row(found.spread)),
        why="what is left is not a covariance: it is 0 where a covariance has the size of a variance"
        if taken
        else "the variance of one latent is counted as its covariance with every other: what should stay 0 grows with it",
        help=f"put the variances on the diagonal: cov {sign} torch.diag(var), of a batch of them torch.diag_embed(var)",
    )
    return Broken("variance-off-diagonal", said, "the covariance stays symmetric", "it is symmetric without the vector, and not with it")
