"""What each imbalance of the objective means for its user: one row a fault, filled with reductions and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vaelint.core.sign import Found
from vaelint.faults.kl.scale_report import scale_found
from vaelint.faults.kl.scale_verdicts import ScaleFault, scale_verdicts
from vaelint.late import dataclass

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Words:
    """The sentences of one fault; `{kl}`, `{recon}` and `{beta}` are filled in."""

    label: str
    why: str
    help: str


BALANCE: dict[ScaleFault, Words] = {
    "batch": Words(
        label="{kl}; {recon}",
        why="the balance of the two terms changes with the batch size: another batch size trains another model",
        help="reduce both terms over the batch in the same way: two sums, or two means",
    ),
    "data": Words(
        label="{recon}",
        why="this trains a beta-VAE with beta = {beta}: far from the ELBO, and different at every resolution",
        help="sum the reconstruction over the dimensions of the data, and average both terms over the batch; "
        "or write the weight down as a named beta",
    ),
    "log": Words(
        label="the logarithm of the scale, once for what the errors are added up over; together: {recon}",
        why="each error over sigma^2 brings a log sigma of its own: with one for all of them the scale is learned too small or too large, "
        "and the loss is that of a beta-VAE with beta = {beta}",
        help="count log sigma once for each element of the data: multiply it by their number, or add it before the sum over them",
    ),
    "latent": Words(
        label="{kl}",
        why="this trains a beta-VAE with beta = {beta}: the KL of a sample is a sum over the latent; averaged, it is L times too weak",
        help="sum the KL over the latent dimensions, then average over the batch",
    ),
    "axis": Words(
        label="{kl}",
        why="this trains a beta-VAE with beta = {beta}",
        help="sum over all dimensions of the latent and average over the batch",
    ),
    "twice": Words(
        label="{kl}; {recon}",
        why="the KL is B times too weak, and weaker the larger the batch",
        help="divide by the batch size once",
    ),
    "spread": Words(
        label="{kl}, once for every element of the data",
        why="the KL is added to each element of the reconstruction and summed with them: a beta-VAE with beta = {beta}",
        help="sum the reconstruction over its own dimensions first, then add the KL of the sample",
    ),
    "literal": Words(
        label="a literal weight; effective beta = {beta}",
        why="the balance of the objective is hidden in a literal: when a reduction or a size changes, it is easily forgotten",
        help="give the weight a name (beta) and a default, and say why it has that value",
    ),
}


def off_balance(model: Model, fault: ScaleFault) -> Iterator[Found]:
    """The effective betas with this fault (VAE313, VAE401 to VAE405, VAE414, VAE331), in the words of the table."""
    words = BALANCE[fault]
    for verdict in scale_verdicts(model):
        if verdict.fault == fault:
            yield scale_found(model, verdict, label=words.label, why=words.why, help=words.help)
