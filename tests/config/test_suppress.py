"""Suppression comments: where they may stand, what they silence, and that unused ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint import catalogue
from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.result import TargetResult
from vaelint.policy import suppress


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finding(line: int, code: str = "VAE401") -> Finding:
    return Finding(code, "beta-moves-with-batch", Severity.ERROR, "the KL weight moves with the batch size", Span("m.py", line))


def checked(source: str, *findings: Finding, quiet: tuple[str, ...] = ()) -> TargetResult:
    Path("m.py").write_text(source)
    seen = {"sites": [{"z": {"span": {"file": "m.py", "line": 1}}}]}
    made = TargetResult("m.py:VAE", findings=list(findings), quiet=list(quiet), anatomy=seen)
    made.settle()
    suppress.apply([made], lambda word: catalogue.find(word).code)
    return made


@pytest.mark.parametrize(
    "comment",
    [
        "# vaelint: ignore[VAE401] we want this",
        "# vaelint: ignore[VAE201, VAE401]",
        "# vaelint: ignore[beta-moves-with-batch]",
        "# noqa: VAE401",
        "# noqa: E501, VAE401",
        "# noqa:E501 VAE401",
        "# type: ignore  # noqa: VAE401",
    ],
)
def test_a_comment_on_the_line_silences(comment: str) -> None:
    result = checked(f"kl = a + b  {comment}\n", finding(1))
    assert result.findings == []
    assert result.status == "clean"
    assert any(n.startswith("suppressed: VAE401 beta-moves-with-batch at m.py:1") for n in result.notes)


def test_the_reason_is_kept() -> None:
    assert checked("kl = a  # vaelint: ignore[VAE401] beta is tuned\n", finding(1)).notes == [
        "suppressed: VAE401 beta-moves-with-batch at m.py:1 (beta is tuned)"
    ]


@pytest.mark.parametrize(
    "comment", ["# noqa", "# noqa: E501", "# vaelint: ignore[VAE402]", '"# vaelint: ignore[VAE401]"', "# vaelint: ignore"]
)
def test_other_comments_and_texts_do_not(comment: str) -> None:
    assert checked(f"kl = a + b; {comment}\n" if comment.startswith('"') else f"kl = a  {comment}\n", finding(1)).status == "findings"


def test_first_and_last_line_of_the_statement_count() -> None:
    statement = "kl = f(  {first}\n    a,\n    b,\n)  {last}\nx = 1\n"
    ignore = "# vaelint: ignore[VAE401]"
    assert checked(statement.format(first=ignore, last=""), finding(2)).findings == []
    assert checked(statement.format(first="", last=ignore), finding(2)).findings == []
    assert checked("kl = f(\n    a,\n    b,\n)\n" + f"x = 1  {ignore}\n", finding(2)).findings != []


def test_the_end_of_a_block_speaks_for_its_own_statement_only() -> None:
    source = "def f():\n    a = 1\n    b = 2  # vaelint: ignore[VAE401]\n"
    assert checked(source, finding(1)).findings != []
    assert checked(source, finding(3)).findings == []


def test_a_decorated_definition_begins_with_its_decorators() -> None:
    source = "@one  {first}\n@two(\n    3,\n)\ndef f(  {own}\n    a,\n):\n    return a\n"
    ignore = "# vaelint: ignore[VAE401]"
    for place in ("first", "own"):
        marked = source.format(**({"first": "", "own": ""} | {place: ignore}))
        assert checked(marked, finding(5)).findings == [], place
    assert checked(source.format(first=ignore, own=""), finding(8)).findings != [], "the body has statements of its own"
    assert checked(f"class A:\n    @one\n    def f(self): ...  {ignore}\n", finding(3)).findings == []


def test_a_comment_stands_behind_a_text_of_several_lines() -> None:
    ignore = "# vaelint: ignore[VAE401]"
    assert checked(f'kl = """a\nb\n"""  {ignore}\n', finding(1)).findings == []
    assert checked(f'kl = f("""a {ignore}\n{ignore}\n""")\n', finding(1)).findings != [], "inside of the text it is text"


def unused(source: str, *findings: Finding, quiet: tuple[str, ...] = ("VAE008",)) -> list[tuple[int, int, str]]:
    """Place and label of the findings about the comments themselves."""
    result = checked(source, *findings, quiet=quiet)
    assert result.status == "clean" or findings
    return [(f.span.line, f.span.column, f.label) for f in result.findings if f.code == "VAE008"]


def test_an_unused_one_is_found_if_its_rule_ran() -> None:
    source = "kl = 1  # vaelint: ignore[VAE401]\n"
    assert unused(source, quiet=("VAE401", "VAE008")) == [(1, 9, "VAE401 finds nothing here")]
    assert unused(source) == [], "the rule did not run"
    assert unused(source, quiet=("VAE401",)) == [], "nobody asked for unused ones"
    assert unused(source, finding(1), quiet=("VAE008",)) == []
    assert unused("kl = 1  # noqa: E501, VAE401\n", quiet=("VAE401", "VAE008", "E501")) == [(1, 9, "VAE401 finds nothing here")]


def test_a_comment_that_can_suppress_nothing_says_why() -> None:
    assert unused("kl = 1  # vaelint: ignore\n") == [(1, 9, "it names no rule: write # vaelint: ignore[CODE] reason")]
    ((_, _, unknown),) = unused("kl = 1  # vaelint: ignore[kl-overwieght]\n")
    assert unknown == "there is no rule 'kl-overwieght'; did you mean kl-overweight?"
    ((_, _, name),) = unused("kl = 1  # vaelint: ignore[shared-nois] because\n")
    assert name.endswith("did you mean shared-noise?")
    ((_, _, misplaced),) = unused("kl = 1  # vaelint: ignore-file[VAE401]\n", finding(1))
    assert misplaced == "to apply to the whole file, it must be on its own line"


@pytest.mark.parametrize("comment", ["# vaelint: ignore-file[VAE401] generated", "# vaelint: noqa: VAE401", "# VAELINT: NOQA: vae401"])
def test_a_comment_for_the_file_stands_on_its_own_line(comment: str) -> None:
    source = f'"""Text."""\n{comment}\nkl = a\n\nkl = b\n'
    assert checked(source, finding(3), finding(5)).findings == []
    assert checked(f"kl = a  {comment}\n\nkl = b\n", finding(3)).status == "findings"
    assert unused(source, quiet=("VAE401", "VAE008")) == [(2, 1, "VAE401 finds nothing here")]


def test_several_comments_on_a_line() -> None:
    both = "kl = a  # noqa: VAE401  # vaelint: ignore[VAE201] why  # type: ignore\n"
    other = Finding("VAE201", "shared-noise", Severity.ERROR, "m", Span("m.py", 1))
    assert [n.rpartition(" at ")[0] for n in checked(both, finding(1), other).notes] == [
        "suppressed: VAE401 beta-moves-with-batch",
        "suppressed: VAE201 shared-noise",
    ]


def test_what_stopped_the_analysis_cannot_be_suppressed() -> None:
    Path("m.py").write_text("# vaelint: ignore-file[VAE006]\nx = 1  # vaelint: ignore[VAE006]\n")
    made = TargetResult("m.py:VAE", "failed", findings=[finding(2, "VAE006")])
    suppress.apply([made])
    assert [f.code for f in made.findings] == ["VAE006"]


def test_a_file_in_its_own_encoding_and_line_ends() -> None:
    Path("m.py").write_bytes("# -*- coding: latin-1 -*-\r\nkl = 'é'  # vaelint: ignore[VAE401] ça va\r\n".encode("latin-1"))
    made = TargetResult("m.py:VAE", findings=[finding(2)])
    suppress.apply([made])
    assert made.notes == ["suppressed: VAE401 beta-moves-with-batch at m.py:2 (ça va)"]


def test_comments_in_code_that_was_not_run_are_left_alone() -> None:
    source = "def mine(): ...\ndef other():\n    kl = 1  # vaelint: ignore[VAE401]\n"
    assert unused(source, quiet=("VAE401", "VAE008")) == []


def test_files_that_cannot_be_read_do_no_harm() -> None:
    Path("m.py").write_bytes(b"\xff\xfe # vaelint: ignore[VAE401]\n")
    made = TargetResult("m.py:VAE", findings=[finding(1), Finding("VAE201", "x", Severity.ERROR, "m", Span("gone.py", 1))])
    suppress.apply([made])
    assert len(made.findings) == 2
    assert checked("def broken(:\n  x = 1  # noqa: VAE401\n", finding(2)).findings == [], "a comment counts even in broken code"
