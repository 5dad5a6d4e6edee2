"""A convolutional VAE on MNIST, as scripts train one: images written after each epoch, a checkpoint at the end."""

import argparse
import os

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.utils import make_grid, save_image

options = argparse.ArgumentParser()
options.add_argument("--epochs", type=int, default=20)
options.add_argument("--latent", type=int, default=8)
options.add_argument("--out", required=True)
options = options.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"


class ConvVAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Flatten())
        self.heads = nn.Linear(8 * 49, 2 * latent)
        self.up = nn.Sequential(nn.Linear(latent, 8 * 49), nn.ReLU(), nn.Unflatten(1, (8, 7, 7)))
        self.grow = nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1))

    def forward(self, x):
        mu, logvar = self.heads(self.down(x)).chunk(2, dim=1)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        return self.grow(self.up(z)), mu, logvar


def negative_elbo(logits, x, mu, logvar):
    likelihood = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(1)
    return (likelihood + kl).mean()


def main():
    chain = transforms.Compose([transforms.Resize(28), transforms.ToTensor()])
    images = datasets.MNIST("data", train=True, transform=chain, download=True)
    loader = DataLoader(images, batch_size=32, shuffle=True, num_workers=4, pin_memory=True)
    model = ConvVAE(options.latent).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    os.makedirs(options.out, exist_ok=True)
    for epoch in range(options.epochs):
        model.train()
        for x, _ in loader:
            x = x.to(device)
            loss = negative_elbo(*[(out := model(x))[0], x, *out[1:]])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        save_image(make_grid(torch.sigmoid(model(x)[0]).cpu()), f"{options.out}/{epoch}.png")
    torch.save(model.state_dict(), f"{options.out}/model.pt")


if __name__ == "__main__":
    main()
