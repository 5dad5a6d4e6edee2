"""A VAE whose beta rises from 0 in ten steps; two of its six latent dimensions hardly see the input."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, size=12, latent=6):
        super().__init__()
        self.enc = nn.Linear(size, 8)
        self.mu, self.logvar = nn.Linear(8, latent), nn.Linear(8, latent)
        self.dec = nn.Linear(latent, size)
        with torch.no_grad():
            for head in (self.mu, self.logvar):
                head.weight[:2] *= 1e-3
                head.bias[:2] = 0.0

    def forward(self, x):
        h = torch.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        return self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def train(seen=lambda *values: None):
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    for _ in range(4):
        for (x,) in DataLoader(TensorDataset(torch.rand(64, 12)), batch_size=16):
            step += 1
            beta = min(1.0, (step - 1) // 2 / 5)
            recon, mu, logvar = model(x)
            rec = F.mse_loss(recon, x, reduction="sum") / x.size(0)
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
            optimizer.zero_grad()
            (rec + beta * kl).backward()
            seen(model, rec, beta * kl, mu, logvar)
            optimizer.step()


if __name__ == "__main__":
    train()
