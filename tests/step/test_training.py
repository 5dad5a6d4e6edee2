"""The step that a repository's own training code runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS, Make

# -- the loss of the file's own training code


@pytest.mark.parametrize(
    ("training", "code"),
    [
        (
            """
def train(net, loader, optimizer, beta, criterion=None):
    net.train()
    for epoch in range(10):
        for i, (img, _) in enumerate(loader):
            img = img.view(-1, 6).to("cuda")
            optimizer.zero_grad()
            recon, mu, logvar = net(img)
            kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
            loss = F.mse_loss(recon, img) + beta * kl
            print(loss.item())
            loss.backward()
            optimizer.step()
""",
            "beta = 1.0; recon, mu, logvar = net(img); kl = KL; loss = F.mse_loss(recon, img) + beta * kl",
        ),
        (
            """
if __name__ == "__main__":
    vae = VAE().to("cpu")
    criterion = nn.MSELoss(reduction="sum")
    for x in []:
        out = vae(x)
        rec = criterion(out[0], x)
        (rec + 0.1 * out[1].pow(2).sum()).backward()
""",
            "criterion = nn.MSELoss(reduction='sum'); out = model(x); rec = criterion(out[0], x); loss = rec + 0.1 * out[1].pow(2).sum()",
        ),
        (
            """
class Trainer:
    def fit(self, loader):
        self.model = VAE()
        for batch in loader:
            with torch.autocast("cpu"):
                recon, mu, logvar = self.model(batch.flatten(1))
                loss = F.mse_loss(recon, batch)
            self.scaler.scale(loss).backward()
""",
            "batch = x\nwith torch.autocast('cpu'):\n    recon, mu, logvar = model(batch.flatten(1))\n    loss = F.mse_loss(recon, batch)",
        ),
    ],
)
def test_training_code_is_cut_out(make: Make, training: str, code: str) -> None:
    case = make(HEAD + FORWARD + training)
    step = case.found()
    shown = step.code.replace("-0.5 * torch.mean(1 + logvar - mu ** 2 - logvar.exp())", "KL").replace("img = x; ", "")
    assert shown == code.replace("net(", "model(")
    assert case.run(step, ["x"]).loss.ndim == 0


def test_cut_out_code_keeps_its_lines(make: Make) -> None:
    line = "        loss = 1 / (model(x)[0].numel() - 30)"
    text = f"{HEAD}{FORWARD}\ndef train(model, loader):\n    for x in loader:\n{line}\n        loss.backward()\n"
    case = make(text)
    step = case.found()
    with pytest.raises(ZeroDivisionError) as caught:
        case.run(step, ["x"])
    last = caught.traceback[-1]
    assert Path(last.path).name == "model.py" and text.split("\n")[last.lineno] == line


@pytest.mark.parametrize(
    "body",
    [
        "loss = loss_function(*model(x), args.weight)",  # args is not known here
        "loss = schedule(model(x))",
        "y = model(batch['x'])[0]\n        loss = y.sum()",
        "loss = other(x)",
    ],
)
def test_training_code_with_unknown_parts_is_left_alone(make: Make, body: str) -> None:
    text = f"\ndef train(model, loader, args, schedule, other):\n    for x in loader:\n        {body}\n        loss.backward()\n"
    assert make(HEAD + FORWARD + PLAIN_LOSS + text).code() == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"


def test_two_ways_to_train_are_not_chosen_between(make: Make) -> None:
    one = "\ndef train{n}(model, loader):\n    for x in loader:\n        loss = model(x)[{n}].sum()\n        loss.backward()\n"
    assert make(HEAD + FORWARD + PLAIN_LOSS + one.format(n=1) + one.format(n=2)).code().endswith("loss_function(recon, x, mu, logvar)")


TRAINING_FILE = """
import sys
import torch
from torch.nn import functional as F
from model import VAE
data = open(sys.argv[1])
weight = 0.5
rec_loss = lambda recon, x: F.mse_loss(recon, x)

def main():
    net = VAE()
    for images in data:
        recon, mu, logvar = net(images)
        loss = rec_loss(recon, images) + weight * mu.pow(2).mean()
        loss.backward()
"""


def test_training_code_of_another_file_is_cut_out(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINING_FILE)
    code = "images = x; recon, mu, logvar = model(images); loss = rec_loss(recon, images) + weight * mu.pow(2).mean()"
    assert case.code() == code and any("train.py:15" in note for note in case.found().notes)


@pytest.mark.parametrize(
    ("imported", "made"),
    [
        ("import model as models", "net = models.VAE().to('cpu')"),
        ("from model import VAE as Net", "net = Net()"),
        ("from model import VAE", "net = torch.nn.DataParallel(VAE())"),
    ],
)
def test_training_code_of_another_file_may_call_the_model_by_any_name(make: Make, imported: str, made: str) -> None:
    text = TRAINING_FILE.replace("from model import VAE", imported).replace("net = VAE()", made)
    assert (case := make(HEAD + FORWARD, train=text)).code().startswith("images = x; recon, mu, logvar = model(images)")
    assert any("train.py:15" in note for note in case.found().notes)


TRAINER_FILE = """
import torch
from torch import nn
from torch.nn import functional as F
from model import VAE

class Trainer{bases}:
    def __init__(self, loader, beta=0.5, rate=1e-3):
        self.loader, self.rate = loader, rate
        self.beta = beta
        self.criterion = nn.MSELoss(reduction="sum")
        self.net = VAE()
    def divergence(self, mu, logvar):
        return self.beta * mu.pow(2).sum() + logvar.sum()
    def fit(self):
        for images in self.loader:
            recon, mu, logvar = self.net(images)
            loss = self.criterion(recon, images) + self.divergence(mu, logvar){more}
            loss.backward()
"""


def test_a_trainer_is_stood_in_for_by_what_its_class_says(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINER_FILE.format(bases="", more=""))
    made = "self = object.__new__(Trainer); self.beta = 0.5; self.criterion = torch.nn.MSELoss(reduction='sum'); "
    code = "images = x; " + made + "recon, mu, logvar = model(images); loss = self.criterion(recon, images) + self.divergence(mu, logvar)"
    assert case.code() == code and any("train.py:19" in note for note in case.found().notes)


def test_a_trainer_whose_attributes_come_from_elsewhere_is_left_alone(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINER_FILE.format(bases="", more=" + self.loader.extra"))
    assert "no loss was found" in case.none()


def test_a_trainer_keeps_what_its_base_class_says(make: Make) -> None:
    base = "class Base:\n    def __init__(self):\n        self.beta = 0.25\n\nclass T"
    text = TRAINER_FILE.format(bases="(Base)", more="").replace("        self.beta = beta\n", "").replace("class T", base)
    assert "self.beta = 0.25; " in make(HEAD + FORWARD, train=text).code()


def test_a_loss_beside_the_model_comes_before_training_elsewhere(make: Make) -> None:
    assert make(HEAD + FORWARD + PLAIN_LOSS, train=TRAINING_FILE).code().endswith("loss_function(recon, x, mu, logvar)")


def test_training_elsewhere_that_cannot_be_read_is_said(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINING_FILE.replace("weight = 0.5", "weight = 1 / 0"))
    assert "no loss was found" in case.none() and any("train.py:15 trains the model" in note for note in case.notes)
