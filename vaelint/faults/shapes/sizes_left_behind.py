"""Sizes that are written as numbers: what stays behind when a constructor argument, or a size of the input, changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.perturb.culprits import LeftBehind, Refold

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def sizes_left_behind(model: Model) -> list[LeftBehind]:
    """VAE109: literals that a repair of another constructor argument needed; none where no argument was changed."""
    return model.perturbation.report.found if model.perturbation is not None else []


def refolds(model: Model) -> list[Refold]:
    """VAE109: literals that fold another size of the input into the batch."""
    return model.perturbation.report.refolds if model.perturbation is not None else []
