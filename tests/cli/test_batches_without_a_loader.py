"""Batches that no loader gives: slices of a tensor, draws, all of the data, a list. One iteration gets fewer rows, where it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commandline
import pytest

MODEL = """import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self, size=36, kinds=3, latent=5):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(size + kinds, 24), nn.ReLU(), nn.Linear(24, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent + kinds, 24), nn.ReLU(), nn.Linear(24, size))

    def forward(self, x, kind):
        mu, logvar = self.encoder(torch.cat([x, kind], 1)).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn(5, device=x.device)
        return self.decoder(torch.cat([z, kind], 1)), mu, logvar


def elbo(out, x, mu, logvar):
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (F.mse_loss(out, x, reduction="sum") + kl) / x.shape[0]
"""
SCRIPT = """import numpy as np
from model import *

def fit(data, kinds, rows=16):
    vae = VAE()
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    {before}
    for epoch in range(4):
        order = torch.randperm(len(data))
        for i in range(0, len(data), rows):
            {batch}
            out, mu, logvar = vae(x.view(len(x), -1), kind)
            loss = elbo(out, x.view(-1, 36), mu, logvar)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print("rows left", len(data), len(kinds))

fit(torch.rand(160, 6, 6), F.one_hot(torch.randint(0, 3, (160,)), 3).float())
"""
FORMS = {
    "slices": ("", "x, kind = data[i : i + rows], kinds[i : i + rows]"),
    "an order": ("", "x, kind = data[order[i : i + rows]], kinds[order[i : i + rows]]"),
    "draws": ("", "x, kind = torch.rand(16, 6, 6), torch.eye(3)[torch.randint(0, 3, (16,))]"),
    "gaussian draws": ("", "x, kind = torch.randn(16, 6, 6), torch.eye(3)[torch.randint(0, 3, (16,))]"),
    "numpy": (
        "numbers = data.numpy()",
        "at = np.arange(i, i + rows); x, kind = torch.from_numpy(numbers[at]), kinds[torch.from_numpy(at)]",
    ),
    "all of it": ("", "x, kind = data, kinds"),
    "a list": ("pairs = list(zip(data.split(16), kinds.split(16)))", "x, kind = pairs[i // rows]"),
}


def observed(folder: Path, before: str, batch: str) -> tuple[dict[str, Any], str]:
    (folder / "model.py").write_text(MODEL)
    (folder / "train.py").write_text(SCRIPT.format(before=before, batch=batch))
    words = ["run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=folder)
    (target,) = json.loads(done.stdout)["targets"]
    return target, done.stderr


@pytest.mark.parametrize("form", FORMS)
def test_the_batch_is_a_symbol(tmp_path: Path, form: str) -> None:
    target, _ = observed(tmp_path, *FORMS[form])
    (finding,) = [f for f in target["findings"] if f["severity"] != "info"]
    assert (finding["code"], finding["span"]["line"], finding["certainty"]) == ("VAE201", 14, "confirmed"), finding
    assert target["loss"]["beta"]["value"] == pytest.approx(1)
    assert [t["role"] for t in target["loss"]["terms"]] == ["reconstruction", "kl"]
    assert all(t["reduction"].startswith("mean over B, sum over ") for t in target["loss"]["terms"])
    assert target["symbols"]["B"] == (160 if form == "all of it" else 16)
    assert not any("one batch size" in note for note in target["notes"])


@pytest.mark.parametrize(("rows", "codes"), [(160, ["VAE201"]), (150, ["VAE102", "VAE201"])])
def test_a_fixed_divisor_is_wrong_where_the_last_slice_is_smaller(tmp_path: Path, rows: int, codes: list[str]) -> None:
    before, batch = FORMS["slices"]
    text = SCRIPT.format(before=before, batch=batch).replace("160", str(rows))
    (tmp_path / "model.py").write_text(MODEL.replace("/ x.shape[0]", "/ 16"))
    (tmp_path / "train.py").write_text(text)
    words = ["run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert sorted(f["code"] for f in target["findings"] if f["severity"] != "info") == codes


def test_a_graph_that_cannot_be_cut_is_seen_at_one_size(tmp_path: Path) -> None:
    graph = """import torch
from torch import nn
from torch.nn import functional as F

class VGAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.mu, self.log_std = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x, links):
        h = F.relu(links @ self.first(x))
        mu, log_std = links @ self.mu(h), links @ self.log_std(h)
        z = mu + torch.randn_like(mu) * log_std.exp()
        return z @ z.t(), mu, log_std

n = 30
x, links = torch.randn(n, 12), torch.eye(n)
model = VGAE()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(20):
    logits, mu, log_std = model(x, links)
    kl = -0.5 / n * (1 + 2 * log_std - mu**2 - (2 * log_std).exp()).sum(1).mean()
    loss = F.binary_cross_entropy_with_logits(logits, links) + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    (tmp_path / "train.py").write_text(graph)
    words = ["run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert target["findings"] == []
    assert any("samples instead of 30 the script raises at train.py:11" in note for note in target["notes"])


def test_what_a_distribution_makes_of_its_own_is_no_data(tmp_path: Path) -> None:
    text = (
        MODEL.partition("def elbo")[0]
        + """
    def elbo(self, x):
        kind = torch.eye(3)[torch.zeros(len(x), dtype=torch.long)]
        out, mu, logvar = self(x, kind)
        q, p = D.Normal(mu, (0.5 * logvar).exp()), D.Normal(torch.zeros_like(mu), torch.ones_like(mu))
        z = q.rsample()
        return ((x - out).square().sum(1) + (q.log_prob(q.rsample()) - p.log_prob(z)).sum(1)).mean()


model = VAE()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(20):
    x = torch.rand(16, 36)
    loss = model.elbo(x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    )
    text = text.replace("torch.randn(5, device=x.device)", "torch.randn_like(mu)").replace(
        "import torch\n", "import torch\nfrom torch import distributions as D\n", 1
    )
    (tmp_path / "train.py").write_text(text)
    words = ["run", "--device", "cpu", "--output-format", "json", "train.py"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert [t["role"] for t in target["loss"]["terms"]].count("reconstruction") == 1, done.stdout
    assert target["symbols"]["B"] == 16
