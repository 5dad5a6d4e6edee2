"""What a run does is said by its command line alone: a note of an earlier run decides no more than whether torch is started."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import LONG_AGO, command

from vaelint.cache import early
from vaelint.cache.folder import own
from vaelint.cache.key import made_key, signed
from vaelint.cli import commands
from vaelint.cli.quick import words_of
from vaelint.config.options import Options

DATA = Path(__file__).parents[1] / "data"
PLAIN = (
    """
m.py:VAE|a b||--input|32x784|--input=x=4x4|--init=a=1|--loss|f|--loss=|--step=loss = f(model(x))|--device|cpu|--timeout=3|--timeout|x
--perturb|--no-perturb|--select=VAE2|--ignore|VAE414|--extend-select=ALL|--output-format|json|--output-format=sarif:./a//b|--output-file=./x
--fail-on|error|--fail-on=never|--exit-zero|--baseline=k.json|--update-baseline|--prune-baseline|--add-ignore=r|--show-refuted|--color
--no-color|-v|--verbose|-j|2|-j2|--jobs=0|--jobs|3|--no-cache|--shard=1/2|--watch|--fix|--diff|--|-|--exit-zero=1|-vj2|--inpu|--no-such
--timings|--isolated
""".strip()
    .replace("\n", "|")
    .split("|")
)
FOUND: list[Options] = []
"""What the command line's library made of the words of each run."""


def noted(said: Options, early: object) -> int:
    FOUND.append(said)
    return 0


@functools.cache
def by_library(command: str) -> Any:
    """A command alone, as the library reads it."""
    app = typer.Typer()
    commands.command(app, command, noted, list)
    made = typer.main.get_command(app)
    made.context_class = typer.Context
    return made


def read_with_care(args: list[str], command: str = "check") -> Options | None:
    """What the command line's library makes of the words; None for a mistake."""
    FOUND.clear()
    try:
        by_library(command).main(args, prog_name=f"vaelint {command}", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - click's, which has no one base besides this
        assert hasattr(error, "exit_code")
    return FOUND[0] if FOUND else None


OTHERS = [*PLAIN, *["--depth=3", "--depth", "0", "--all", "--static", "--write", "--output-format=full", "./src/", "src//a", "x.py"]]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PLAIN), max_size=6))
def test_plain_words_are_read_as_the_library_reads_them(args: list[str]) -> None:
    quick = words_of(args)
    assert quick is None or quick == read_with_care(args)


@settings(deadline=None)
@given(st.sampled_from(("trace", "annotate", "config", "discover")), st.lists(st.sampled_from(OTHERS), max_size=4))
def test_plain_words_of_other_commands_are_read_as_the_library_reads_them(command: str, args: list[str]) -> None:
    quick = words_of(args, command)
    assert quick is None or quick == read_with_care(args, command)


def test_plain_words_of_each_command_that_runs_a_model_are_read_here() -> None:
    plain = ["m.py:VAE", "--input", "4x4"]
    assert all(words_of(plain, command) is not None for command in ("check", "trace", "annotate", "config"))
    assert words_of(["src//a"], "discover") == Options(path="src/a") and words_of([], "discover") == Options()


TOLD = [
    "VAE201",
    "shared-noise",
    "--output-format",
    "json",
    "--output-format=markdown",
    "--output-format=full",
    "xml",
    "--color",
    "--no-color",
    "--colour",
    "--",
    "--help",
]


@settings(deadline=None)
@given(st.sampled_from(("rules", "explain")), st.lists(st.sampled_from(TOLD), max_size=4))
def test_what_only_tells_something_is_read_as_the_library_reads_it(command: str, args: list[str]) -> None:
    quick = words_of(args, command)
    assert quick is None or quick == read_with_care(args, command)


def test_plain_words_of_what_only_tells_something_need_no_library() -> None:
    assert words_of(["--output-format", "json"], "rules") and words_of(["VAE201", "--no-color"], "explain")
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print({'typer', 'click', 'torch', 'pydantic'} & set(sys.modules)))\n"
        "from vaelint.__main__ import main; main()"
    )
    for words in (["--version"], ["rules"], ["explain", "VAE201"]):
        done = subprocess.run([sys.executable, "-P", "-c", code, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.endswith("set()\n"), (done.stdout[-300:], done.stderr)


def test_each_option_of_a_gate_is_read_without_the_library() -> None:
    plain = [
        "a.py:VAE",
        "--input",
        "4x4",
        "--init=a=1",
        "--fail-on",
        "error",
        "--baseline",
        "./k.json",
        "-j",
        "2",
        "--output-format=json",
        "-v",
    ]
    words = words_of(plain)
    assert words is not None
    assert (words.names, words.inputs, words.fail_on, words.baseline, words.jobs) == (["a.py:VAE"], ["4x4"], "error", "k.json", 2)


def test_a_variable_or_help_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(["--help"]) is None
    monkeypatch.setenv("VAELINT_OUTPUT_FORMAT", "json")
    assert words_of(["m.py:VAE"]) is None


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with bugs whose result is kept, in a home of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "repo").mkdir()
    shutil.copy(DATA / "vae_three_bugs.py", tmp_path / "repo" / "model.py")
    os.utime(tmp_path / "repo" / "model.py", LONG_AGO)
    return tmp_path / "repo"


CHECK = ("check", "model.py:VAE", "--input", "32x784", "--device", "none", "--fail-on", "error")


def test_an_unchanged_target_needs_neither_torch_nor_typer_and_a_note_says_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command(project, *CHECK)
    assert first.returncode == 1, first.stderr
    again = command(project, *CHECK, LACKS="torch typer rich pydantic")
    assert (again.returncode, again.stdout) == (1, first.stdout)
    in_json = command(project, *CHECK, VAELINT_OUTPUT_FORMAT="json", LACKS="torch")
    assert json.loads(in_json.stdout)["targets"], "a variable is part of what is said"
    notes = list(Path(own()).glob("last-*"))
    assert notes
    assert not [p for p in notes if b"model.py:VAE" in p.read_bytes() or b"fail" in p.read_bytes()], "no note holds a command line"
    forged = {"files": {}, "words": {"exit_zero": True, "targets": ["model.py:VAE"]}}
    for text in (json.dumps(forged), "", "[]", "\xff"):
        for note in notes:
            note.write_text(text)
        after = command(project, *CHECK, LACKS="torch")
        assert (after.returncode, after.stdout) == (1, first.stdout), text
    for note in notes:  # as by somebody who has the key
        note.write_bytes(signed(made_key(), note.name, json.dumps({"/": early._state("/")}).encode()))
    after = command(project, *CHECK, LACKS="torch typer")
    assert (after.returncode, after.stdout) == (1, first.stdout)


def test_no_note_is_sought_in_a_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    early.note(["check"], {str(project / "model.py"): (int(1e18), (project / "model.py").stat().st_size)})
    assert early.untouched(["check"])
    (note,) = Path(own()).glob("last-*")
    for folder in (project, project.parent):
        (folder / ".vaelint_cache").mkdir()
        shutil.copy(note, folder / ".vaelint_cache")
    note.unlink()
    assert not early.untouched(["check"])


def test_a_folder_that_others_may_write_is_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    early.note(["check"], {str(project / "model.py"): (int(1e18), (project / "model.py").stat().st_size)})
    Path(own()).chmod(0o777)
    assert not early.untouched(["check"])
    done = command(project, *CHECK)
    assert done.returncode == 1
    assert done.stderr == f"vaelint: results are not kept: {own()} may be written by others: chmod go-w {own()}\n"
