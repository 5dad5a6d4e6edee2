"""A model of our own, checked in the server before many targets come: what it sets up and imports, they need not.

Nothing here is a user's; the forks inherit warm caches and modules, and a quarter of the time is left to each.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vaelint.core.result import Request


class Tiny(nn.Module):
    """A VAE that uses what most do."""

    def __init__(self, data_dim: int = 6, hidden_dim: int = 5, latent_dim: int = 2) -> None:
        super().__init__()
        self.enc, self.heads = nn.Linear(data_dim, hidden_dim), nn.Linear(hidden_dim, 2 * latent_dim)
        self.dec = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, data_dim))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mu, logvar = self.heads(torch.relu(self.enc(x))).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.dec(z)), mu, logvar


def loss_fn(recon: torch.Tensor, x: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """The ELBO of `Tiny`."""
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return nn.functional.binary_cross_entropy(recon, x, reduction="sum") + kl


REQUEST = Request(f"{__name__}:Tiny", ("5x6:float32[0,1]",), loss=loss_fn.__name__, device="cpu", laws="none")


def warm_up() -> None:
    """Runs a whole check once, real pass too, where a process may fork afterwards; laws bring 290 modules that few models need.

    It takes gradients. Where torch has a device besides the CPU, its first backward pass starts a thread for that device, and no fork of
    the process could run another one: each target then sets itself up. On one thread, since no fork has the others of a pool.
    """
    from vaelint.catalogue import all_rules
    from vaelint.loading.names import meanings
    from vaelint.pipeline.check import check_here
    from vaelint.pipeline.rule_facts import resolved

    if _another_device():
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    check_here(REQUEST, lambda message: None)
    torch.set_num_threads(threads)
    meanings("size")  # for constructor arguments without a default: patterns are compiled once
    for rule in all_rules():
        for name in rule.facts:  # most facts of a small model need not be asked for, and their modules are not there yet
            resolved(name)


def _another_device() -> bool:
    """Whether torch may find another device than the CPU. Asks for files: asking the driver would itself forbid the forks."""
    if torch.version.cuda is not None:
        return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the latter is WSL's
    return torch.version.hip is not None or torch.version.xpu is not None or torch.backends.mps.is_built()
