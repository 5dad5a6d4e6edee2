"""`vaelint trace` of folders and scripts: trainings that are found there are observed, as `vaelint check` does."""

from __future__ import annotations

import shutil
from pathlib import Path

import commandline

DATA = Path(__file__).parents[1] / "data" / "runs"


def test_a_folder_is_traced_by_its_trainings_and_no_rule_is_said_to_be_clean(tmp_path: Path) -> None:
    for name in ("first.py", "second.py"):
        shutil.copy(DATA / "train.py", tmp_path / name)
    words = ["trace", ".", "--output-format", "text", "--output-format", f"html:{tmp_path / 'page.html'}"]
    done = commandline.vaelint(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: observed: first.py" in done.stdout and "└── loss" in done.stdout, done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "2 targets: 2 traced" in page and "2 clean" not in page


def test_a_script_without_a_training_or_a_model_is_said_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    done = commandline.vaelint("trace", "a.py", cwd=tmp_path)
    assert done.returncode == 2 and "no VAE is found in a.py" in done.stderr and "Traceback" not in done.stderr
