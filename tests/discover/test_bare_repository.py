"""`vaelint check .` in a repository as it was published: data are not there, and nothing is said of how it is started."""

from __future__ import annotations

from pathlib import Path

import commandline
import pytest
import torch

from vaelint.trace.spans import SpanFinder
from vaelint.trace.standin import InsteadOfCuda

MODEL = """\
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.encode, self.decode = nn.Linear(width, 8), nn.Linear(4, width)

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, dim=1)
        recon = self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()


def fit(rows):
    model = VAE(rows.shape[1])
    optimizer = torch.optim.Adam(model.parameters())
    for x in torch.utils.data.DataLoader(rows, batch_size=10):
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
"""


def _checked(folder: Path, files: dict[str, str]) -> str:
    """What a check says of a repository of these files, in one line; the folder stays as it was."""
    for name, text in {"zoo.py": MODEL, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    done = commandline.vaelint("check", ".", "--device", "none", "--laws", "none", "--no-cache", cwd=folder)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before
    return " ".join(f"{done.stdout} {done.stderr}".split())


TABLE = """\
import csv

import torch
from zoo import fit

with open("data/patients.csv") as file:
    rows = list(csv.DictReader(file))
known = [row for row in rows if row["diagnosis"] == "1"]
values = torch.tensor([[float(v) for k, v in row.items() if k != "diagnosis"] for row in known])
"""


def test_a_table_that_is_not_there_has_the_columns_that_the_code_names(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"train.py": f"{TABLE}fit(values)\n"})
    assert "observed: train.py; the loss is what zoo.py:21 calls backward() on" in said, said
    assert "made-up data instead of data/patients.csv: 300 rows of 9 columns (train.py:6)" in said


def test_a_script_that_cannot_do_with_the_made_up_table_is_told_that_the_file_is_not_there(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"train.py": f"{TABLE}fit(values.view(-1, 977))\n"})
    assert "the script reads data/patients.csv, which is not there (train.py:6); with made-up data in its place it raises" in said, said
    assert "put your data, the folder data, there, or name another place with the script's options" in said


def test_a_table_that_the_script_can_do_without_is_not_made_up(tmp_path: Path) -> None:
    script = """\
import torch
from zoo import fit

try:
    rows = open("cache.csv").read()
except FileNotFoundError:
    rows = torch.rand(60, 12)
fit(rows)
"""
    said = _checked(tmp_path, {"train.py": script})
    assert "observed: train.py" in said and "made-up" not in said, said


COMMANDS = """\
import argparse

import torch
from zoo import fit


def train(args):
    words = [line.strip() for line in open(args.vocabulary_file)]
    with open(args.train_file) as file:
        lines = [line.split() for line in file]
    rows = torch.zeros(len(lines), len(words))
    for row, line in enumerate(lines):
        for word in line:
            rows[row, words.index(word)] = 1.0
        rows[row, words.index("<eos>")] = 1.0
    fit(rows)


def score(args):
    print(args.checkpoint)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    scoring = commands.add_parser("score")
    scoring.set_defaults(func=score)
    scoring.add_argument("--checkpoint", required=True)
    learning = commands.add_parser("learn")
    learning.set_defaults(func=train)
    learning.add_argument("--train_file", required=True)
    learning.add_argument("--vocabulary_file", required=True)
    args = parser.parse_args()
    args.func(args)


if __name__ == "__main__":
    main()
"""


def test_of_several_commands_the_one_that_trains_is_started_with_texts_that_are_made_up(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"main.py": COMMANDS.replace("    fit(rows)", "    fit(rows)\n    rows.sum().backward")})
    assert "observed: main.py learn --train_file train_file.txt --vocabulary_file vocabulary_file.txt" in said, said
    assert "300 sentences" in said and "--checkpoint" not in said


def test_a_script_that_imports_from_above_is_not_told_to_install_its_own_folder(tmp_path: Path) -> None:
    script = """\
import argparse
import json

from src.models import fit

parser = argparse.ArgumentParser()
parser.add_argument("--config", default="configs/config.json")
sizes = json.load(open(parser.parse_args().config))
if __name__ == "__main__":
    fit(json.load(open(sizes["rows"])))
"""
    files = {
        "src/models.py": MODEL,
        "src/__init__.py": "",
        "src/pipelines/train.py": script,
        "configs/small.json": '{"rows": "settings.json"}',
    }
    said = _checked(tmp_path, files)
    assert "--config configs/small.json: the script reads settings.json, which is not there" in said and "pip install" not in said, said


def test_the_configuration_that_holds_what_the_code_looks_up_is_chosen(tmp_path: Path) -> None:
    script = """\
import argparse
import json

import torch
from zoo import fit

parser = argparse.ArgumentParser()
parser.add_argument("-c", "--config", default=None, type=str)
given = parser.parse_args().config
assert given is not None, "a configuration has to be named"
config = json.load(open(given))
fit(torch.rand(config["rows"], config["width"]))
"""
    files = {"train.py": script, "configs/train_log.json": '{"version": 1}', "configs/b.json": '{"rows": 60, "width": 12}'}
    assert "observed: train.py --config configs/b.json" in (said := _checked(tmp_path, files)), said


def test_a_path_that_the_script_asked_for_is_named_where_its_own_error_does_not(tmp_path: Path) -> None:
    script = """\
import json
import os

import torch
from zoo import fit

if not os.path.exists("data/config.json"):
    raise FileNotFoundError("sizes were not found")
fit(torch.zeros(json.load(open("data/config.json"))))
"""
    said = _checked(tmp_path, {"train.py": script})
    assert "the script looks for data/config.json, which is not there (train.py:7): it raises FileNotFoundError" in said, said


@pytest.mark.parametrize("imports", ["from aim import Run\nfrom aim.sdk.reporter import Reporter", "from chainer import dataset"])
def test_packages_that_the_training_does_without_may_be_absent(tmp_path: Path, imports: str) -> None:
    said = _checked(tmp_path, {"train.py": f"import torch\n{imports}\nfrom zoo import fit\nfit(torch.rand(60, 12))\n"})
    assert ("observed: train.py" in said and "aim" in said) or "chainer" in said, said


def test_commands_of_texts_may_have_blanks_behind_the_backslash_and_lie_in_other_folders(tmp_path: Path) -> None:
    script = """\
import sys

import torch
from zoo import fit

fit(torch.rand(60, int(sys.argv[1]) * int(sys.argv[2])))
"""
    files = {"vae/train.py": script, "vae/zoo.py": MODEL, "vae/README.md": "```\npython train.py 3 \\ \n  4\n```\n"}
    assert "observed: vae/train.py 3 4" in (said := _checked(tmp_path, files)), said


PICTURES = """\
import os

import torch
from torchvision import transforms
from PIL import Image
from zoo import VAE


class Scans(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.files = [os.path.join(folder, name) for name in os.listdir(folder)]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        # image = Image.open(self.files[i]).resize((28, 28))
        return transforms.ToTensor()(Image.open(self.files[i]))


model = VAE(20 * 30)
optimizer = torch.optim.Adam(model.parameters())
for x in torch.utils.data.DataLoader(Scans("scans"), batch_size=8):
    optimizer.zero_grad()
    model(x.view(-1, 1, 20, 30).flatten(1)).backward()
    optimizer.step()
"""


def test_images_have_the_shape_that_the_code_writes_out(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"train.py": PICTURES})
    assert "300 made-up images instead of the folder scans, of 1x20x30" in said and "observed: train.py" in said, said


DETECTOR = """\
import torch
from zoo import VAE


class Detector:
    def __init__(self, rows):
        self.model = VAE(rows.shape[1])
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.train(rows)

    def train(self, rows):
        for x in torch.utils.data.DataLoader(rows, batch_size=10):
            self.optimizer.zero_grad()
            loss = self.model(x)
            loss.backward()
            self.optimizer.step()
"""


def test_a_constructor_that_trains_is_a_training(tmp_path: Path) -> None:
    files = {"detector.py": DETECTOR, "main.py": "import torch\nfrom detector import Detector\ndetector = Detector(torch.rand(60, 12))\n"}
    assert "observed: main.py; the loss is what detector.py:15 calls" in (said := _checked(tmp_path, files)), said


RECURRENT = """\
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, input_size, hidden_size, latent_size):
        super().__init__()
        self.read = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.mu, self.logvar = nn.Linear(hidden_size, latent_size), nn.Linear(hidden_size, latent_size)
        self.write = nn.Linear(latent_size, input_size)

    def forward(self, x):
        states, _ = self.read(x)
        mu, logvar = self.mu(states), self.logvar(states)
        return self.write(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar
"""


def test_a_recurrent_layer_is_tried_with_steps_and_not_with_a_batch_of_rows(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"zoo.py": RECURRENT})
    assert "VAE104" not in said and "4x12x8" in said, said


def test_where_a_script_left_is_said(tmp_path: Path) -> None:
    script = f"{MODEL}\n\nif VAE(3).decode is not None:\n    exit()\nfit(torch.rand(60, 12))\n"
    said = _checked(tmp_path, {"train.py": script})
    assert "it ended with sys.exit() at train.py:26 and never called backward()" in said, said


SHUFFLED = """\
import torch
from zoo import VAE

rows, masked = torch.rand(50, 12), torch.rand(50, 12)
model = VAE(12)
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(9):
    order = torch.randperm(50)
    for i in range(0, 50, 200):
        x, whole = masked[order[i : i + 200]], rows[order[i : i + 200]]
        optimizer.zero_grad()
        mu, logvar = model.encode(x).chunk(2, dim=1)
        recon = model.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        loss = (recon - whole).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        loss.backward()
        optimizer.step()
"""


def test_what_a_shuffle_takes_out_of_the_data_is_a_target(tmp_path: Path) -> None:
    said = _checked(tmp_path, {"train.py": SHUFFLED})
    assert "reconstruction squared error sum over B" in said and "effective beta: 1" in said, said


def test_a_tracker_that_asks_a_server_is_held_back_though_it_is_installed(tmp_path: Path) -> None:
    tracker = "raise RuntimeError('no server')\n"
    script = "import torch\nfrom clearml import Task\nfrom zoo import fit\nTask.init(project_name='vae')\nfit(torch.rand(60, 12))\n"
    said = _checked(tmp_path, {"train.py": script, "site/clearml/__init__.py": tracker})
    assert "observed: train.py" in said and "clearml is held back, and does nothing here" in said, said


def test_modules_that_a_library_writes_while_it_is_watched_are_not_the_users(tmp_path: Path) -> None:
    spans = SpanFinder(str(tmp_path))
    assert spans.is_user(str(tmp_path / "model.py"))
    assert not spans.is_user("/tmp/vaelint-run-7/tmp/torch_geometric.nn.conv.gcn_conv.py")


def test_the_number_of_a_cpu_is_no_accelerator() -> None:
    with InsteadOfCuda():
        assert torch.device("cpu", 0).type == "cpu"


def test_a_package_that_is_called_otherwise_is_named(tmp_path: Path) -> None:
    script = "import torch\nfrom packaging.version import Version\nfrom zoo import fit\nVersion(1, 2)\nfit(torch.rand(60, 12))\n"
    assert "install the version of packaging that the script is written for" in (said := _checked(tmp_path, {"train.py": script})), said
