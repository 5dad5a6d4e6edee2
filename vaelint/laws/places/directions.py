"""Law A8, for directions: values that are compared with directions are directions too, along the axis that is compared.

Observed on the real run: a product of two values, or a distance between them, of which one has length one along the axis that is summed
over. Prediction: the other one has length one along that axis as well, if it was brought to length one at all. Broken is a value that has
length one along another axis: `normalize` works on dim 1 where nothing is said, which is the places' axis of (B, T, C).

Exempt are values that were not brought to length one along any axis, and frames, whose directions are at right angles to each other: they
turn what they are multiplied with, as the matrices of a Sylvester flow do, and rank nothing.

Source: Yu et al. 2022, Vector-quantized Image Modeling with Improved VQGAN, section 3.1 (codes and what is looked up on the unit sphere);
van den Berg et al. 2018, Sylvester Normalizing Flows for Variational Inference, eq. 10 (frames).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_PRODUCTS = frozenset({"matmul", "mm", "bmm", "linear"})
_DISTANCES = frozenset({"cdist"})
_ONE = 1e-3


@law(
    "directions-meet-directions",
    "what is compared with directions has length one along the axis that is compared",
    covered=("VAE112", "VAE118"),
)
def directions_meet_directions(bench: Bench) -> Iterator[Broken]:
    """Products and distances of two values of which both were brought to length one."""
    for node in bench.model.flow.order:
        if (sides := _compared(bench, node)) is None:
            continue
        for (one, own), (other, along) in (sides, sides[::-1]):
            if not _has_length_one(bench.value(one), own) or _has_length_one(bench.value(other), along):
                continue
            if _is_frame(bench.value(one), own):
                continue
            made = _normalised(bench, other)
            kept = bench.knows(made) and bench.is_real(made) and bench.value(made).shape[-1] == bench.value(other).shape[along]
            axis, laid = _other_axis(bench.value(other), along), bench.value(other)
            if axis is None and kept:  # laid out otherwise since, with its last axis as it was
                axis, laid = _other_axis(bench.value(made), bench.value(made).dim() - 1), bench.value(made)
            if axis is not None and not _is_frame(laid, axis):
                yield _broken(bench, node, one, made, axis)
                return


def _compared(bench: Bench, node: fx.Node) -> tuple[tuple[fx.Node, int], tuple[fx.Node, int]] | None:
    """The two values, each with the axis along which they are compared."""
    name = ops.op(node)
    tensors = [a for a in node.args[:2] if isinstance(a, fx.Node) and bench.knows(a) and bench.is_real(a)]
    if name not in _PRODUCTS | _DISTANCES or len(tensors) != 2:
        return None
    first, second = (bench.value(n).dim() for n in tensors)
    if first < 2 or second < 2:
        return None
    return (tensors[0], first - 1), (tensors[1], second - 2 if name in _PRODUCTS and name != "linear" else second - 1)


def _has_length_one(value: torch.Tensor, axis: int) -> bool:
    lengths = value.detach().double().norm(dim=axis)
    return value.shape[axis] > 1 and lengths.numel() > 1 and bool(((lengths - 1).abs() < _ONE).all())


def _is_frame(value: torch.Tensor, axis: int) -> bool:
    """Whether the directions along one of a matrix's two axes are at right angles to each other."""
    matrix = value.detach().double().movedim(axis, -2)
    if matrix.dim() < 2 or not 1 < matrix.shape[-1] <= matrix.shape[-2]:
        return False
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return bool(((matrix.transpose(-1, -2) @ matrix - one).abs() < _ONE).all())


def _other_axis(value: torch.Tensor, along: int) -> int | None:
    return next((d for d in range(value.dim()) if d != along and _has_length_one(value, d)), None)


def _normalised(bench: Bench, node: fx.Node) -> fx.Node:
    """Where a value got its length: behind what only lays it out otherwise."""
    while ops.op(node) in ops.SHAPE | ops.CAST | {"detach"} and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _broken(bench: Bench, node: fx.Node, one: fx.Node, other: fx.Node, axis: int) -> Broken:
    model = bench.model
    found = Found(
        model.where(other),
        label=f"of length one along axis {axis}, not along the one that is compared",
        labels=model.labels((one, "directions"), (node, "compared here")),
        shapes=(model.row(other), model.row(one)),
        why="its vectors have any length: a product with them ranks no angles, and the entries at different places are tied to each other",
        help="name the axis: torch.nn.functional.normalize(x, dim=-1)",
    )
    return Broken(
        "length-along-another-axis", found, "both have length one along the axis that is compared", f"one has it along axis {axis}"
    )
