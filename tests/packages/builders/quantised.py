"""Autoencoders around the quantisers of vector-quantize-pytorch, as its README has them."""

import torch
from torch import nn
from vector_quantize_pytorch import (
    FSQ,
    LFQ,
    GroupedResidualVQ,
    ResidualFSQ,
    ResidualLFQ,
    ResidualSimVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantize,
)


class Quantised(nn.Module):
    """Codes of four places with eight numbers each."""

    def __init__(self, quantiser: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.width, self.quantiser = width, quantiser
        self.encoder = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 4 * width))
        self.decoder = nn.Sequential(nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, 784))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.quantiser(self.encoder(x).reshape(-1, 4, self.width))
        extra = found[2].sum() if len(found) > 2 else x.new_zeros(())
        return self.decoder(found[0].flatten(1)), extra


def vq() -> nn.Module:
    """Codes that follow the encoder by moving averages."""
    return Quantised(VectorQuantize(dim=8, codebook_size=32, decay=0.8, commitment_weight=1.0))


def gradient_vq() -> nn.Module:
    """Codes that are trained by gradients."""
    codes = VectorQuantize(dim=8, codebook_size=32, learnable_codebook=True, ema_update=False, commitment_weight=0.25)
    return Quantised(codes)


def residual_vq() -> nn.Module:
    """Two quantisers, the second of what the first left."""
    return Quantised(ResidualVQ(dim=8, num_quantizers=2, codebook_size=16))


def fsq() -> nn.Module:
    """Finite scalar quantisation: nothing beside the reconstruction."""
    return Quantised(FSQ(levels=[8, 5, 5, 5]), 4)


def lfq() -> nn.Module:
    """Quantisation without a lookup, with its entropy loss."""
    return Quantised(LFQ(codebook_size=256, dim=8, entropy_loss_weight=0.1, diversity_gamma=1.0))


def sim_vq() -> nn.Module:
    """Frozen codes behind a trained projection."""
    return Quantised(SimVQ(dim=8, codebook_size=32))


def residual_fsq() -> nn.Module:
    """Finite scalar quantisation of what an earlier one left."""
    return Quantised(ResidualFSQ(dim=8, levels=[8, 5, 5, 3], num_quantizers=2))


def residual_sim_vq() -> nn.Module:
    """Frozen codes behind projections, in two stages."""
    return Quantised(ResidualSimVQ(dim=8, num_quantizers=2, codebook_size=32))


def grouped_vq() -> nn.Module:
    """Two halves of a code, each quantised in two stages."""
    return Quantised(GroupedResidualVQ(dim=8, num_quantizers=2, groups=2, codebook_size=16))


def residual_lfq() -> nn.Module:
    """Quantisation without a lookup, in two stages."""
    return Quantised(ResidualLFQ(dim=8, codebook_size=256, num_quantizers=2))


def heads_vq() -> nn.Module:
    """Codes of their own for two heads, near in angle."""
    return Quantised(VectorQuantize(dim=8, codebook_size=32, heads=2, codebook_dim=4, separate_codebook_per_head=True, use_cosine_sim=True))
