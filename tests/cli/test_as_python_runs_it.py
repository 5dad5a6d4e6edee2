"""What Python, Jupyter and torchrun take, `vaelint run` takes: a module with options, measured cells, a script for several processes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import commandline
import pytest

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        y = self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return F.mse_loss(y, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

def batches(**options):
    return torch.utils.data.DataLoader(torch.randn(96, 12), batch_size=16, **options)
"""
LOOP = """
for x in batches():
    optimizer.zero_grad()
    loss = model(x)
    loss.backward()
    optimizer.step()
"""
MADE = "from vae import *\nmodel = VAE()\noptimizer = torch.optim.Adam(model.parameters())\n"
PROCESSES = """
import os
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("nccl")
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
model = DistributedDataParallel(VAE().to(rank), device_ids=[rank])
optimizer = torch.optim.Adam(model.parameters())
torch.cuda.synchronize()
"""


def observed(folder: Path, *words: str) -> dict[str, object]:
    """The one target that is observed."""
    (folder / "vae.py").write_text(MODEL)
    done = commandline.vaelint("run", "--output-format", "json", *words, cwd=folder)
    (target,) = json.loads(done.stdout)["targets"]
    assert target["status"] == "clean" and target["loss"]["beta"]["value"] == 1, done.stdout
    return dict(target)


def test_options_after_a_module_are_the_modules(tmp_path: Path) -> None:
    script = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--steps', required=True)\nparser.parse_args()\n"
    (tmp_path / "train.py").write_text(MADE + script + LOOP)
    assert "observed: -m train --steps 3" in str(observed(tmp_path, "--steps", "4", "-m", "train", "--steps", "3")["notes"])


def test_a_script_for_several_processes_runs_where_there_is_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(MADE + PROCESSES + LOOP)
    observed(tmp_path, "train.py")


SOUNDS = """
import torchaudio
from torch import nn
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram, Resample

sounds = torchaudio.datasets.YESNO("data", download=True)
turn = nn.Sequential(Resample(8000, 4000), MelSpectrogram(4000, n_fft=256, n_mels=12), AmplitudeToDB())

def batches():
    rows = lambda items: torch.cat([turn(sound).mean(-1) / 100 for sound, rate, labels in items])
    return torch.utils.data.DataLoader(sounds, batch_size=8, collate_fn=rows)
"""


@pytest.mark.skipif(importlib.util.find_spec("torchaudio") is not None, reason="it is installed here")
def test_sounds_of_a_package_that_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(MADE + SOUNDS + LOOP)
    found = observed(tmp_path, "train.py")
    assert "made-up data instead of YESNO: 60 sounds of 50800 samples, 8000 a second" in str(found["notes"])
    assert "'D': 12" in str(found["symbols"])


def test_a_measured_cell_is_run_and_what_is_no_python_is_named(tmp_path: Path) -> None:
    cells = ["%matplotlib inline\n!pip install vae\n", f"%%time\n{MADE}", "%%bash\nls\n", LOOP]
    code = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text.splitlines(keepends=True)} for text in cells]
    (tmp_path / "train.ipynb").write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1))
    left = "not run, as they are not Python: cell 1: %matplotlib inline; cell 1: !pip install vae; cell 3: %%bash"
    assert left in str(observed(tmp_path, "train.ipynb")["notes"])


def test_a_script_that_goes_to_its_own_folder_is_named_as_it_lies(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    goes = "import os\n" + "os.chdir(os.path.dirname(os.path.abspath(__file__)))\n" * 2
    (tmp_path / "code" / "train.py").write_text(goes + MADE + LOOP)
    (tmp_path / "code" / "vae.py").write_text(MODEL)
    target = observed(tmp_path, "code/train.py")
    assert any("what code/train.py:11 calls backward() on" in note for note in target["notes"]), target  # type: ignore[attr-defined]
    (tmp_path / "code" / "train.py").write_text(goes + "import no_such_package_of_vaes\nno_such_package_of_vaes.run(0) + 1\n")
    done = commandline.vaelint("run", "code/train.py", cwd=tmp_path)
    assert "--> code/train.py:5" in done.stdout, done.stdout
