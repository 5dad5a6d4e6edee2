"""Trains a VAE and does to the world what training scripts do: writes, removes, starts programs, connects."""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.dec(z)), mu, logvar


os.makedirs("out/images", exist_ok=True)
with open("log.txt", "a") as log:
    log.write("begun")
assert open("log.txt").read().endswith("begun") and "log.txt" in os.listdir(".")
os.remove("keep.txt")
assert not os.path.exists("keep.txt")
os.rename("notes.txt", "moved.txt")
assert os.path.exists("moved.txt") and not os.path.exists("notes.txt")
os.system("touch evil.txt")
for attempt in (lambda: subprocess.run(["touch", "evil.txt"]), lambda: socket.create_connection(("192.0.2.1", 80), timeout=5)):
    try:
        attempt()
    except OSError as error:
        print("refused:", error)
if "--below" in sys.argv:  # past Python
    print("below:", ctypes.CDLL(None).creat(b"below.txt", 0o644))

model = VAE()
optimizer = torch.optim.Adam(model.parameters())
loader = DataLoader(TensorDataset(torch.rand(160, 12)), batch_size=16, num_workers=2)
try:
    for epoch in range(9):
        for (x,) in loader:
            optimizer.zero_grad()
            recon, mu, logvar = model(x)
            bce = nn.functional.binary_cross_entropy(recon, x, reduction="sum")
            loss = bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss.backward()
            optimizer.step()
            torch.save(model.state_dict(), "out/model.pt")
            model.load_state_dict(torch.load("out/model.pt"))
            with open("out/history.json", "w") as history:
                json.dump({"loss": loss.item()}, history)
finally:
    torch.save(model.state_dict(), "last.pt")
    shutil.rmtree("data")
