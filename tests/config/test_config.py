"""`[tool.vaelint]`: what it may say, what is refused and how, and which targets a command line stands for."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vaelint.config import file as config
from vaelint.config import keys
from vaelint.config.chosen import choose
from vaelint.config.options import Options
from vaelint.config.settings import Setting, resolve
from vaelint.core.errors import UsageError
from vaelint.core.result import Request


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
per-file-ignores = { "legacy/*" = "VAE4", "!src/*" = ["VAE5", "shared-noise"] }
severity = { VAE414 = "info", kl-overweight = "error" }
baseline = "known.json"
jobs = 2
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
beta = 4
"""


def test_everything_it_may_say(project: Path) -> None:
    write(project, FULL)
    told = config.load()
    top = told.top
    assert (top.select, top.ignore, top.extend_select, top.fail_on) == (("VAE2", "VAE4"), ("VAE414",), ("VAE8",), "error")
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
            beta=4.0,
        ),
    )
    assert top.per_file_ignores == (("legacy/*", ("VAE4",)), ("!src/*", ("VAE5", "shared-noise")))
    assert (top.severity, top.baseline, top.jobs) == ((("VAE414", "info"), ("kl-overweight", "error")), "known.json", 2)


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
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\ninput = '3y4:'", "number 1: input '3y4:' is not understood", "for example"),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\ninit = 'k'", "number 1: init 'k' is not KEY=VALUE", "for example"),
        ("[[tool.vaelint.targets]]\ntarget = 'a.py:B'\nbeta = -1", "beta must be a number above 0", ""),
        ("[tool.vaelint]\ntimeout = nan", "timeout must be a number", ""),
        ("[tool.vaelint]\njobs = 0", "jobs must be a whole number from 1 on", ""),
        ("[tool.vaelint]\nper_file_ignores = {}", "unknown key 'per_file_ignores'", "did you mean 'per-file-ignores'?"),
        ("[tool.vaelint]\nper-file-ignores = ['VAE4']", "per-file-ignores must be a table of patterns", ""),
        ("[tool.vaelint.severity]\nVAE414 = 'off'", "severity must be a table of rules and severities", ""),
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
    assert config.load(project / "src").top.fail_on == "error"
    assert config.load(project / "src" / "pkg").top.fail_on == "info"


def test_a_file_of_its_own_comes_before_the_shared_one(project: Path) -> None:
    write(project, "[tool.vaelint]\nfail-on = 'error'")
    (project / "vaelint.toml").write_text("fail-on = 'info'\n[[targets]]\ntarget = 'src/vae.py:VAE'\n")
    told = config.load()
    assert (told.top.fail_on, told.where, [t.target for t in told.targets]) == ("info", "vaelint.toml", ["src/vae.py:VAE"])
    (project / "src" / "vaelint.toml").write_text("")
    assert config.load(project / "src").targets == (), "an empty one is one"
    (project / "vaelint.toml").write_text("[tool.vaelint]\nfail-on = 'info'")
    with pytest.raises(UsageError, match="unknown key 'tool'") as caught:
        config.load()
    assert "without [tool.vaelint]" in caught.value.help
    (project / "vaelint.toml").write_text("[[targets]]\ntarget = 'a.py:B'\nlos = 'f'")
    with pytest.raises(UsageError, match=r"vaelint\.toml: \[\[targets\]\] number 1: unknown key 'los'"):
        config.load()


def test_no_file_is_an_empty_config(tmp_path: Path) -> None:
    assert config.load(tmp_path).targets == ()


def test_paths_are_seen_from_where_the_user_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, FULL)
    monkeypatch.chdir(project / "src" / "pkg")
    assert config.load().targets[0].target == "../vae.py:VAE(latent_dim=20)"


def targets(names: list[str]) -> list[str]:
    return [c.request.target for c in choose(names, config.load())]


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
    (chosen,) = choose(["./src/vae.py:VAE"], config.load())
    assert chosen.request.inputs == ("32x784",)
    write(project, FULL + "[[tool.vaelint.targets]]\ntarget = 'src/vae.py:VAE'\ninput = '4x9'\n")
    assert [c.request.inputs for c in choose(["src/vae.py:VAE"], config.load())] == [("32x784",), ("4x9",)], "each of its tables"
    (other,) = choose(["src/vae.py:Other"], config.load())
    assert other.request.inputs == ()


def test_a_file_that_is_not_there_is_wrong_usage(project: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file src/nope\.py"):
        choose(["src/nope.py"], config.load())


def test_a_word_that_is_no_target_is_wrong_usage(project: Path) -> None:
    with pytest.raises(UsageError):
        choose(["VAE"], config.load())


def test_where_each_value_comes_from(project: Path) -> None:
    write(project, FULL)
    found = resolve([], config.load(), Options(timeout=7.0, ignore=["VAE5"], extend_select=["VAE801"]))
    table = "pyproject.toml: [tool.vaelint]"
    assert (found.select.origin, found.ignore.value, found.ignore.origin) == (table, ("VAE5",), "--ignore")
    assert found.extend_select == Setting(("VAE8", "VAE801"), f"{table} and --extend-select")
    assert found.severity.value == (("VAE414", "info"), ("VAE402", "error"))
    assert found.baseline == Setting(Path("known.json"), table)
    first, second = found.targets
    assert (first.request.timeout, first.origins["timeout"], first.origins["device"]) == (7.0, "--timeout", table)
    assert (second.request.device, second.origins["device"], second.request.beta) == ("cpu", "pyproject.toml: target 2", 4.0)
    assert first.request.select == ("VAE2", "VAE4", "VAE8", "VAE801")
    (new,) = resolve(["src/vae.py:Other"], config.load(), Options()).requests
    assert (new.device, new.timeout, new.beta) == ("none", 30.0, None), "what holds for all holds for a target that is not configured"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ('select = "F8"', "[tool.vaelint] select: no rule is selected by 'F8'", "vaelint rules lists them all"),
        ('ignore = "kl-overwieght"', "[tool.vaelint] ignore: no rule", "did you mean kl-overweight?"),
        ('severity = { VAE41x = "info" }', "[tool.vaelint] severity: no rule is selected by 'VAE41x'", "did you mean VAE410?"),
        ('per-file-ignores = { "a.py" = "shared-nose" }', "[tool.vaelint] per-file-ignores: no rule", "did you mean shared-noise?"),
    ],
)
def test_codes_that_mean_no_rule_are_refused_with_the_nearest(project: Path, text: str, message: str, help: str) -> None:
    write(project, f"[tool.vaelint]\n{text}")
    with pytest.raises(UsageError) as caught:
        resolve([], config.load(), Options())
    assert message in caught.value.message
    assert help in caught.value.help


SCHEMA_FILE = Path(keys.__file__).parent / "schema.json"
EDITOR = jsonschema.Draft7Validator(keys.json_schema())


def test_the_shipped_schema_is_the_printed_one() -> None:
    text = json.dumps(keys.json_schema(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("VAELINT_UPDATE"):
        SCHEMA_FILE.write_text(text)
    assert SCHEMA_FILE.read_text() == text
    jsonschema.Draft7Validator.check_schema(keys.json_schema())


VALUES = st.one_of(
    st.sampled_from(["VAE2", "cpu", "cuda:1", "cuda:", "none", "gpu", "info", "error", "never", "a.py:B", "32x784", "k=1", ""]),
    st.sampled_from([0, 1, -1, 2.5, 0.0, True, False, [], {}, ["VAE2"], ["VAE2", 1], {"a": "VAE2"}, {"a": ["VAE2"]}, {"a": 1}]),
    st.sampled_from(
        ["https://a.b/c", "http://a", "file:///a/b/", "ftp://a.b", "https://a.b/?c", "https://a b", "https://", "a.b/c", "file://"]
    ),
    st.sampled_from([{"VAE4": "info"}, {"VAE4": "off"}, {"": "VAE4"}, {"x": "4x5"}, ["4x5"], ["k=1", "j='a'"]]),
)


def _is_in_reach(key: str, value: object) -> bool:
    """Whether the schema can tell: texts with a grammar of their own are the reader's alone."""
    good = {"target": {"a.py:B"}, "input": {"32x784", "4x5"}, "init": {"k=1", "j='a'"}}
    if key not in good or (key == "init" and isinstance(value, dict)):
        return True
    texts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
    return all(not isinstance(t, str) or t in good[key] for t in texts)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([("", k) for k in keys.TOP] + [("targets", k) for k in keys.TARGET]), VALUES)
def test_reader_and_schema_agree(place: tuple[str, keys.Place], value: object) -> None:
    where, key = place
    assume(_is_in_reach(key.name, value))
    table: dict[str, object] = {key.name: value}
    if where:
        table = {"targets": [{"target": "a.py:B"} | table]}
    try:
        key.read(value)
        read = True
    except (ValueError, UsageError):
        read = False
    assert EDITOR.is_valid(table) == read, (table, read)


def test_where_the_pages_are_may_be_said(project: Path) -> None:
    assert resolve([], config.load(), Options()).docs_url == Setting("https://vaelint.invalid/")
    write(project, '[tool.vaelint]\ndocs-url = "file:///srv/vaelint"')
    told = resolve([], config.load(), Options()).docs_url
    assert (told.value, "pyproject.toml" in told.origin) == ("file:///srv/vaelint/", True)


def test_schema_and_reader_refuse_what_they_do_not_know(project: Path) -> None:
    for text in ("[tool.vaelint]\nnews = 1", "[[tool.vaelint.targets]]\ntarget = 'a.py:B'\nnews = 1", "[[tool.vaelint.targets]]\nbeta = 1"):
        write(project, text)
        assert not EDITOR.is_valid(tomllib.loads(text)["tool"]["vaelint"])
        with pytest.raises(UsageError):
            config.load()
    write(project, FULL)
    EDITOR.validate(tomllib.loads(FULL)["tool"]["vaelint"])
