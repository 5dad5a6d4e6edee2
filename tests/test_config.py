"""`[tool.vaelint]`: what it may say, what is refused and how, and which targets a command line stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint import config
from vaelint.errors import UsageError
from vaelint.result import Request


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src" / "pkg").mkdir(parents=True)
    for name in ("vae.py", "layers.py", "pkg/net.py"):
        (tmp_path / "src" / name).write_text("class VAE: ...\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)


FULL = """
[tool.vaelint]
select = ["VAE2", "VAE4"]
ignore = "VAE414"
extend-select = ["VAE8"]
fail-on = "error"
timeout = 30
device = "none"

[[tool.vaelint.targets]]
target = "src/vae.py:VAE(latent_dim=20)"
input = "32x784"

[[tool.vaelint.targets]]
target = "pkg.net:VAE"
input = { x = "8x3x64x64:float32[0,1]", y = "8:int64[0,10)" }
init = { latent_dim = 16, name = "small", dims = [1, 2] }
loss = "train.py:loss_fn"
step = "loss = model(x)"
device = "cpu"
timeout = 5.5
"""


def test_everything_it_may_say(project: Path) -> None:
    write(project, FULL)
    told = config.load()
    assert (told.select, told.ignore, told.extend_select, told.fail_on) == (("VAE2", "VAE4"), ("VAE414",), ("VAE8",), "error")
    assert told.targets == (
        Request("src/vae.py:VAE(latent_dim=20)", ("32x784",), timeout=30.0, device="none"),
        Request(
            "pkg.net:VAE",
            ("x=8x3x64x64:float32[0,1]", "y=8:int64[0,10)"),
            ("latent_dim=16", "name='small'", "dims=[1, 2]"),
            "train.py:loss_fn",
            "loss = model(x)",
            "cpu",
            5.5,
        ),
    )


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("[tool.vaelint]\nslect = []", "unknown key 'slect'", "did you mean 'select'?"),
        ("[tool.vaelint]\ntarget = 'a.py:B'", "unknown key 'target'", "did you mean 'targets'?"),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\ninputs = '1x2'", "unknown key 'inputs'", "did you mean 'input'?"),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\nzzz = 1", "unknown key 'zzz'", "known: target, input"),
        ("[[tool.vaelint.targets]]\ninput = '1x2'", "no target", 'write target = "model.py:VAE"'),
        ("[tool.vaelint]\ntargets = 'a.py:B'", "targets must be a list of tables", "[[tool.vaelint.targets]]"),
        ("[tool.vaelint]\ntimeout = '5'", "timeout must be a number of seconds above 0, not '5'", ""),
        ("[tool.vaelint]\ntimeout = true", "timeout must be a number", ""),
        ("[tool.vaelint]\nfail-on = 'never'", 'fail-on must be one of "info", "warning", "error"', ""),
        ("[tool.vaelint]\ndevice = 'gpu'", "device must be auto, cuda", ""),
        ("[tool.vaelint]\nselect = [1]", "select must be a text or a list of texts", ""),
        ("[[tool.vaelint.targets]]\ntarget = 'vae.py'", "targets]] number 1: target 'vae.py'", ""),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\ninit = 3", "init must be a table such as", ""),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\ninput = 3", "input must be a text such as", ""),
        ("[tool]\nvaelint = 3", "[tool.vaelint] must be a table", ""),
        ("[tool.vaelint\n", "cannot read pyproject.toml", ""),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(project: Path, text: str, message: str, help: str) -> None:
    write(project, text)
    with pytest.raises(UsageError) as caught:
        config.load()
    assert message in caught.value.message
    assert "pyproject.toml" in caught.value.message
    assert help in caught.value.help


def test_the_nearest_file_with_a_table_wins(project: Path) -> None:
    write(project, "[tool.vaelint]\nfail-on = 'error'")
    write(project / "src", "[tool.other]\n")
    write(project / "src" / "pkg", "[tool.vaelint]\nfail-on = 'info'")
    assert config.load(project / "src").fail_on == "error"
    assert config.load(project / "src" / "pkg").fail_on == "info"


def test_no_file_is_an_empty_config(tmp_path: Path) -> None:
    assert config.load(tmp_path).targets == ()


def test_paths_are_seen_from_where_the_user_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, FULL)
    monkeypatch.chdir(project / "src" / "pkg")
    assert config.load().targets[0].target == "../vae.py:VAE(latent_dim=20)"


def targets(names: list[str]) -> list[str]:
    return [r.target for r in config.requests_for(names, config.load())]


def test_which_targets_a_word_stands_for(project: Path) -> None:
    write(project, FULL)
    vae, net = "src/vae.py:VAE(latent_dim=20)", "pkg.net:VAE"
    assert targets([]) == [vae, net]
    assert targets(["src/vae.py"]) == [vae], "the file that holds it"
    assert targets(["src/pkg/net.py"]) == [net], "a module's file, below src"
    assert targets(["src/layers.py"]) == [vae, net], "a helper: whatever may import it"
    assert targets(["src/vae.py", "src/vae.py", "src/pkg/net.py"]) == [vae, net], "each once"
    (project / "src" / "pkg" / "other.py").write_text("")
    assert targets(["src/pkg/other.py"]) == [net]
    (project / "docs").mkdir()
    (project / "docs" / "conf.py").write_text("")
    assert targets(["docs/conf.py"]) == []


def test_options_of_a_configured_target_apply_when_it_is_named(project: Path) -> None:
    write(project, FULL)
    (request,) = config.requests_for(["./src/vae.py:VAE"], config.load())
    assert request.inputs == ("32x784",)
    (other,) = config.requests_for(["src/vae.py:Other"], config.load())
    assert other.inputs == ()


def test_a_file_that_is_not_there_is_wrong_usage(project: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file src/nope\.py"):
        config.requests_for(["src/nope.py"], config.load())


def test_a_word_that_is_no_target_is_wrong_usage(project: Path) -> None:
    with pytest.raises(UsageError):
        config.requests_for(["VAE"], config.load())
