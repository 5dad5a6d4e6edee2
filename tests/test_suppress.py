"""Suppression comments: where they may stand, what they silence, and that unused ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaelint import suppress
from vaelint.finding import Finding, Severity, Span
from vaelint.result import TargetResult


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
    suppress.apply([made])
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


def test_an_unused_one_is_told_once_if_its_rule_ran() -> None:
    source = "kl = 1  # vaelint: ignore[VAE401]\n"
    assert checked(source, quiet=("VAE401",)).notes == ["m.py:1: unused suppression of VAE401"]
    assert checked(source).notes == [], "the rule did not run"
    assert checked("kl = 1  # vaelint: ignore\n").notes == ["m.py:1: this comment suppresses nothing: write # vaelint: ignore[CODE] reason"]


def test_comments_in_code_that_was_not_run_are_left_alone() -> None:
    source = "def mine(): ...\ndef other():\n    kl = 1  # vaelint: ignore[VAE401]\n"
    assert checked(source, quiet=("VAE401",)).notes == []


def test_a_failed_target_stays_failed() -> None:
    Path("m.py").write_text("x = 1  # vaelint: ignore[VAE006]\n")
    made = TargetResult("m.py:VAE", "failed", findings=[finding(1, "VAE006")])
    suppress.apply([made])
    assert made.status == "failed"


def test_files_that_cannot_be_read_do_no_harm() -> None:
    Path("m.py").write_bytes(b"\xff\xfe # vaelint: ignore[VAE401]\n")
    made = TargetResult("m.py:VAE", findings=[finding(1), Finding("VAE201", "x", Severity.ERROR, "m", Span("gone.py", 1))])
    suppress.apply([made])
    assert len(made.findings) == 2
    assert checked("def broken(:\n  x = 1  # noqa: VAE401\n", finding(2)).findings == [], "a comment counts even in broken code"
