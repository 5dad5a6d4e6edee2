"""What is wrong with a training is found when it is observed as when its step is checked, and its repaired twin stays silent."""

from __future__ import annotations

from pathlib import Path

import pytest
from expectations import FIXTURES
from observedscripts import observed

NOISE = "x = torch.randn(12, 18)"
LOOPS = {  # fixture -> what makes the model and keeps it, and the body of the loop
    "vae905_multiplier_inverted/{}__after_the_step": ("model = Held()", f"{NOISE}\n    model.iterate(x)"),
    "vae905_multiplier_inverted/{}__minimised": (
        "model = Coder()\nstate = begin(model)",
        "x = torch.rand(16, 20)\n    advance(model, state, x)",
    ),
    "vae907_gradients_pile_up/{}__each_step": ("model = Trainer()", f"{NOISE}\n    model.update(x)"),
    "vae907_gradients_pile_up/{}__closure": ("model = KnotVAE()", "x = torch.randn(12, 10)\n    train(model, x)"),
    "vae909_scaled_gradients_changed/{}__by_hand": (
        "model = Plain()\noptimizer = torch.optim.SGD(model.parameters(), 1e-2)",
        f"{NOISE}\n    turn(model, optimizer, x)",
    ),
    "vae913_rate_twice/{}": ("model = LanternVAE()", f"{NOISE}\n    train(model, [x, x], 2)"),
    "vae916_average_of_itself/{}": ("model = DunlinVAE()\ntraining = Training(model)", f"{NOISE}\n    training.step(x)"),
    "vae919_constraint_weakened/{}": (
        "model = Held()\noptimizer = torch.optim.Adam(model.parameters())",
        "x = torch.randn(12, 15)\n    turn(model, optimizer, x)",
    ),
    "vae922_limit_repeated/{}": (
        "model = Plain()\nopt = torch.optim.SGD(model.parameters(), 0.1)",
        "x = torch.rand(24, 15)\n    turn(model, opt, x)",
    ),
}

AT = {"vae905_multiplier_inverted/{}__minimised": 31}  # the product: the number was made before, and which group has its name is not seen

SCALED = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(18, 6), nn.Linear(3, 18)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        y = self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
        return (0.5 * (y - x).pow(2).sum(1) + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()

model = VAE()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
scaler = torch.cuda.amp.GradScaler(enabled=ON)
for x in torch.utils.data.DataLoader(torch.randn(120, 18), batch_size=12):
    optimizer.zero_grad()
    loss = model(x)
    scaler.scale(loss).backward()
    UNSCALE
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""


@pytest.mark.parametrize("which", LOOPS)
def test_a_fault_of_the_training_is_found_where_it_stands(which: str, tmp_path: Path) -> None:
    """At the line that the check of the step names, but for `AT`; in the twin nothing is."""
    made, body = LOOPS[which]
    script = f"import torch\nfrom model import *\n{made}\nfor _ in range(60):\n    {body}\n"
    text = (FIXTURES / f"{which.format('bad')}.py").read_text("utf-8")
    line = next(n for n, words in enumerate(text.splitlines(), 1) if "# expect:" in words)
    (tmp_path / "model.py").write_text(text, encoding="utf-8")
    code = which[:6].upper()
    assert observed(tmp_path, script) == {(code, "model.py", AT.get(which, line))}
    (tmp_path / "model.py").write_text((FIXTURES / f"{which.format('good')}.py").read_text("utf-8"), encoding="utf-8")
    assert observed(tmp_path, script) == set()


@pytest.mark.parametrize(
    ("on", "unscale", "found"), [("True", "pass", True), ("False", "pass", False), ("True", "scaler.unscale_(optimizer)", False)]
)
def test_a_limit_before_the_scale_is_taken_out(on: str, unscale: str, found: bool, tmp_path: Path) -> None:
    """Where the script has its scaler work, and has not unscaled the gradients before."""
    script = SCALED.replace("ON", on).replace("UNSCALE", unscale)
    line = next(n for n, words in enumerate(script.splitlines(), 1) if "clip_grad_norm_" in words)
    assert observed(tmp_path, script) == ({("VAE909", "train.py", line)} if found else set())


COUNTS = """
import torch
from model import *

model = CensusVAE()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
data = torch.rand(80, 60) * 1e6
for x in BATCHES:
    recon, mu, logvar = model(x)
    loss = loss_function(recon, x, mu, logvar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("batches", "line"), [("torch.utils.data.DataLoader(data, batch_size=8)", 19), ("data.split(8)", 26)])
def test_a_training_whose_first_step_breaks_the_parameters(batches: str, line: int, tmp_path: Path) -> None:
    """At the operation where the first iteration was watched, else at the loss that is not finite any more."""
    text = (FIXTURES / "vae702_non_finite" / "bad.py").read_text("utf-8")
    (tmp_path / "model.py").write_text(text, encoding="utf-8")
    assert observed(tmp_path, COUNTS.replace("BATCHES", batches)) == {("VAE702", "model.py", line)}


WEIGHED = """
import torch
from torch import nn
from torch.nn import functional as F

STEPS = 10000

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(18, 6), nn.Linear(3, 18)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar

def loss_function(y, x, mu, logvar, beta):
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return F.mse_loss(y, x, reduction="sum") + beta * kl

def train(model, optimizer, batches):
    step = 0
    for epoch in range(10):
        for x in batches:
            beta = min(1.0, step / STEPS)
            optimizer.zero_grad()
            y, mu, logvar = model(x)
            loss = loss_function(y, x, mu, logvar, beta)
            loss.backward()
            optimizer.step()
            NEXT

model = VAE()
train(model, torch.optim.Adam(model.parameters()), torch.utils.data.DataLoader(torch.randn(120, 18), batch_size=12))
"""


@pytest.mark.parametrize(("following", "found"), [("pass", True), ("step += 1", False)])
def test_a_warm_up_whose_counter_nothing_moves(following: str, found: bool, tmp_path: Path) -> None:
    """The weight is reckoned with the variables that the training had."""
    script = WEIGHED.replace("NEXT", following)
    line = next(n for n, words in enumerate(script.splitlines(), 1) if "beta = min" in words)
    assert observed(tmp_path, script) == ({("VAE416", "train.py", line)} if found else set())
