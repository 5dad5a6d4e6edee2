"""Models that are right and of another kind than a plain VAE: with a codebook, with tokens, with steps in time."""

from __future__ import annotations

VQ = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 4), nn.Linear(4, 12)
        self.codes = nn.Embedding(8, 4)

    def forward(self, x):
        h = self.enc(x)
        q = self.codes(torch.cdist(h, self.codes.weight).argmin(1))
        fit, commit = ((q - h.detach()) ** 2).sum(), ((q.detach() - h) ** 2).sum()
        return ((self.dec(h + (q - h).detach()) - x) ** 2).sum() + fit + 0.25 * commit
"""
TOKENS = """
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.enc, self.dec = nn.GRU(8, 16, batch_first=True), nn.GRU(8, 16, batch_first=True)
        self.mu, self.logvar, self.start, self.out = nn.Linear(16, 4), nn.Linear(16, 4), nn.Linear(4, 16), nn.Linear(16, 20)

    def forward(self, x):
        h = self.enc(self.words(x))[1][0]
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        logits = self.out(self.dec(self.words(x[:, :-1]), self.start(z).unsqueeze(0))[0])
        rec = F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), ignore_index=0, reduction="sum")
        return (rec - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / x.size(0)
"""

STEPS = """
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.GRU(3, 16, batch_first=True), nn.GRU(3, 16, batch_first=True)
        self.mu, self.logvar, self.start, self.out = nn.Linear(16, 4), nn.Linear(16, 4), nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = self.enc(x)[1][0]
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        shown = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        xh = self.out(self.dec(shown, self.start(z).unsqueeze(0))[0])
        return (F.mse_loss(xh, x, reduction="sum") - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / x.size(0)
"""
