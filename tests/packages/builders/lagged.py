"""Time-lagged autoencoders of deeptime, each with the loss of its estimator."""

import torch
from deeptime.decomposition.deep import TAE, TVAE, TVAEEncoder
from deeptime.util.torch import MLP
from torch import nn


class Lagged(nn.Module):
    """An estimator's networks as one module; its loss is the estimator's own."""

    def __init__(self, estimator: TAE) -> None:
        super().__init__()
        self.encoder, self.decoder = estimator._encoder, estimator._decoder
        self.loss = estimator.evaluate_loss

    def forward(self, x: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        return self.loss(x, later)


def tae() -> nn.Module:
    """A time-lagged autoencoder."""
    return Lagged(TAE(MLP([12, 8, 2], nonlinearity=nn.ELU), MLP([2, 8, 12], nonlinearity=nn.ELU)))


def tvae() -> nn.Module:
    """A time-lagged variational autoencoder."""
    return Lagged(TVAE(TVAEEncoder([12, 8, 2], nonlinearity=nn.ELU), MLP([2, 8, 12], nonlinearity=nn.ELU)))
