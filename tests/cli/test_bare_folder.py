"""`vaelint check FOLDER` and nothing else said: which commands are tried, what is observed, and what is printed when."""

from __future__ import annotations

import ast
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import commandline
import pytest
from commandline import vaelint

from vaelint.cli.interrupts import EXIT_TERMINATED
from vaelint.core.checked import Checked
from vaelint.core.result import Request
from vaelint.discover.argparse_options import chosen_ways, compared_options, filled_options
from vaelint.discover.entries import entries
from vaelint.discover.guessed_options import guessed_ways, other_configurations
from vaelint.discover.observing import observed
from vaelint.discover.variants import variants
from vaelint.process.front import Worker

RUNS = Path(__file__).parents[1] / "data" / "runs"
OPTIONS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("--kind", required=True, choices=["dense", "conv"])
parser.add_argument("--latent", type=int, required=True)
parser.add_argument("--rate", required=True, default="0.1")
parser.add_argument("--dataset")
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()
if args.dataset in ["digits", "faces"]:
    pass
"""


def test_required_options_are_filled_with_what_argparse_is_told_of() -> None:
    trees = [ast.parse(OPTIONS)]
    assert filled_options(trees) == (("--kind", "dense", "--latent", "2", "--rate", "0.1"), ("name",))
    assert compared_options(trees) == ("--dataset", "digits")


def test_of_options_of_which_one_is_wanted_each_is_given_in_turn() -> None:
    code = "group = parser.add_mutually_exclusive_group(required=True)\n"
    code += "group.add_argument('--train', action='store_true')\ngroup.add_argument('--load', type=str)\n"
    assert chosen_ways([ast.parse(code + "group.add_argument('--steps', type=int)\n")]) == [("--train",), ("--steps", "2")]
    assert chosen_ways([ast.parse(OPTIONS)]) == [()]


def test_commands_of_texts_come_first_and_placeholders_are_no_commands(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\nif __name__ == '__main__':\n    torch.zeros(1, requires_grad=True).sum().backward()\n"
    )
    (tmp_path / "trees.py").write_text("import xgboost\nmodel = xgboost.XGBModel()\nmodel.fit()\n")
    lines = (
        "`python train.py <name>`",
        "python train.py --data [PATH]",
        "$ python train.py --epochs 3 > log.txt",
        "./train.py --flow a",
    )
    (tmp_path / "README.md").write_text("\n".join(lines))
    (found,) = entries(tmp_path, tmp_path)
    assert (found.words, *found.others) == (("train.py", "--epochs", "3"), ("train.py",), ("train.py", "--flow", "a"))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "train.py").rename(tmp_path / "jobs" / "fit.py")
    (tmp_path / "jobs" / "fit.py").write_text("from .data import x\n" + (tmp_path / "jobs" / "fit.py").read_text())
    (found,) = entries(tmp_path, tmp_path)
    assert found.words == ("-m", "jobs.fit")  # Python knows what is beside it as a module only


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ('if args.flow == "planar":\n    model = zoo.Planar(args)', ("t.py", "--flow", "none"), ("t.py", "--flow", "planar")),
        ('MODELS = {"a": Other, "b": Planar}\nmodel = MODELS[args.flow]()', ("t.py",), ("t.py", "--flow", "b")),
        ("model = getattr(zoo, args.flow)()", ("t.py", "--flow=Other"), ("t.py", "--flow=Planar")),
        (
            'KINDS = {"x": {"n": Other}, "y": {"n": Planar}}\nKINDS[args.data][args.flow]()',
            ("t.py",),
            ("t.py", "--data", "y", "--flow", "n"),
        ),
        ("model = Planar()", ("t.py",), None),
        ("", ("t.py", "--config", "configs/other.yaml"), ("t.py", "--config", "configs/planar.yaml")),
    ],
)
def test_options_by_which_a_script_chooses_a_class(
    tmp_path: Path, code: str, words: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("other", "planar"):
        (tmp_path / "configs" / f"{name}.yaml").write_text(f"model:\n  name: {name.capitalize()}\n")
    trees = [ast.parse(f'parser.add_argument("--flow", default="none")\nparser.add_argument("--data")\n{code}\n')]
    assert next(variants(words, "Planar", trees, tmp_path), None) == expected


def test_configurations_that_lie_in_the_repository_fill_options_and_stand_in_for_lost_ones(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("faces", "speech_small"):
        (tmp_path / "configs" / f"{name}.yaml").write_text("")
    asks = ast.parse('p.add_argument("--config", required=True)\np.add_argument("--run-name", required=True)')
    assert guessed_ways([asks], tmp_path) == [
        ("--config", f"configs/{n}.yaml", "--run-name", "run_name") for n in ("faces", "speech_small")
    ]
    lost = ast.parse('p.add_argument("-c", "--config", default="confgs/speech.yaml")')
    assert next(other_configurations(("t.py",), [lost], tmp_path)) == ("t.py", "--config", "configs/speech_small.yaml")
    named = ("t.py", "--config", "faces")  # it is there, and where it does not run another one may
    assert list(other_configurations(named, [lost], tmp_path)) == [("t.py", "--config", "speech_small")]
    assert guessed_ways([ast.parse('p.add_argument("--depth", required=True)')], tmp_path) == []


LARGE = """
import sys
import torch
from torch import nn

model = nn.Linear(6, 6)
for x in torch.utils.data.DataLoader(torch.rand(64, 4), batch_size=16):
    if len(x) > 4:
        raise MemoryError  # as where the batch does not fit
    mu, logvar, _ = model(torch.cat([x, x[:, :2]], 1)).chunk(3, dim=1)
    recon = nn.functional.pad(mu + torch.randn_like(mu) * (0.5 * logvar).exp(), (0, 2))
    loss = (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    loss.backward()
    torch.optim.SGD(model.parameters(), 1e-3).step()
"""


def test_what_is_too_large_for_this_machine_is_observed_with_a_few_rows_of_each_batch(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LARGE)
    done = commandline.vaelint("check", ".", "--device", "none", "--output-format", "json", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert "batches were cut to 4 rows of 16" in target["notes"] and target["status"] != "failed", done.stderr


TWO = """
import argparse
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--width", default="narrow")
args = parser.parse_args()


class Narrow(nn.Module):
    size = 8

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(12, self.size), nn.Linear(self.size // 2, 12)

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, dim=1)
        return self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


class Wide(Narrow):
    size = 16

    def forward(self, x):
        return super().forward(x)


model = {"narrow": Narrow, "wide": Wide}[args.width]()
KINDS = {"narrow": Narrow, "wide": Wide}
model = KINDS[args.width]()
optimizer = torch.optim.Adam(model.parameters())
for x in torch.utils.data.DataLoader(torch.rand(60, 12), batch_size=10):
    recon, mu, logvar = model(x)
    loss = nn.functional.mse_loss(recon, x, reduction="sum") / 2 - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    optimizer.zero_grad()
    loss.backward()  # here
    optimizer.step()
"""


def test_each_class_that_a_script_can_train_is_observed_once(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TWO)
    done = commandline.vaelint("check", ".", "--device", "none", "--output-format", "json", cwd=tmp_path)
    targets = {t["target"]: t["notes"][0] for t in json.loads(done.stdout)["targets"]}
    line = next(n for n, text in enumerate(TWO.splitlines(), 1) if "# here" in text)
    assert targets == {
        "train.py:Narrow": f"observed: train.py; the loss is what train.py:{line} calls backward() on",
        "train.py:Wide": f"observed: train.py --width wide; the loss is what train.py:{line} calls backward() on",
    }, done.stderr
    assert done.returncode == 0


def test_trainings_that_can_be_observed_are_proposed_as_commands_once(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TWO)
    words = ["discover", ".", "--write"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    assert done.returncode == 0 and "2 trainings observed" in done.stderr, done.stderr
    tables = tomllib.loads((tmp_path / "vaelint.toml").read_text())["targets"]
    assert tables == [{"run": "train.py"}, {"run": "train.py --width wide"}]
    again = commandline.vaelint(*words, cwd=tmp_path)
    assert "nothing to write: vaelint.toml has them all" in again.stderr
    assert tomllib.loads((tmp_path / "vaelint.toml").read_text())["targets"] == tables


def test_results_are_printed_as_they_come_and_kept_when_the_check_is_interrupted(tmp_path: Path) -> None:
    shutil.copy(RUNS / "train.py", tmp_path / "a.py")
    (tmp_path / "b.py").write_text(
        "import time\nimport torch\nif __name__ == '__main__':\n    time.sleep(600)\n    torch.ones(1).backward()\n"
    )
    words = [sys.executable, "-m", "vaelint", "check", ".", "--device", "none", "--jobs", "1"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background has it ignored
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        said = ""
        while "a.py:VAE: no findings" not in said:
            said += process.stdout.readline()
        process.send_signal(signal.SIGTERM)  # as `timeout` does, and a batch system
        error = process.stderr.read()
        assert process.wait(60) == EXIT_TERMINATED
    assert "interrupted: 1 result until then, and not all" in error and "Traceback" not in error


def test_packages_above_a_script_are_found_and_what_was_done_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("width = 4\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "blocks.py").write_text("depth = 2\n")
    body = (RUNS / "train.py").read_text()
    (tmp_path / "scripts" / "train.py").write_text(textwrap.dedent("from models import width\nfrom blocks import depth\n") + body)
    done = commandline.vaelint("run", "--device", "none", "--output-format", "json", "scripts/train.py", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert "models was imported from ., which is not on Python's path: PYTHONPATH=." in target["notes"], (target, done.stderr)
    assert "blocks was imported from model, which is not on Python's path: PYTHONPATH=model" in target["notes"]


def test_what_raises_after_its_first_step_has_shown_an_iteration(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TWO.replace("    optimizer.step()\n", "    optimizer.step()\n    print(loss.data[1])\n"))
    done = commandline.vaelint("run", "--device", "none", "--output-format", "json", "train.py", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert target["loss"]["terms"] and any(
        "the script raises IndexError" in n and "after the step of iteration 1" in n for n in target["notes"]
    )


def test_a_script_whose_name_has_no_ending_is_observed(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("#!/usr/bin/env python3\n" + TWO)
    (tmp_path / "README.md").write_text("    python train --width wide\n    python LICENSE --width narrow\n")
    (tmp_path / "LICENSE").write_text("A text that says backward.\n")
    (found,) = entries(tmp_path, tmp_path)
    assert found.words == ("train", "--width", "wide") and found.others == (("train",),)
    done = commandline.vaelint("check", "--device", "none", "--no-cache", "--output-format", "json", "train", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    names = [t["target"] for t in json.loads(done.stdout)["targets"]]
    assert "train:Wide" in names and all(n.startswith("train:") for n in names)


NAMED = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.enc, self.dec = nn.Linear(width, 4), nn.Linear(2, width)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        recon = self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
"""
TRAINS = """
import torch
from model import VAE

vae = VAE(10)
moves = torch.optim.SGD(vae.parameters(), 1e-3)
for x in torch.utils.data.DataLoader(torch.rand(64, 10), batch_size=16):
    moves.zero_grad()
    vae(x).backward()
    moves.step()
"""


def test_a_class_that_is_named_without_its_input_is_checked_as_within_its_folder(tmp_path: Path) -> None:
    def target() -> dict[str, Any]:
        done = vaelint("check", "model.py:VAE", "--device", "none", "--output-format", "json", cwd=tmp_path)
        (found,) = json.loads(done.stdout)["targets"]
        assert (done.returncode, found["status"]) == (0, "clean"), done.stderr
        return dict(found)

    (tmp_path / "model.py").write_text(NAMED)
    assert (target()["symbols"]["D"], target()["rung"]) == (6, "symbolic")
    (tmp_path / "train.py").write_text(TRAINS)
    assert 10 in target()["symbols"].values(), "the size that the training gives it"


WRITES = """
import os
import torch

with open("made.csv", "w") as file:
    file.write("1")
os.makedirs("out", exist_ok=True)
torch.save({}, "out/a.pt")
assert open("made.csv").read() == "1" and os.listdir("out") == ["a.pt"]
"""


def test_what_a_module_writes_when_it_is_imported_does_not_reach_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(WRITES + NAMED)
    done = vaelint("check", "model.py:VAE", "--device", "none", "--output-format", "json", cwd=tmp_path)
    (found,) = json.loads(done.stdout)["targets"]
    held = ["write made.csv (model.py:5)", "make the folder out (model.py:7)", "save out/a.pt (model.py:8)"]
    assert found["status"] == "clean" and [n for n in found["notes"] if n.startswith("held")] == [f"held back: {h}" for h in held]
    assert [p.name for p in tmp_path.iterdir()] == ["model.py"]


def test_a_command_of_the_readme_may_be_meant_for_a_folder_below(tmp_path: Path) -> None:
    for name in ("src/deep/train.py", "a/other.py", "b/other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{NAMED}\nif __name__ == '__main__':\n    VAE()(torch.ones(2, 6)).backward()\n")
    (tmp_path / "README.md").write_text("    cd src/deep\n    python train.py --width 3\n    python other.py --depth 2\n")
    assert [e.words for e in entries(tmp_path, tmp_path)] == [("src/deep/train.py", "--width", "3"), ("a/other.py",), ("b/other.py",)]


def test_what_runs_out_of_time_in_its_real_pass_alone_is_observed_with_a_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(TRAINS.replace("from model import VAE\n", NAMED))
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []

    def ask(requests: Sequence[Request]) -> list[Checked]:
        (request,) = requests
        asked.append(request.rows)
        result = worker.run(replace(request, device="none")).result
        result.confirm = {"outcome": "ran", "reason": None} if request.rows else {"outcome": "timed out", "reason": "not done within 90 s"}
        return [Checked(result, "", request)]

    with Worker() as worker:
        (tried,) = observed(entries(tmp_path, tmp_path), tmp_path, ask, [])
    assert tried.request is not None and (tried.request.rows, tried.classes, asked) == (4, frozenset({"VAE"}), [0, 4])
