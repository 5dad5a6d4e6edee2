"""Options that a script cannot do without get the values that the repository's texts give them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import commandline
import pytest

from vaelint.discover.entries import commands_in, entries

OPTIONS = """
import argparse
import torch

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--task", required=True)
    p.add_argument("--kind", choices=["dense", "conv"], required=True)
    p.add_argument("--ckpt_dir", required=True)
    p.add_argument("--codes", type=int, required=True)
    p.add_argument("--rate", type=float, required=True)
    p.parse_args()
    torch.zeros(1).backward()
"""
README = """
    python train.py --task pick_up --kind <kind> \\
        --ckpt_dir <where to> --codes CODES --rate 1e-4

All options: `--kind other --codes 12`, or for evaluation `--kind conv --codes many`.
"""


def test_values_are_taken_from_texts_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(OPTIONS)
    assert entries(tmp_path, tmp_path)[0].lacks == ("--task", "--ckpt_dir", "--rate")
    (tmp_path / "README.md").write_text(README)
    given = dict(zip(*[iter(entries(tmp_path, tmp_path)[0].words[1:])] * 2, strict=True))
    assert given == {"--task": "pick_up", "--kind": "dense", "--ckpt_dir": "ckpt_dir", "--codes": "2", "--rate": "1e-4"}


SETTINGS = """
import configargparse
import torch
from torch import nn

def options():
    p = configargparse.ArgParser(default_config_files=["small.conf"])
    p.add("-c", "--config", is_config_file=True)
    group = p.add_argument_group("sizes")
    group.add("--codes", type=int, required=True)
    group.add_mutually_exclusive_group().add("--loud", action="store_true")
    p.add("--rates", type=float, nargs="+", default=[1.0])
    p.add("--where", env_var="NO_SUCH_PLACE", default="here")
    return p.parse_args()

if __name__ == "__main__":
    told = options()
    assert (told.codes, told.loud, told.rates, told.where) == (3, True, [0.1, 0.2], "here"), told
    enc, dec = nn.Linear(9, 2 * told.codes), nn.Linear(told.codes, 9)
    optimizer = torch.optim.SGD([*enc.parameters(), *dec.parameters()], lr=1e-3)
    for x in torch.utils.data.DataLoader(torch.randn(120, 9), batch_size=12):
        mu, logvar = enc(x).chunk(2, 1)
        y = dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
        loss = ((y - x).pow(2).sum(1) + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.skipif(importlib.util.find_spec("configargparse") is not None, reason="it is installed here")
def test_options_of_a_configuration_are_read_without_their_package(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETTINGS)
    (tmp_path / "small.conf").write_text("# small\ncodes = 3\nloud: true\nrates = [0.1, 0.2]\n")
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "effective beta: 1" in said and "configargparse is not installed, and is stood in for (train.py:2)" in said, said
    said = " ".join(commandline.vaelint("run", "train.py", "--codes", "4", cwd=tmp_path).stdout.split())
    assert "AssertionError: Namespace(" in said and "codes=4" in said, said


def test_a_line_of_options_goes_on_with_the_command_before_it() -> None:
    text = "```bash\npython3 train.py --data a.zip\n--codes b.zip --weight 0.1\n```\n\npython other.py\n--rate learning rate\n"
    assert list(commands_in(text)) == [["train.py", "--data", "a.zip", "--codes", "b.zip", "--weight", "0.1"], ["other.py"]]


def test_options_that_a_shell_fills_in_are_left_out() -> None:
    text = 'python train.py --train true --data=$HOME/corpus --out "${OUT}/a" --codes=4 "$@"\npython $SCRIPT --codes 4\n'
    assert list(commands_in(text)) == [["train.py", "--train", "true", "--codes=4"]]


def test_a_place_that_must_be_told_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'import argparse\nimport torch\np = argparse.ArgumentParser()\np.add_argument("output_path", type=str)\np.parse_args()\n'
    (tmp_path / "train.py").write_text(text + "torch.zeros(1).backward()\n")
    assert entries(tmp_path, tmp_path)[0].words == ("train.py", "output_path")
