"""Data that is `(T, B, ...)` by what the code makes of it: along the second axis every sample keeps to itself down to its own z."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vaelint.record.record import shape
from vaelint.replay.labels import FREE
from vaelint.replay.samples import Samples

if TYPE_CHECKING:
    from torch import fx

    from vaelint.anatomy.model import Model


def samples_along_second(model: Model, axes: dict[fx.Node, int]) -> bool:
    """Whether each row along the second axis of the data has a z of its own, which holds nothing of the first axis.

    torch's recurrent and attention layers have time first. Code that lets the first axis go on the way to z, and leaves the rows of the
    second apart up to the reconstruction, takes the second for the batch. A batch that was handed to such a layer by mistake comes out
    with one z for each entry of the first axis, or with a z that holds both axes.

    Args:
        model: The model.
        axes: The inputs with an axis of the size of what is called the batch, and where.
    """
    first = next((shape(n) for n, axis in axes.items() if axis == 0 and len(shape(n)) > 1), ())
    if len(first) < 2 or any(axis != 0 for axis in axes.values()) or first[1] < 2 or not model.sites:
        return False
    rows = first[1]
    if any(len(shape(n)) > 1 and shape(n)[1] != rows for n in axes):
        return False
    inputs = model.record.inputs.values()
    labelled = {n: 1 for n in inputs if len(shape(n)) > 1 and shape(n)[1] == rows} | {n: 0 for n in inputs if shape(n) == (rows,)}
    turned = Samples(model.record, labelled)
    if not all(_has_rows(turned, site.z, rows) for site in model.sites):
        return False
    made = {n for t in model.terms_of("reconstruction") for leaf in t.leaves for n in leaf.frontier if n in model.flow.learned}
    before = model.flow.ancestors(*(s.z for s in model.sites), *made)
    if any(m.node in before for m in turned.meetings):
        return False
    return first[0] != first[1] or _costs_by_row(model, turned, rows)


def _costs_by_row(model: Model, samples: Samples, rows: int) -> bool:
    """Whether each reconstruction and each KL comes down to one number for each row of the second axis, and no rows meet in the loss."""
    terms = [*model.terms_of("reconstruction"), *model.terms_of("kl")]
    if any(m.node in model.reaching_loss for m in samples.meetings) or not model.terms_of("reconstruction"):
        return False
    return all(any(_is_one_each(samples, n, rows) for n in (*leaf.chain, leaf.node)) for term in terms for leaf in term.leaves)


def _is_one_each(samples: Samples, node: fx.Node, rows: int) -> bool:
    """Whether a value has one entry for each row of the second axis, and no more."""
    labels = samples.of(node)
    return labels is not None and math.prod(shape(node)) == rows == labels.numel() and not bool((labels == FREE).any())


def _has_rows(samples: Samples, z: fx.Node, rows: int) -> bool:
    """Whether a latent has its rows of the second axis, all of them, and no other axis but its own."""
    labels = samples.of(z)
    if labels is None or bool((labels == FREE).any()):
        return False
    return int(torch.unique(labels).numel()) == rows and labels.numel() * shape(z)[-1] == math.prod(shape(z))
