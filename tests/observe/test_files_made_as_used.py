"""Files that are not there: what the script takes out of them is in them, and an error tells how large it has to be."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
import pytest

MODEL = """import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, size, latent=4):
        super().__init__()
        self.encoder, self.heads = nn.Linear(size, 32), nn.Linear(32, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, size))

    def forward(self, x):
        mu, logvar = self.heads(F.relu(self.encoder(x))).chunk(2, -1)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


def train(x, size):
    model = VAE(size)
    optimizer = torch.optim.Adam(model.parameters())
    for (batch,) in DataLoader(TensorDataset(torch.as_tensor(x, dtype=torch.float32)), 32):
        made, mu, logvar = model(batch)
        kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
        loss = (F.mse_loss(made, batch, reduction="sum") + kl) / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""

READS = {
    "an array, of as many columns as the network takes": (
        "from numpy import load as bring\nx = bring('data/x.npy')\ntrain(x, 50)\n",
        "made-up data instead of data/x.npy: an array of 300x50 (train.py:3)",
    ),
    "an array that is reshaped": (
        "import numpy\nx = numpy.load('x.npy')\ntrain(x.reshape(-1, 28 * 28), 784)\n",
        "an array of 300x784",
    ),
    "an archive, whose arrays have the axes that are taken apart": (
        "import numpy as np\nd = np.load('d.npz')\nn, t, c = d['x_train'].shape\ntrain(d['x_train'].reshape(n, -1), 36)\n",
        "made-up data instead of d.npz: x_train",
    ),
    "a pickle, whatever the module is called": (
        "import pickle as brine\nwith open('d.pkl', 'rb') as f:\n    x, y = brine.load(f)\nassert len(x) == len(y)\ntrain(x, 21)\n",
        "made-up data instead of d.pkl: 2 parts",
    ),
    "tensors": ("x = torch.load('x.pt')['images']\ntrain(x.float().flatten(1), 30)\n", "made-up data instead of x.pt: images"),
    "a matrix of MATLAB": ("from scipy.io import loadmat\ntrain(loadmat('x.mat')['fea'], 18)\n", "made-up data instead of x.mat: fea"),
    "numbers in a text": ("import numpy as np\ntrain(np.loadtxt('x.dat'), 22)\n", "made-up data instead of x.dat: an array of 300x22"),
    "lines of JSON": (
        "import json\nrows = [json.loads(line)['vector'] for line in open('x.jsonl')]\n"
        "train(torch.stack([torch.tensor(r) for r in rows]), 12)\n",
        "made-up data instead of x.jsonl",
    ),
    "vectors of words": (
        "rows = []\nfor line in open('words.vec'):\n    word, *numbers = line.split()\n    rows.append([float(n) for n in numbers])\n"
        "train(torch.tensor(rows), 25)\n",
        "made-up data instead of words.vec",
    ),
    "a folder of arrays": (
        "import glob\nimport numpy as np\nfiles = sorted(glob.glob('scans/*.npy'))\ntrain(np.stack([np.load(f) for f in files]), 19)\n",
        "made-up data instead of the folder scans: 60 files that end in .npy",
    ),
    "a folder of folders, one for each class": (
        "import glob, os\nimport numpy as np\nkinds = sorted(os.listdir('sounds'))\n"
        "files = [f for kind in kinds for f in glob.glob(os.path.join('sounds', kind, '*.npy'))]\n"
        "train(np.stack([np.load(f) for f in files]), 23)\n",
        "made-up data instead of the folder sounds: 60 files that end in .npy",
    ),
    "a table, by columns that are only known when it runs": (
        "import pandas as pd\nnames = {'a': 'Income', 'b': 'Age'}\ntrain(pd.read_csv('x.csv')[list(names.values())].values, 2)\n",
        "made-up data instead of x.csv",
    ),
    "two parts of one data set, neither of which is there": (
        "import pickle\nparts = [pickle.load(open(f'data/set_{part}.pkl', 'rb')) for part in ('train', 'valid')]\n"
        "assert len(parts) == 2\ntrain(torch.cat([torch.as_tensor(p).float() for p in parts]), 14)\n",
        "made-up data instead of data/set_valid.pkl: an array of 300x14",
    ),
    "images whose channels come last": (
        "import numpy as np\nx = np.load('x.npy')\nx = np.transpose(x, [0, 3, 1, 2])\n"
        "x = torch.nn.Conv2d(3, 1, 5, 3)(torch.as_tensor(x).float()).detach()\ntrain(x.flatten(1), 400)\n",
        "made-up data instead of x.npy: an array of 300x64x64x3 (train.py:3)",
    ),
    "an assertion about data": (
        "import numpy as np\nx, rows = np.load('x.npy'), np.load('rows.npy')\nassert len(rows) == 12345 - 1\ntrain(x, 10)\n",
        "train.py:4 asserts what made-up data do not meet, which was passed over",
    ),
}


def run(folder: Path, script: str, *options: str) -> str:
    """What the run says, in one line."""
    (folder / "model.py").write_text(MODEL)
    (folder / "train.py").write_text(f"from model import train, torch\n{script}")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = commandline.vaelint("run", "--device", "none", *options, "train.py", cwd=folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("case", READS)
def test_what_is_not_there_is_made_up_as_the_script_uses_it(tmp_path: Path, case: str) -> None:
    for package in ("scipy", "pandas"):
        if package in READS[case][0]:
            pytest.importorskip(package)
    said = run(tmp_path, READS[case][0])
    assert "observed: train.py; the loss is what model.py:26 calls backward() on" in said, said
    assert READS[case][1] in said, said


PUBLIC = "import csv\nrows = list(csv.DictReader(open('250k_rndm_zinc_drugs_clean_3.csv')))\n"


def test_a_public_data_set_has_fewer_rows_than_the_script_may_know(tmp_path: Path) -> None:
    said = run(tmp_path, PUBLIC + "assert len(rows) == 249455\ntrain(torch.rand(len(rows), 8), 8)\n")
    assert "observed: train.py" in said, said
    assert "train.py:4 asserts what made-up data do not meet, which was passed over" in said
    said = run(tmp_path, PUBLIC + "print(rows[200000])\ntrain(torch.rand(len(rows), 8), 8)\n")
    assert "the script reads 250k_rndm_zinc_drugs_clean_3.csv, which is not there (train.py:3); with made-up data in its place" in said
    assert "help: put 250k_rndm_zinc_drugs_clean_3.csv there" in said


def test_weights_that_are_not_there_leave_a_network_as_it_was_made(tmp_path: Path) -> None:
    script = (
        "from model import VAE\nstate = torch.load('runs/best.pth', map_location='cpu')\n"
        "old = VAE(8)\nold.load_state_dict(state['model'])\n"
        "train(old(torch.rand(300, 8))[0].detach(), 8)\n"
    )
    said = run(tmp_path, script)
    assert "observed: train.py" in said, said
    assert "runs/best.pth is not there: the network keeps the weights that it was made with (train.py:3)" in said


def test_what_cannot_be_known_is_named(tmp_path: Path) -> None:
    said = run(tmp_path, "net = torch.load('whole.pt')\ntrain(net(torch.rand(300, 8)), 8)\n")
    assert "the script reads whole.pt, which is not there (train.py:2)" in said, said
    assert "made-up data'" not in said


def test_settings_are_no_data(tmp_path: Path) -> None:
    script = "import json\nsizes = json.load(open('config.json'))\ntrain(torch.rand(300, sizes['x']), sizes['x'])\n"
    said = run(tmp_path, script)
    assert "the script reads config.json, which is not there" in said, said


def test_settings_are_kept_where_the_package_is_not_installed(tmp_path: Path) -> None:
    script = "import wandb\nwandb.init(config={'size': 9})\ntrain(torch.rand(300, wandb.config.size), wandb.config['size'])\n"
    assert "observed: train.py" in run(tmp_path, script)


def test_a_question_is_answered(tmp_path: Path) -> None:
    said = run(tmp_path, "kind = int(input('1 for small: '))\ntrain(torch.rand(300, 8 * kind), 8 * kind)\n")
    assert "observed: train.py" in said, said
    assert "asked '1 for small:', vaelint answered '1'" in said


def test_nothing_is_made_up_where_the_script_wants_its_own(tmp_path: Path) -> None:
    said = run(tmp_path, "import numpy\ntrain(numpy.load('x.npy'), 8)\n", "--data", "real")
    assert "the script reads x.npy, which is not there" in said


def notebook(*cells: str) -> str:
    """A notebook of code cells, as Jupyter writes it."""
    code = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_a_cell_of_an_older_state_of_a_notebook_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "train.ipynb").write_text(
        notebook(MODEL, "for old in results_of_before:\n    print(old)\n", "train(torch.rand(300, 8), 8)")
    )
    said = " ".join(commandline.vaelint("run", "--device", "none", "train.ipynb", cwd=tmp_path).stdout.split())
    assert "observed: train.ipynb" in said, said
    assert "raises NameError: name 'results_of_before' is not defined; its cell was passed over" in said
    (tmp_path / "train.ipynb").write_text(notebook(MODEL, "train(rows_of_before, 8)\n", "print(1)"))
    said = " ".join(commandline.vaelint("run", "--device", "none", "train.ipynb", cwd=tmp_path).stdout.split())
    assert "the script raises NameError: name 'rows_of_before' is not defined" in said, said


def test_an_example_that_fails_stops_no_training(tmp_path: Path) -> None:
    read = "import pickle\nrolls = pickle.load(open('rolls.pkl', 'rb'))\n"
    sampled = "x = torch.stack([torch.as_tensor(r.todense()).float().mean(0) for r in rolls])\ntrain(x, x.shape[1])\n"
    (tmp_path / "train.ipynb").write_text(notebook(MODEL, read, "shown = rolls[814].todense()\nprint(shown)\n", sampled))
    said = " ".join(commandline.vaelint("run", "--device", "none", "train.ipynb", cwd=tmp_path).stdout.split())
    assert "observed: train.ipynb" in said and "its cell was passed over" in said, said


def test_a_cell_that_a_later_one_needs_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "train.ipynb").write_text(notebook(MODEL, "rate = 1 / 0\n", "print(rate)\ntrain(torch.rand(300, 8), 8)\n"))
    said = " ".join(commandline.vaelint("run", "--device", "none", "train.ipynb", cwd=tmp_path).stdout.split())
    assert "the script raises ZeroDivisionError" in said, said


def test_a_notebook_is_run_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src" / "sizes.py").write_text("DATA = 8\n")
    cells = (MODEL, "import sys\nsys.path.insert(0, '../src')\nfrom sizes import DATA\ntrain(torch.rand(300, DATA), DATA)\n")
    (tmp_path / "notebooks" / "train.ipynb").write_text(notebook(*cells))
    said = " ".join(commandline.vaelint("run", "--device", "none", "notebooks/train.ipynb", cwd=tmp_path).stdout.split())
    assert "observed: notebooks/train.ipynb" in said, said
    assert "sizes was imported from" not in said
