"""The survey: what is kept of a repository, and the page that is made of it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from survey_page import DOCS, FACTS, survey_pages
from survey_pictures import bars, betas
from survey_readings import KINDS, crossed, kappa, of_readings, verdict, wilson, words

sys.path.append(str(DOCS.parent / "benchmarks"))
kept = importlib.import_module("survey_facts").kept

PLACE = {"file": "model.py", "line": 7}


def finding(code: str, **said: Any) -> dict[str, Any]:
    return {"code": code, "severity": "error", "certainty": "confirmed", "message": "m", "span": PLACE, "evidence": None} | said


def row(*targets: dict[str, Any], said: str = "", timed_out: bool = False) -> dict[str, Any]:
    return {"repo": "a/b", "commit": "c", "seconds": 1.0, "timed_out": timed_out, "said": said, "targets": list(targets)}


def one_of(result: dict[str, Any], known: dict[str, Any] | None = None) -> dict[str, Any]:
    kept_one: dict[str, Any] = kept({"repositories": [known or {"repo": "a/b"}]}, [result])["repositories"][0]
    return kept_one


def test_a_finding_is_kept_once_and_keeps_its_verdict() -> None:
    loss = {"terms": [{}], "objective": "an ELBO", "beta": {"value": 1.0}}
    target = {"target": "model.py:VAE", "status": "findings", "loss": loss, "notes": [], "findings": []}
    both = [target | {"findings": [finding("VAE201"), finding("VAE004", severity="info"), finding("VAE101", certainty="refuted")]}] * 2
    first = one_of(row(*both))
    assert [f["code"] for f in first["findings"]] == ["VAE201"]
    assert (first["outcome"], first["targets"][0]["beta"]) == ("loss", 1.0)
    judged = {"verdict": "true", "why": "w", "again": "true", "second": "false", "second_why": "v", "fixed": True}
    first["findings"][0] |= judged
    again = one_of(row(*both), first)
    assert again["findings"][0].items() >= judged.items()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("vaelint: train.py was not observed: the package cv2 is not installed here (train.py:3)", "package"),
        ("vaelint: train.py was not observed: the script reads d.csv, which is not there (train.py:3)", "files"),
        ("vaelint: m.py:VAE: no way to check it was found: VAE cannot be built without args (m.py:4)", "arguments"),
        ("vaelint: interrupted: 0 results until then, and not all", "time"),
        ("vaelint: no VAE is found in .: 11 Python files read", "none"),
        ("something else", "other"),
    ],
)
def test_why_nothing_was_analysed(said: str, reason: str) -> None:
    result = one_of(row({"target": "m.py:VAE", "status": "failed", "findings": []}, said=said))
    assert (result["outcome"], result["reason"]) == ("nothing", reason)


def test_a_repository_that_the_survey_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="a/b"):
        kept({"repositories": []}, [row()])


def test_wilsons_interval_is_that_of_the_tables() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_readings_that_differ_are_arguable() -> None:
    assert verdict({"verdict": "true", "second": "false"}) == "arguable"
    assert verdict({"verdict": "true", "second": "true"}) == verdict({"verdict": "true"}) == "true"
    assert verdict({"verdict": "true", "again": "false", "second": "true"}) == "arguable"
    assert verdict({}) == ""


def test_both_readers_are_quoted_where_they_differ() -> None:
    one = {"verdict": "true", "why": "It is.", "second_why": "It is not."}
    assert words(one | {"second": "true"}) == "It is."
    assert words(one | {"second": "false"}) == "First reader, true: It is. Second reader, false: It is not."


def test_kappa_is_that_of_cohen() -> None:
    pairs = crossed([{"verdict": one, "second": other} for one, other, n in AGREEMENT for _ in range(n)])
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa(crossed([{"verdict": "true", "second": "true"}, {"verdict": "true"}])) == 1.0


AGREEMENT = [
    ("true", "true", 20),
    ("true", "false", 5),
    ("false", "true", 10),
    ("false", "false", 15),
]  # a textbook's: 0.7 where 0.5 is chance


def test_precision_follows_from_both_readings() -> None:
    found = of_readings([{"verdict": one, "second": other} for one, other, n in AGREEMENT for _ in range(n)])
    assert (found["true"], found["arguable"], found["false"], found["opposed"]) == (20, 15, 15, 15)
    assert found["precision"] == "40 %" and found["interval"] == "28 % to 54 %"
    assert found["by_first"].startswith("25 of 50, 50 %") and found["by_second"].startswith("30 of 50, 60 %")
    assert found["without"].startswith("20 of 35, 57 %")
    assert (found["same"], found["twice"], found["kappa"]) == (35, 50, "0.40")


def test_each_finding_has_two_readings() -> None:
    survey = json.loads(FACTS.read_text(encoding="utf-8"))
    findings = [f for one in survey["repositories"] for f in one.get("findings", ())]
    assert len(findings) >= 59
    assert all(f["verdict"] in KINDS and f["second"] in KINDS and f["why"] and f["second_why"] for f in findings)


def test_pictures_hold_what_they_are_given() -> None:
    assert betas("b", [1.0, 1.0, 1e-9, 784.0]).count("<circle") == 4
    assert "<text" in bars("a & b", [("x < y", 3, 1)]) and "x &lt; y" in bars("a & b", [("x < y", 3, 1)])


def test_the_page_is_as_the_facts_say() -> None:
    for name, text in survey_pages().items():
        file: Path = DOCS / name
        if os.environ.get("VAELINT_UPDATE"):
            file.write_text(text, encoding="utf-8")
        assert file.read_text(encoding="utf-8") == text, "python -m pytest with VAELINT_UPDATE=1 writes it"
