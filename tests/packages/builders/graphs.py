"""Graph autoencoders of torch_geometric with encoders of two convolutions, as its examples have them."""

import torch
from torch import nn
from torch_geometric.nn import ARGA, ARGVA, GAE, VGAE, GCNConv


class Encoder(nn.Module):
    """Mean and log-scale of each node's code."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = GCNConv(8, 16)
        self.mu, self.logstd = GCNConv(16, 4), GCNConv(16, 4)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.hidden(x, edges).relu()
        return self.mu(h, edges), self.logstd(h, edges)


def vgae() -> nn.Module:
    """A variational graph autoencoder."""
    return VGAE(Encoder())


def argva() -> nn.Module:
    """The same, its codes held to a normal by a discriminator too."""
    return ARGVA(Encoder(), nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)))


def gae() -> nn.Module:
    """A graph autoencoder without draws."""
    return GAE(GCNConv(8, 4))


def arga() -> nn.Module:
    """The same, its codes held to a normal by a discriminator."""
    return ARGA(GCNConv(8, 4), nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)))
