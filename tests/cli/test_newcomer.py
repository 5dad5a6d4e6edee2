"""What a newcomer types wrongly is answered by what to type, and what can be completed is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import commandline
import pytest
from typer.main import get_command

from vaelint.cli.app import app
from vaelint.cli.commands import EXAMPLES
from vaelint.config.file import Config
from vaelint.core.errors import UsageError
from vaelint.core.inputs import parse_input
from vaelint.core.result import Request
from vaelint.discover.folders import Crew, in_folders
from vaelint.pipeline.check import check_target
from vaelint.process.gate import Hired
from vaelint.source.target import parse_target

VAELINT = str(Path(sys.executable).parent / "vaelint")

DATA = Path(__file__).parents[1] / "data"


def said(*words: str, cwd: Path = DATA) -> str:
    """The error stream of a wrong command line."""
    done = commandline.vaelint(*words, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("32,784", "--input 32x784"),
        ("(32, 784)", "--input 32x784"),
        ("[32, 784]", "--input 32x784"),
        ("32 784", "--input 32x784"),
        ("32*784", "--input 32x784"),
        ("32X784", "--input 32x784"),
        ("x=(32, 1, 28, 28)", "--input x=32x1x28x28"),
        ("torch.rand(32, 784)", "--input 32x784"),
        ("foo", "--input foo=32x784"),
        ("images", "--input 32x784"),
    ],
)
def test_a_shape_written_in_another_way_is_given_as_it_is_typed(text: str, typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert typed in caught.value.help
    assert parse_input("B").symbols == ("B",) and parse_input("n@3").sizes == (3,) and parse_input("lengths=batch").symbols == ("batch",)


@pytest.mark.parametrize("target", ["train.py::VAE", "package.module::VAE", "train.py::VAE(latent_dim=2)"])
def test_two_colons_are_one_too_many(target: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(target)
    assert caught.value.help == f"write {target.replace('::', ':')}"


@pytest.mark.parametrize(
    ("word", "typed"),
    [("input=32x784", "--input 32x784"), ("device=none", "--device none"), ("output_format=json", "--output-format json")],
)
def test_a_word_of_python_is_given_as_an_option(word: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(word)
    assert caught.value.help == f"write {typed}"
    monkeypatch.chdir(tmp_path)
    with Hired(None) as hired, pytest.raises(UsageError, match="is not a target"):  # before the target in front of it is looked at
        in_folders(["model.py:VAE", word], Config(), Crew(hired, 1, None, lambda message, help: None))


def test_a_forgotten_command_is_named() -> None:
    assert "write vaelint check mlp_vae.py:VAE --input 32x784" in said("mlp_vae.py:VAE", "--input", "32x784")
    assert "vaelint check mlp_vae.py, or vaelint run mlp_vae.py" in said("mlp_vae.py")
    assert "write vaelint check ." in said(".")
    assert "Did you mean 'check'" in said("chekc")


def test_the_wrong_case_of_a_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    (found,) = check_target(Request("mlp_vae.py:vae", ("32x784",)), lambda message: None).findings
    assert found.help == "did you mean VAE?"


@pytest.mark.parametrize("file", ["mlp_vae.py", "vae_three_bugs.py"])
def test_a_wrong_type_is_mended_where_it_was_said(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    seen = check_target(Request(f"{file}:VAE", ("32x784:int64",), device="none"), lambda message: None)
    (found,) = [f for f in seen.findings if f.code == "VAE604"]
    assert "drop :int64 from --input" in found.help and ".to(torch.float32)" in found.help


def test_a_device_that_is_not_one_of_ours_is_answered() -> None:
    assert "write --device cuda" in said("check", "mlp_vae.py:VAE", "--input", "32x784", "--device", "gpu")


def test_each_command_has_an_example_that_its_parser_takes() -> None:
    group = get_command(app)
    commands = {name: c for name, c in group.commands.items() if name != "cache"}  # type: ignore[attr-defined]
    assert set(EXAMPLES) <= set(commands)
    for name, example in EXAMPLES.items():
        assert commands[name].epilog == f"Example: {example}"
        line = example.partition(" |")[0].split()
        assert line[:2] == ["vaelint", name]
        commands[name].make_context(name, line[2:], obj=None).close()
    assert EXAMPLES["check"] in str(group.epilog)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vaelint explain VAE20", {"VAE201", "VAE209"}),
        ("vaelint explain shared", {"shared-noise"}),
        ("vaelint check --select VAE2,VAE30", {"VAE2,VAE301"}),
        ("vaelint check --device ", {"auto", "cuda", "cpu", "none"}),
        ("vaelint check --laws f", {"fast"}),
        ("vaelint check --output-format s", {"sarif"}),
        ("vaelint trace --output-format s", {"svg"}),
        ("vaelint check mlp", {"mlp_vae.py", "mlp_vae.py:VAE"}),
        ("vaelint check mlp_vae.py : V", {"VAE"}),
    ],
)
def test_shells_complete_values_rules_and_targets(line: str, offered: set[str]) -> None:
    words = line.split(" ")
    env = {"_VAELINT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    assert offered <= set(commandline.vaelint(cwd=DATA, env=env).stdout.split())


def test_a_folder_of_ones_own_named_keras_is_not_taken_for_keras(tmp_path: Path) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("width = 784\n")
    (tmp_path / "m.py").write_text("from keras import width\n" + (DATA / "mlp_vae.py").read_text())
    done = commandline.vaelint("check", "m.py:VAE", "--input", "32x784", "--device", "none", cwd=tmp_path)
    assert (done.returncode, "no findings" in done.stdout) == (0, True), done.stderr


def test_bash_completes_a_class_behind_its_file(tmp_path: Path) -> None:
    """Through the script that `vaelint --show-completion` prints in bash; bash ends a word at each colon."""
    (tmp_path / "model.py").write_text("from torch import nn\n\n\nclass VAE(nn.Module): ...\n\n\nclass VQVAE(nn.Module): ...\n")
    asked = {**os.environ, "_VAELINT_COMPLETE": "source_bash"}  # --show-completion asks for the shell that it runs in
    script = subprocess.run([VAELINT], env=asked, capture_output=True, text=True, check=True).stdout

    def offered(*words: str) -> list[str]:
        given = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _vaelint_completion {VAELINT}"
        code = f'{script}\n{given}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    assert offered("vaelint", "check", "model.py", ":") == ["VAE", "VQVAE"]
    assert offered("vaelint", "check", "model.py", ":", "VQ") == ["VQVAE"]
