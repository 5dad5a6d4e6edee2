"""`vaelint discover`, and folders as words of `vaelint check`."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import commandline
import pytest

from vaelint.discover.shapes import first_layers

SAMPLER = """
import torch
from torch import nn
import torch.nn.functional as F

class Draw(nn.Module):
    def forward(self, mu, logvar):
        return mu + torch.randn_like(mu) * (0.5 * logvar).exp()
"""
MODEL = """
from torch import nn
import torch.nn.functional as F
from parts import Draw

class Compressor(nn.Module):
    def __init__(self, width, code):
        super().__init__()
        self.body = nn.Conv2d(1, width, 4, 4)
        self.mu, self.logvar = nn.Linear(width * 49, code), nn.Linear(width * 49, code)
        self.draw, self.back = Draw(), nn.Linear(code, 784)

    def forward(self, x):
        h = F.relu(self.body(x)).flatten(1)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.back(self.draw(mu, logvar)).view_as(x), mu, logvar

class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 784)

    def forward(self, z):
        return self.layer(z)

    def sample(self, n):
        import torch
        return self(torch.randn(n, 8))

def loss_function(recon, x, mu, logvar):
    return ((recon - x).square().sum() - 0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()) / x.size(0)
"""
TRAIN = """
import argparse
from torchvision import datasets, transforms
from model import Compressor, loss_function
parser = argparse.ArgumentParser()
parser.add_argument("--code", type=int, default=12)
args = parser.parse_args()
data = datasets.MNIST("data", transform=transforms.ToTensor())
model = Compressor(6, code=args.code)
"""
STRANGE = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, blueprint):
        super().__init__()
        self.part = blueprint["part"]()

    def forward(self, x):
        mu, logvar = self.part(x)
        return mu + torch.randn_like(mu) * logvar.exp()
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in {"parts.py": SAMPLER, "model.py": MODEL, "train.py": TRAIN}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _run(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return commandline.vaelint(*words, cwd=cwd)


def _candidates(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)["candidates"]
    return found


def test_a_vae_is_found_by_its_structure_and_its_arguments_come_from_the_training_code(repository: Path) -> None:
    """Neither its name nor its parts' say VAE; the sampler is another file's; the generator draws only to generate."""
    done = _run(repository, "discover", "--output-format", "json")
    (found,) = _candidates(done)
    assert (done.returncode, found["target"], found["state"], found["saw"]) == (0, "model.py:Compressor", "runs", "1 sampling site")
    assert found["proposal"]["input"] == ["4x1x28x28:float32[0,1]"]
    assert found["proposal"]["init"] == ["width=6", "code=12"]


def test_static_runs_nothing(repository: Path) -> None:
    (repository / "model.py").write_text(MODEL + "\nraise SystemExit(3)\n")
    done = _run(repository, "discover", "--static", "--output-format", "json")
    assert [(c["target"], c["state"]) for c in _candidates(done)] == [("model.py:Compressor", "untried")]


@pytest.mark.parametrize("before", [None, '# ours\n[project]\nname = "x"\n', '[tool.vaelint]\nfail-on = "error"\n'])
def test_what_is_written_is_added_once_and_checked_by_check(repository: Path, before: str | None) -> None:
    file = repository / ("vaelint.toml" if before is None else "pyproject.toml")
    if before is not None:
        file.write_text(before)
    assert _run(repository, "discover", "--write").returncode == 0
    once = file.read_text()
    assert once.startswith(before or "")
    table = tomllib.loads(once)
    targets = table["targets"] if before is None else table["tool"]["vaelint"]["targets"]
    assert [t["target"] for t in targets] == ["model.py:Compressor"]
    if before is None:
        assert _run(repository, "discover", "--write").returncode == 0
        assert file.read_text() == once
    else:
        assert _run(repository, "check", "--device", "none").returncode == 0


def test_a_folder_is_checked_and_what_cannot_be_is_said(repository: Path) -> None:
    done = _run(repository.parent, "check", repository.name, "--device", "none", "--output-format", "json")
    assert (done.returncode, [t["status"] for t in json.loads(done.stdout)["targets"]]) == (0, ["clean"])
    (repository / "odd.py").write_text(STRANGE)
    done = _run(repository.parent, "check", repository.name, "--device", "none", "--output-format", "json")
    assert done.returncode == 2
    assert [t["status"] for t in json.loads(done.stdout)["targets"]] == ["clean", "failed"]
    assert "odd.py:Odd: no way to check it was found: Odd cannot be built without blueprint" in done.stderr
    done = _run(repository, "discover")
    assert done.returncode == 2
    assert "# odd.py:Odd: could not propose how to check it, because Odd cannot be built without blueprint" in done.stdout


def test_a_folder_without_a_vae_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print 'old'\n")
    for words in (["discover"], ["check", "."]):
        done = _run(tmp_path, *words)
        assert done.returncode == 2
        assert "no VAE is found in .: 0 Python files read; 1 could not be read: broken.py (SyntaxError: " in done.stderr
        assert "<unknown>" not in done.stderr and "(line 1))" in done.stderr
    assert _run(tmp_path, "discover", "nowhere").returncode == 2


TALL = """
import torch
from torch import nn

class Tall(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, widths[0], 4, 4), nn.ReLU(), nn.Conv2d(widths[0], widths[1], 4, 4), nn.Flatten())
        self.heads, self.back = nn.Linear(widths[1] * 6 * 2, 10), nn.Linear(5, 96 * 32)

    def forward(self, x):
        mu, logvar = self.heads(self.body(x)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.back(z).view(-1, 1, 96, 32), mu, logvar

def sizes(text):
    return [int(n) for n in text.split(",")]

tall = Tall(sizes("3,4"))
"""
TERMS = """
def kl_loss(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()

def rec_loss(recon, x):
    return (recon - x).square().sum()
"""


def test_a_notebook_is_read_sizes_are_learned_and_a_part_of_a_loss_is_no_loss(tmp_path: Path) -> None:
    lines = TALL.strip().splitlines(keepends=True)
    cell: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": lines}
    document = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "tall.ipynb").write_text(json.dumps(document, indent=1))
    (tmp_path / "losses.py").write_text(TERMS)
    done = _run(tmp_path, "discover", "--output-format", "json")
    (found,) = _candidates(done)
    assert (found["target"], found["state"]) == ("tall.ipynb:Tall", "runs")
    assert found["proposal"] == {"input": ["4x1x96x32"], "init": ["widths=[3, 4]"], "loss": None, "step": None}
    assert any(note.startswith("no loss is proposed") for note in found["notes"])
    options = ["--input", found["proposal"]["input"][0], "--init", found["proposal"]["init"][0]]
    done = _run(tmp_path, "check", found["target"], *options, "--device", "none", "--output-format", "json")
    (target,) = json.loads(done.stdout)["targets"]
    assert (done.returncode, target["status"], [f["code"] for f in target["findings"]]) == (2, "incomplete", ["VAE004"])
    assert [told["reason"].partition(":")[0] for told in target["incomplete"]] == ["no loss was found"]


def test_the_files_beside_a_folder_are_not_its_repository(repository: Path) -> None:
    """Another checkout beside it trains a model of the same shape: its loss is no loss of this one."""
    beside = repository.parent / f"{repository.name}-beside"
    beside.mkdir()
    (beside / "losses.py").write_text(
        "def vae_loss(recon, x, mu, logvar):\n    return (recon - x).square().sum() - mu.sum() + logvar.sum()\n"
    )
    (repository / "model.py").write_text(MODEL[: MODEL.index("def loss_function")])
    done = _run(repository.parent, "check", repository.name, "--device", "none", "--output-format", "json")
    (target,) = json.loads(done.stdout)["targets"]
    assert target["loss"] == {} and not any("beside" in note for note in target["notes"])


VIEWS = """
import torch
from torch import nn

class View(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x.view(self.size)

class VAE(nn.Module):
    def __init__(self, side=SIDE):
        super().__init__()
        self.side = side
        self.encoder = nn.Sequential(View((-1, self.side * self.side)), nn.Linear(FIRST, 4))
        self.decoder = nn.Sequential(nn.Linear(2, side * side), View((-1, 1, side, side)))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar
"""


def test_an_input_of_which_other_rows_come_is_not_proposed(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(VIEWS.replace("SIDE", "64").replace("FIRST", "int(str(side)) ** 2"))
    done = commandline.vaelint("discover", "model.py", cwd=tmp_path)
    assert 'input = "4x1x64x64"' in done.stdout, "4x3x32x32 runs, as three images of another size"


def test_sizes_that_a_constructor_keeps_are_read() -> None:
    node = next(n for n in ast.parse(VIEWS.replace("FIRST", "self.side * self.side")).body if getattr(n, "name", "") == "VAE")
    assert isinstance(node, ast.ClassDef) and ("features", 9) in first_layers(node, {}, {"side": 3})
