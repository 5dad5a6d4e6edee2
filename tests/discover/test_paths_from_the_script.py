"""A script whose paths are meant from its own folder is observed there."""

from __future__ import annotations

import json
from pathlib import Path

import commandline

from vaelint.discover.observing import _typed_there

TRAIN = """
import json

import torch
from torch import nn
from torch.nn import functional as F

settings = json.load(open("../settings.json"))


class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.encode, self.decode = nn.Linear(20, 2 * latent), nn.Linear(latent, 20)

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decode(z), mu, logvar


model = VAE(settings["latent"])
optimizer = torch.optim.Adam(model.parameters())
for x in torch.rand(20, 16, 20):
    logits, mu, logvar = model(x)
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    loss = (nll - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_it_is_started_in_its_own_folder_where_a_path_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train.py").write_text(TRAIN)
    (tmp_path / "settings.json").write_text('{"latent": 3}')
    done = commandline.vaelint("check", ".", "--output-format", "json", "--laws", "none", "--device", "none", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert (target["target"], target["status"]) == ("train/train.py:VAE", "clean"), done.stderr
    assert target["loss"]["beta"]["value"] == 1.0
    said = commandline.vaelint("discover", ".", cwd=tmp_path).stdout
    assert "cd train && vaelint run train.py" in said
    assert "run =" not in said  # a table's command runs in the folder of the configuration


def test_a_path_that_is_nowhere_is_named_as_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train.py").write_text(TRAIN)
    done = commandline.vaelint("check", ".", "--laws", "none", "--device", "none", cwd=tmp_path)
    assert "settings.json" in done.stderr
    assert "Traceback" not in done.stderr


REFUSES = """
import os

if not os.path.exists("../prepared/smd-train"):
    raise ValueError("Unknown data: {}".format("../prepared/smd-train"))
"""


def test_what_is_missing_is_named_from_the_folder_where_the_script_means_it(tmp_path: Path) -> None:
    (tmp_path / "repository" / "train").mkdir(parents=True)
    (tmp_path / "repository" / "README.md").write_text("cd train\n\n    python train.py --data ../prepared/smd-train\n")
    takes = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--data', required=True)\np.parse_args()\n"
    (tmp_path / "repository" / "train" / "train.py").write_text(takes + REFUSES + TRAIN)
    done = commandline.vaelint("check", ".", cwd=tmp_path / "repository")
    said = " ".join(done.stderr.split())
    assert "the script looks into prepared/smd-train, which is not there (train/train.py:8): it raises ValueError: Unknown data" in said, (
        said
    )
    assert "help: put your data, the folder prepared, there, or name another place" in said


def test_the_deeper_cause_is_said_where_a_path_is_there_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "sizes.yaml").write_text("latent: 3")
    reads = "import torch\nopen('sizes.yaml').read()\nopen('weights.yaml').read()\ntorch.zeros(1).backward()\n"
    (tmp_path / "train" / "train.py").write_text(f"{reads}if __name__ == '__main__':\n    pass\n")
    done = commandline.vaelint("check", ".", cwd=tmp_path)
    said = " ".join(done.stderr.split())
    assert "the script reads train/weights.yaml, which is not there (train/train.py:3)" in said, said


def test_what_is_to_be_typed_names_the_folder() -> None:
    more = "give it more time: vaelint run --timeout 180 train.py"
    assert _typed_there(more, "train") == "give it more time: cd train && vaelint run --timeout 180 train.py"
    assert _typed_there(more, "") == more
    assert _typed_there("cd train && vaelint run train.py", "train") == "cd train && vaelint run train.py"
    assert _typed_there("pip install h5py", "train") == "pip install h5py"
