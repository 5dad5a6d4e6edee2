"""Law C5, for minibatch estimates of the aggregate posterior: log q(z_i) is of draw i, and of all posteriors.

The matrix log q(z_i | x_j) holds every draw against every posterior. Intervention: one draw is moved, the posteriors held. Prediction: one
entry of the log-sum moves. Where all do, and one moves with one posterior, the sum runs over the draws: what it gives is no density of z.
Symmetric kernels move in both ways and are exempt, and so is a log-sum that stands alone, which may be a contrastive bound.

Source: Chen et al. 2018, Isolating sources of disentanglement in variational autoencoders, appendix C.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import LogSum, log_sums
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import route, shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_FEWEST = 3  # samples


@law(
    "aggregates-are-of-one-draw",
    "a minibatch estimate of log q(z) moves with one draw and with all posteriors",
    covered=("VAE408", "VAE423"),
    cost="replay",
)
def aggregates_are_of_one_draw(bench: Bench) -> Iterator[Broken]:
    """Losses with several log-sums over the same pairs of samples."""
    found = [(one, site) for one in log_sums(bench.model) if bench.is_of_pairs(one.source) and (site := _of_site(bench, one)) is not None]
    if len(found) < 2:
        return
    for one, site in found:
        try:
            by_draw, by_posterior = (_moved(bench, one, nodes, site) for nodes in ([site.z], list(site.heads)))
        except ReplayError as error:
            raise CannotMeasureError(f"the log-sums do not run by themselves: {message_of(error)}") from error
        if by_posterior == 1 and by_draw == shape(one.node)[bench.batch_axis(one.node) or 0] >= _FEWEST:
            yield _broken(bench, one, by_draw)
            return


def _of_site(bench: Bench, one: LogSum) -> Site | None:
    """The posterior whose draw and whose heads the pairs are made of, and nothing else."""
    flow = bench.model.flow
    if len(one.axes) != 1 or bench.batch_axis(one.node) is None:
        return None
    for site in bench.model.sites:
        ends = {site.z, *site.heads}
        behind = flow.ancestors(one.node, stop=ends)
        if site.z in behind and site.heads and set(site.heads) <= behind and not any(n.op == "placeholder" for n in behind):
            return site
    return None


def _moved(bench: Bench, one: LogSum, nodes: list[fx.Node], site: Site) -> int:
    """How many entries of the log-sum move with the first sample of some values, the others held."""
    replay, sizes = bench.model.replay, dict(bench.model.record.sizes)
    generator = torch.Generator().manual_seed(3)
    given = {n: torch.randn(replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in (site.z, *site.heads)}
    new = dict(given)
    for node in nodes:
        rows = given[node].movedim(bench.batch_axis(node) or 0, 0).clone()
        rows[0] += 0.3
        new[node] = rows.movedim(0, bench.batch_axis(node) or 0)
    before, after = (replay([one.node], values, sizes)[one.node] for values in (given, new))
    rows = (after - before).movedim(bench.batch_axis(one.node) or 0, 0).flatten(1) if before.dim() > 1 else (after - before)[:, None]
    return int((rows.abs().max(1).values > 1e-12 * float(before.abs().max())).sum())


def _broken(bench: Bench, one: LogSum, count: int) -> Broken:
    model, matrix = bench.model, _matrix(bench, one)
    found = Found(
        matrix or model.where(one.node),
        label="has the posteriors along its first axis" if matrix else "sums over the draws for each posterior",
        labels=model.labels(
            (one.node, "sums over the draws for each posterior") if matrix else (one.source, "every draw against every posterior")
        ),
        why="log q(z_i) is the logarithm of the mean of q(z_i | x_j) over the posteriors j; a mean over the draws i is not a density of z, "
        "and its gradient moves draws and posteriors apart in another way",
        help="put the draws along the first axis, log_density(z[:, None], mu[None]), and sum over the second"
        if matrix
        else "with draws along the first axis and posteriors along the second: torch.logsumexp(matrix, dim=1)",
    )
    text = f"one draw moves {count} entries, one posterior moves one"
    return Broken("latent-density-formula", found, "one draw moves one entry, one posterior all", text)


def _matrix(bench: Bench, one: LogSum) -> Span | None:
    """Where the pairs are made, in the function that sums them up, if it does so over the second axis, as is usual: they are turned."""
    flow, own = bench.model.flow, route(one.node)
    if one.axes != (1,) or not own:
        return None
    pairs = [n for n in flow.sorted(flow.ancestors(one.source)) if bench.is_of_pairs(n) and n.op == "call_function"]
    function = bench.model.source.function(own[0])
    return next((s for s in route(pairs[0]) if bench.model.source.function(s) is function), None) if pairs else None
