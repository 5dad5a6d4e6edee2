"""Gradients at initialisation: whether they are finite, and how large the encoder's is beside the decoder's."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from vaelint.anatomy.gradients import gradients_of
from vaelint.experiment.trial import Trial
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.record.record import shape

FAR = 1e6
"""A ratio this far from 1, either way, is no matter of the data: layers that saturate, or gains that multiply."""


def gradient_ratio(trial: Trial, gradients: dict[str, torch.Tensor | None]) -> float | None:
    """Root mean square of the gradient in the encoder's first weights over that in the decoder's parameters.

    The first weights, those farthest from the loss, are where a gradient that shrinks or grows from layer to layer shows.
    None where there is no draw or no reconstruction to tell them apart by, or where one of the two is exactly zero, as with a last layer
    that starts at zero.
    """
    model = trial.model
    ends = reconstruction_ends(model)
    if not model.sites or not ends:
        return None
    names, encoder = gradients_of(model).names, model.flow.ancestors(*(s.z for s in model.sites))
    after = names(model.flow.ancestors(*ends)) - names(encoder)
    weights = [n for n in model.flow.sorted(encoder) if n in model.flow.learned and n.op == "get_attr" and len(shape(n)) > 1]
    first = names(set(weights[:1]))
    sizes = [_spread([g for n, g in gradients.items() if n in part and g is not None]) for part in (first, after)]
    return sizes[0] / sizes[1] if all(math.isfinite(s) and s > 0 for s in sizes) else None


def _spread(gradients: list[torch.Tensor]) -> float:
    count = sum(g.numel() for g in gradients)
    norms = (float(torch.linalg.vector_norm(part, dtype=torch.float64)) for g in gradients for part in _pieces(g))
    return math.sqrt(sum(n**2 for n in norms) / count) if count else 0.0


def all_finite(gradients: Iterable[torch.Tensor]) -> bool:
    """Whether no entry is infinite or NaN."""
    return all(bool(part.isfinite().all()) for g in gradients for part in _pieces(g))


def _pieces(gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The entries of a gradient (of a sparse one those that it has), a million at a time: a copy of a large one may be too much."""
    values = gradient.detach().coalesce().values() if gradient.is_sparse else gradient.detach()
    values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    return torch.split(values.flatten(), 1 << 20)
