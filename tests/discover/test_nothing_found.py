"""A folder without a VAE: what is missing in it is said, where that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint.config.closure import imported_by
from vaelint.discover.argparse_options import options_of
from vaelint.discover.entries import entries
from vaelint.discover.guessed_options import guesses, unset_numbers
from vaelint.discover.not_there import why_none
from vaelint.discover.sources import tree_of

MAIN = "from builder import build\nif __name__ == '__main__':\n    build().train()\n"
BUILDER = "import torch\nfrom no_such_trainer.base import Trainer\nimport wandb\ndef build():\n    return Trainer()\n"
GRAPH = "import tensorflow.compat.v1 as tf\nx = tf.placeholder(tf.float32)\ntf.Session().run(tf.train.Adam().minimize(x))\n"


def test_a_script_whose_trainer_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.py").write_text("import torch\nif __name__ == '__main__':\n    print(1)\n")
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "builder.py").write_text(BUILDER)
    told, type_this = why_none(tmp_path)
    assert told == "main.py cannot start here: no_such_trainer is not there" and type_this.endswith("vaelint run main.py")
    (tmp_path / "no_such_trainer").mkdir()
    assert why_none(tmp_path) == ("", "")
    (tmp_path / "no_such_trainer").rmdir()
    (tmp_path / "lib" / "training").mkdir(parents=True)
    (tmp_path / "lib" / "training" / "no_such_trainer.py").touch()  # which the script may put on Python's path
    assert why_none(tmp_path) == ("", "")


def test_graphs_of_tensorflow_1_are_no_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(GRAPH + "if __name__ == '__main__':\n    pass\n")
    assert not entries(tmp_path, tmp_path)
    assert why_none(tmp_path)[0].startswith("train.py builds a graph of TensorFlow 1")
    (tmp_path / "main.py").write_text("import train\nimport torch\nif __name__ == '__main__':\n    torch.zeros(1).backward()\n")
    assert [e.words for e in entries(tmp_path, tmp_path)] == [("main.py",)]  # though it imports a graph
    (tmp_path / "train.py").write_text("import tensorflow as tf\nif __name__ == '__main__':\n    tf.Model().fit()\n")
    assert ("train.py",) in [e.words for e in entries(tmp_path, tmp_path)]


def test_whole_numbers_without_a_value_get_a_small_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "p.add_argument('--epochs', type=int)\np.add_argument('--seed', type=int, default=None)\np.add_argument('--name')\n"
    )
    trees = [t for t in map(tree_of, imported_by(tmp_path / "train.py")) if t is not None]
    assert unset_numbers(trees) == ("--epochs", "2")


def test_a_shell_script_names_a_training_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nif __name__ == '__main__':\n    torch.zeros(1).backward()\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "digits.sh").write_text(
        '#!/bin/sh\nsource env.sh\npython3 ../train.py\\\n    --dataset="digits"\\\n    --lr=0.1\\\n'
    )
    (tmp_path / "run" / "other.sh").write_text("python3 ../../elsewhere.py\n")
    (entry,) = entries(tmp_path, tmp_path)
    assert entry.told == (("train.py", "--dataset=digits", "--lr=0.1"),)


def test_a_path_to_nowhere_is_no_command_and_what_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse, torch\np = argparse.ArgumentParser()\np.add_argument('params_json')\np.add_argument('table')\n"
        "if __name__ == '__main__':\n    torch.zeros(1).backward()\n"
    )
    (tmp_path / "README.md").write_text("    python train.py /path/to/params.json your-table.csv\n")
    (entry,) = entries(tmp_path, tmp_path)
    assert (entry.told, entry.command) == ((), "train.py PARAMS_JSON TABLE")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.json").write_text("{}")
    assert guesses(next(options_of([tree_of(tmp_path / "train.py")])), [], tmp_path) == ["configs/small.json"]  # type: ignore[list-item]
