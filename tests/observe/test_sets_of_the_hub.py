"""What `datasets.load_dataset` brings: files of one's own as they are, sets of the hub made up where it cannot be reached."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import commandline
import pytest

from vaelint.observe.data.library_sets import library_data


def test_files_that_the_hubs_library_reads_are_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps what it makes of them in its cache, below the home folder, where a watched script writes nothing."""
    (tmp_path / "datasets.py").write_text(
        "def load_dataset(path, cache_dir=None, **how):\n    if cache_dir is None:\n        raise OSError(path)\n    return path, how\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    with library_data("auto", lambda what: None):
        module = importlib.import_module("datasets")
        assert module.load_dataset("imagefolder", data_dir="images") == ("imagefolder", {"data_dir": "images"})
        assert module.load_dataset(str(tmp_path))[0] == str(tmp_path)
        with pytest.raises(FileNotFoundError, match="this data set is not known"):
            module.load_dataset("someone/words", data_files="a.csv")
    sys.modules.pop("datasets", None)


HUB = """
import os
import torch
from datasets import load_dataset
from torch import nn

os.makedirs("runs/today", exist_ok=True)
os.chdir("runs/today")
rows = load_dataset("someone/molecules")["train"]["smiles"]
open("kept.txt", "w").write("\\n".join(rows))
assert open("../../known.txt").read() == "known" and open("kept.txt").read().count("\\n") == len(rows) - 1
model = nn.Linear(6, 6)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
numbers = torch.tensor([[ord(c) % 7 / 7 for c in row[:6].ljust(6)] for row in rows])
for x in torch.utils.data.DataLoader(numbers, batch_size=12):
    mu = model(x)
    loss = ((mu + torch.randn_like(mu) - x) ** 2).sum() + 0.5 * (mu**2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
HUBS_LIBRARY = """
class Dataset(dict):
    @staticmethod
    def from_dict(columns):
        return Dataset(columns)

DatasetDict = dict

def load_dataset(path, cache_dir=None):
    raise ConnectionError(path)
"""


def test_an_unknown_set_of_the_hub_has_the_columns_that_the_code_names(tmp_path: Path) -> None:
    """In a folder that the script makes and works in, from which its own files are found too."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "datasets.py").write_text(HUBS_LIBRARY)
    (tmp_path / "known.txt").write_text("known")
    (tmp_path / "train.py").write_text(HUB)
    done = commandline.vaelint("run", "train.py", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "lib")})
    said = " ".join(done.stdout.split())
    assert "made-up data instead of the hub's someone/molecules: 4000 rows of smiles (train.py:9)" in said, said
    assert "held back: write kept.txt" in said, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["known.txt", "lib", "train.py"]
