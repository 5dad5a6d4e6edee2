"""What configuration and baseline make of findings, and comments that are written into files."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.core.errors import UsageError
from vaelint.core.finding import Certainty, Finding, Severity, Span, fingerprint
from vaelint.core.paths import in_project
from vaelint.core.result import TargetResult
from vaelint.policy import baseline
from vaelint.policy.adjust import matches
from vaelint.policy.comments import Commented
from vaelint.policy.judge import Judgement, judge
from vaelint.policy.write_ignores import add, with_comments


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.py").write_text("x = 1\n" * 40)


def finding(code: str = "VAE402", line: int = 3, file: str = "m.py", **facts: object) -> Finding:
    name = {"VAE402": "kl-overweight", "VAE401": "beta-moves-with-batch", "VAE201": "shared-noise"}[code]
    severity = Severity.WARNING if code == "VAE402" else Severity.ERROR
    signed = fingerprint(code, in_project(file), f"line {line}", 0)
    return Finding(code, name, severity, "m", Span(file, line), Certainty.PROVED, facts=dict(facts), fingerprint=signed)


def checked(table: str, *findings: Finding, target: str = "m.py:VAE", **how: bool) -> tuple[TargetResult, Judgement]:
    """A result of one configured target, judged under a configuration."""
    Path("vaelint.toml").write_text(f"{table}\n[[targets]]\ntarget = '{target}'\n" if "[[targets]]" not in table else table)
    made = TargetResult(target, findings=list(findings), quiet=["VAE202", "VAE401"])
    made.settle()
    found = judge([made], resolve([], config.load(), Options()), **how)
    return made, found


def beta(value: float, at_any_batch: bool = True) -> Finding:
    return finding("VAE402" if at_any_batch else "VAE401", beta=value, at_any_batch=at_any_batch)


def test_a_beta_that_is_meant_and_measured_is_no_finding() -> None:
    table = "[[targets]]\ntarget = 'm.py:VAE'\nbeta = 39.2\n"
    result, _ = checked(table, beta(39.2000004))
    assert (result.status, result.findings) == ("clean", [])
    assert result.notes == ["accepted: VAE402 kl-overweight at m.py:3 (beta = 39.2 is configured)"]
    assert checked(table, beta(39.0))[0].status == "clean", "within 1 %"
    assert checked(table, beta(38.0))[0].status == "findings"
    assert checked(table, beta(39.2, at_any_batch=False))[0].status == "findings", "that number is one batch size's"
    assert checked(table, finding())[0].status == "findings", "not about the weight"


def test_a_beta_that_is_meant_and_not_measured_is_told() -> None:
    Path("vaelint.toml").write_text("[[targets]]\ntarget = 'm.py:VAE'\nbeta = 4\n")
    made = TargetResult("m.py:VAE", loss={"beta": {"expression": "D", "value": 784.0}}, findings=[beta(784.0)])
    judge([made], resolve([], config.load(), Options()))
    assert made.notes == ["beta = 4 is configured as the intended one; 784 was measured"]
    assert [f.code for f in made.findings] == ["VAE402"]


def test_severities_by_the_longest_match() -> None:
    table = "[severity]\nVAE4 = 'info'\nkl-overweight = 'error'\nshared-noise = 'info'"
    result, _ = checked(table, finding(), finding("VAE401", 5), finding("VAE201", 7))
    assert [(f.code, f.severity.value) for f in result.findings] == [("VAE402", "error"), ("VAE401", "info"), ("VAE201", "info")]
    assert checked("[severity]\nVAE4 = 'info'", finding())[0].status == "clean"
    milder = replace(finding(), severity=Severity.INFO)
    assert checked(table, milder)[0].findings[0].severity is Severity.INFO, "what the rule took for mild is not raised"


@pytest.mark.parametrize(
    ("pattern", "file", "meant"),
    [
        ("m.py", "m.py", True),
        ("m.py", "sub/m.py", True),
        ("sub/*", "sub/deep/m.py", True),
        ("sub", "sub/m.py", True),
        ("sub/", "sub/m.py", True),
        ("sub/**/*.py", "sub/m.py", True),
        ("sub/*.py", "m.py", False),
        ("!sub/*", "m.py", True),
        ("!sub/*", "sub/m.py", False),
        ("*_old.py", "sub/vae_old.py", True),
        ("ub/*", "sub/m.py", False),
    ],
)
def test_patterns_of_files(pattern: str, file: str, meant: bool) -> None:
    assert matches(finding(file=file), pattern, Path.cwd()) is meant


def test_spared_files_say_so() -> None:
    result, _ = checked("per-file-ignores = { 'm.py' = 'VAE4' }", finding(), finding("VAE201"))
    assert [f.code for f in result.findings] == ["VAE201"]
    assert result.notes == ["ignored: VAE402 kl-overweight at m.py:3 (per-file-ignores 'm.py')"]


def test_what_stopped_the_analysis_is_never_spared() -> None:
    Path("vaelint.toml").write_text("per-file-ignores = { '*' = 'ALL' }\nbaseline = 'b.json'\n[[targets]]\ntarget = 'm.py:VAE'\n")
    stop = replace(finding(), code="VAE006", name="analysis-incomplete")
    made = TargetResult("m.py:VAE", "failed", findings=[stop])
    found = judge([made], resolve([], config.load(), Options()), update=True)
    assert (made.findings, made.status, found.entries) == ([stop], "failed", {})


BASE = "baseline = 'known.json'"


def write(*findings: Finding) -> None:
    baseline.write(Path("known.json"), checked(BASE, *findings, update=True, whole=True)[1].entries)


def test_what_is_in_the_baseline_is_not_reported_and_what_is_new_is() -> None:
    write(finding())
    result, found = checked(BASE, finding(), finding("VAE201", 9), whole=True)
    assert [f.code for f in result.findings] == ["VAE201"]
    assert result.notes == ["1 known finding of the baseline known.json not reported"]
    assert found.stale == []
    moved = replace(finding(), span=Span("m.py", 30))
    assert checked(BASE, moved, whole=True)[0].status == "clean", "lines may move"


def test_an_entry_that_is_no_longer_found_is_stale_until_it_is_pruned() -> None:
    write(finding(), finding("VAE401", 5))
    _, found = checked(BASE, finding(), whole=True)
    assert [(e.code, e.file, e.targets) for e in found.stale] == [("VAE401", "m.py", ("m.py:VAE",))]
    _, pruned = checked(BASE, finding(), whole=True, prune=True)
    assert ([e.code for e in pruned.entries.values()], pruned.stale) == (["VAE402"], [])
    _, grown = checked(BASE, finding("VAE201", 9), whole=True, prune=True)
    assert [e.code for e in grown.entries.values()] == ["VAE402"], "prune takes nothing in, and VAE402 was not asked for"


def test_of_what_was_not_checked_nothing_is_stale() -> None:
    write(finding("VAE401", 5))
    Path("vaelint.toml").write_text(f"{BASE}\n[[targets]]\ntarget = 'm.py:VAE'\n[[targets]]\ntarget = 'o.py:VAE'\n")
    other = resolve(["o.py:VAE"], config.load(), Options())
    assert judge([TargetResult("o.py:VAE", quiet=["VAE401"])], other).stale == []
    mine = resolve(["m.py:VAE"], config.load(), Options())
    assert judge([TargetResult("m.py:VAE", quiet=["VAE202"])], mine).stale == [], "its rule was not selected"
    assert judge([TargetResult("m.py:VAE", "failed")], mine).stale == [], "it could not be analysed"
    assert len(judge([TargetResult("m.py:VAE", quiet=["VAE401"])], mine).stale) == 1
    _, gone = checked(f"{BASE}\n[[targets]]\ntarget = 'o.py:VAE'\n", target="o.py:VAE", whole=True)
    assert len(gone.stale) == 1, "the target is configured no more"


def test_a_baseline_holds_from_every_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    write(finding())
    text = Path("known.json").read_text()
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    told = resolve([], config.load(), Options())
    made = TargetResult("../m.py:VAE", findings=[finding(file="../m.py")])
    assert judge([made], told, whole=True).stale == []
    assert made.findings == []
    assert json.loads(text)["findings"][0]["file"] == "m.py"
    assert "line" not in json.loads(text)["findings"][0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9, "findings": []}', '{"version": 1, "findings": [{"fingerprint": "a"}]}'])
def test_a_broken_baseline_is_wrong_usage(text: str) -> None:
    Path("known.json").write_text(text)
    with pytest.raises(UsageError, match=r"known\.json"):
        baseline.read(Path("known.json"))
    with pytest.raises(UsageError, match="there is no baseline"):
        baseline.read(Path("nowhere.json"))


SOURCE = '''def f(x):
    s = """a
b {x}""" + str(x)
    y = x + \\
        1
    z = g(x,  # noqa: E501
          2)
    return s  # vaelint: ignore[VAE101] old
'''


def test_comments_are_written_where_they_may_stand() -> None:
    text, left = with_comments(SOURCE, {2: ["VAE201"], 4: ["VAE202"], 6: ["VAE401"], 8: ["VAE102"]}, "why")
    assert left == set()
    lines = text.splitlines()
    assert lines[2].endswith("str(x)  # vaelint: ignore[VAE201] why"), "not inside of the text"
    assert lines[4].endswith("1  # vaelint: ignore[VAE202] why"), "not behind a backslash"
    assert lines[5].endswith("# noqa: E501  # vaelint: ignore[VAE401] why")
    assert lines[7].endswith("# vaelint: ignore[VAE101, VAE102] old")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 8), st.lists(st.sampled_from(["VAE201", "VAE402"]), min_size=1, unique=True)),
    st.sampled_from(["\n", "\r\n"]),
)
def test_written_comments_speak_for_their_lines_and_change_no_program(wanted: dict[int, list[str]], end: str) -> None:
    old = SOURCE.replace("\n", end)
    text, left = with_comments(old, wanted, "reason")
    plain = text.replace("\r\n", "\n")
    assert ast.dump(ast.parse(plain)) == ast.dump(ast.parse(SOURCE))
    assert text.count(end) == old.count(end)
    source = Commented("m.py", plain)
    for line, codes in wanted.items():
        for code in set(codes) - {c for at, c in left if at == line}:
            assert any(code in c.codes for c in source.comments if c.line in source.lines_for(line)), (line, code)
    assert left == set()


def test_encoding_mode_and_link_of_a_file_stay() -> None:
    real = Path("real.py")
    real.write_bytes("# -*- coding: latin-1 -*-\r\nx = 'é'".encode("latin-1"))
    real.chmod(0o640)
    Path("link.py").symlink_to("real.py")
    assert add(Path("link.py"), {2: ["VAE201"]}, "ça") == set()
    assert real.read_bytes() == "# -*- coding: latin-1 -*-\r\nx = 'é'  # vaelint: ignore[VAE201] ça".encode("latin-1")
    assert Path("link.py").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    with pytest.raises(SyntaxError):
        with_comments("def broken(:\n", {1: ["VAE201"]}, "")
