"""What is said of a script that lacks a module or a file of its own: never to install a folder of the repository."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import commandline
import pytest

from vaelint.discover.entries import entries
from vaelint.pipeline.script_errors import said_of

WALKS = """import glob
import torch

files = sorted(glob.glob("data/*.xyz"))
first = files[0]
torch.nn.Linear(2, 2)(torch.zeros(2)).sum().backward()
"""


def test_a_module_that_the_repository_lacks_is_not_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "zoo_of_vaes"
    package.mkdir()
    (package / "__init__.py").write_text("from .base import Base\nfrom .gamma_vae import GammaVAE\n")
    (package / "base.py").write_text("class Base: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module("zoo_of_vaes")
    assert said_of(raised.value) == (
        "zoo_of_vaes.gamma_vae is imported, which the repository does not have",
        "add the file, or take the import out",
    )
    sys.modules.pop("zoo_of_vaes.base")


def test_a_package_that_is_absent_is_to_be_installed() -> None:
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module("no_such_package_of_vaes.layers")
    assert said_of(raised.value)[1] == "pip install no_such_package_of_vaes"


def test_a_message_within_a_frame_of_asterisks_is_read() -> None:
    line = "*" * 60
    said, help = said_of(LookupError(f"\n{line}\n  Resource 'stopwords' not found.  Please use the NLTK\n  Downloader\n{line}\n"))
    assert said == "the script raises LookupError: Resource 'stopwords' not found.  Please use the NLTK"
    assert help == "python -m nltk.downloader stopwords"


def test_a_folder_that_is_not_there_is_named_before_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WALKS)
    done = commandline.vaelint("run", "train.py", cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert "the script looks into data, which is not there (train.py:4): it raises IndexError" in said, done.stdout
    assert "help: put data there" in said


def test_a_file_that_the_script_looks_for_itself_is_to_be_put_there() -> None:
    said, help = said_of(FileNotFoundError("could not find library.mat"))
    assert said == "the script raises FileNotFoundError: could not find library.mat" and help.startswith("put it there")


LOGGER = """
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
print(pl.Trainer(logger=TensorBoardLogger(".")))
"""


@pytest.mark.skipif(importlib.util.find_spec("pytorch_lightning") is not None, reason="it is installed here")
def test_lightning_that_is_not_installed_is_to_be_installed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOGGER)
    done = commandline.vaelint("run", "train.py", cwd=tmp_path)
    assert "the package pytorch_lightning is not installed here" in done.stdout, done.stdout


OLDER = """
import torch
from torch import nn
from torch._six import inf, string_classes

assert isinstance("text", string_classes)
model = nn.Linear(6, 6)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
slower = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, verbose=True)
steps = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5, -1, True)
best = inf
for x in torch.utils.data.DataLoader(torch.randn(120, 6), batch_size=12):
    mu = model(x)
    loss = ((mu + torch.randn_like(mu) - x) ** 2).sum() + 0.5 * (mu**2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    slower.step(min(best, loss.item()))
    steps.step()
"""


def test_what_an_older_pytorch_took_is_taken(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OLDER)
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "this PyTorch's ReduceLROnPlateau knows no verbose: left out (train.py:9)" in said, said
    assert "this PyTorch's StepLR knows no verbose: left out (train.py:10)" in said
    assert "this PyTorch has no torch._six: the script got string_classes (train.py:4)" in said


LOGS = """
import logging
import torch
from torch import nn
import cv2

logging.basicConfig(filename="logger/of_today.log", level=logging.INFO)
rows = [[float(n) for n in line.split()] for line in open("data/train.txt")]
image = cv2.imread("data/none.png") if not rows else None
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for x in torch.utils.data.DataLoader(torch.tensor(rows), batch_size=12):
    mu = model(x)
    loss = ((mu + torch.randn_like(mu) - x) ** 2).sum() + 0.5 * (mu**2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.skipif(importlib.util.find_spec("cv2") is not None, reason="it is installed here")
def test_a_log_in_no_folder_and_another_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOGS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.txt").write_text("0.1 0.2 0.3 0.4\n" * 60)
    (tmp_path / "data" / "train.log").write_text("0.1")
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "note: observed: train.py" in said, said
    assert "into the folder logger, which is not there: Python would raise FileNotFoundError (train.py:7)" in said
    assert "made-up data instead of data/train.txt: a copy of data/val.txt (train.py:8)" in said


def test_a_module_may_lie_in_a_folder_that_the_repository_has_not_kept(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys\nsys.path.insert(0, 'OtherCode')\nfrom no_such_helpers import data\nprint(data + 1)\n")
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "no_such_helpers is not installed here, nor is there OtherCode, where the script looks for modules" in said, said
    assert "help: put OtherCode there, or pip install no_such_helpers" in said


def test_a_name_without_a_value_is_no_matter_of_data(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nx = torch.load('data/x.pt')['images']\nprint(loss_of(x))\n")
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "the script raises NameError: name 'loss_of' is not defined" in said, said
    assert "put your data" not in said


def test_one_of_the_subcommands_is_to_be_typed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('what', choices=['fit', 'test'])\np.parse_args()\n"
    )
    said = " ".join(commandline.vaelint("run", "train.py", "data", cwd=tmp_path).stdout.split())
    assert "invalid choice: 'data'" in said and "help: vaelint run train.py fit" in said, said


def test_smaller_batches_are_no_help_where_none_was_seen(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\nimport torch\nfor i in range(1000):\n    time.sleep(0.1)\n")
    said = " ".join(commandline.vaelint("run", "--timeout", "4", "train.py", cwd=tmp_path).stdout.split())
    assert "was over, before its first batch" in said, said
    assert "help: give it more time: vaelint run --timeout" in said and "--rows" not in said


def test_what_git_lfs_has_left_is_to_be_pulled(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import zipfile\nimport torch\nprint(zipfile.ZipFile('data.zip').namelist())\n")
    (tmp_path / "data.zip").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44190741\n")
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "the script reads data.zip, of which Git LFS has left only a pointer here (train.py:3): it raises BadZipFile" in said, said
    assert "help: git lfs pull" in said


def test_a_file_with_the_name_of_its_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = tmp_path / "zoo_of_models"
    zoo.mkdir()
    (zoo / "zoo_of_models.py").write_text("class Model: ...\n")
    (zoo / "train.py").write_text("import torch\nfrom zoo_of_models.parts import loss\ntorch.zeros(1).backward()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(zoo))
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module("zoo_of_models.parts")
    said, help = said_of(raised.value)
    assert said == "zoo_of_models.parts is imported, and zoo_of_models is zoo_of_models/zoo_of_models.py here"
    assert help.endswith("vaelint run -m PACKAGE.MODULE")
    assert entries(tmp_path, tmp_path)[0].words == ("-m", "zoo_of_models.train")
    sys.modules.pop("zoo_of_models")


def test_a_module_that_only_prints_starts_nothing(tmp_path: Path) -> None:
    text = "import torch\nprint(torch.__version__)\n\n\ndef train(model):\n    model().backward()\n"
    (tmp_path / "losses.py").write_text(text)
    assert entries(tmp_path, tmp_path) == []
    (tmp_path / "losses.py").write_text(text + "\n\ntrain(torch.nn.Linear(1, 1))\n")
    assert [e.words for e in entries(tmp_path, tmp_path)] == [("losses.py",)]
