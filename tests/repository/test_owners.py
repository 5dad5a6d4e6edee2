"""One owner each: what the code may do in one place only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vaelint.core.finding import Certainty, Severity, Span
from vaelint.core.setup import SETUP
from vaelint.core.sign import Found, Kind, sign
from vaelint.rule_packages import load_rules

ROOT = Path(__file__).parents[2]


def callers(name: str) -> set[str]:
    """The files of the engine and of the rules in which a function or class of that name is called."""
    found = set()
    for file in [*(ROOT / "vaelint").rglob("*.py"), *(ROOT / "rules").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                found.add(file.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize(
    ("name", "homes"),
    [("Finding", {"vaelint/core/sign.py", "vaelint/core/finding.py"}), ("fingerprint", {"vaelint/core/sign.py"})],
)
def test_findings_are_made_and_named_in_one_place(name: str, homes: set[str]) -> None:
    assert callers(name) == homes


def test_the_rules_of_the_check_itself_are_declared_as_the_table_says() -> None:
    rules = {r.code: r for r in load_rules()}
    assert {c for c in rules if c.startswith("VAE00")} == set(SETUP)
    for code, kind in SETUP.items():
        assert (rules[code].name, rules[code].severity, rules[code].message) == (kind.name, kind.severity, kind.message)
    slugs = [kind.name for kind in SETUP.values()]
    for file in [*(ROOT / "vaelint").rglob("*.py"), *(ROOT / "rules").glob("*.py")]:
        if file.name == "setup.py":
            continue
        told = [n.value for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Constant)]
        assert not [s for s in slugs if s in told], file


PLACE = Span("model.py", 3)


@pytest.mark.parametrize(
    ("of_rule", "of_found", "certainty"),
    [
        ("", None, Certainty.SUSPECTED),
        ("shapes", None, Certainty.PROVED),
        ("replay", None, Certainty.MEASURED),
        ("shapes", "", Certainty.SUSPECTED),
        ("", "shapes", Certainty.PROVED),
    ],
)
def test_what_is_found_is_suspected_unless_its_basis_says_more(of_rule: str, of_found: str | None, certainty: Certainty) -> None:
    kind = Kind("VAE999", "a-rule", Severity.ERROR, "a headline", of_rule)  # type: ignore[arg-type]
    assert sign(kind, Found(PLACE, basis=of_found), PLACE, "x = 1").certainty is certainty  # type: ignore[arg-type]


def test_a_name_follows_the_line_and_the_place_falls_back() -> None:
    kind = Kind("VAE999", "a-rule", Severity.ERROR, "a headline")
    one, other = (sign(kind, Found(None), Span("model.py", n), " x =  1") for n in (3, 9))
    assert (one.span.line, other.span.line) == (3, 9)
    assert one.fingerprint == other.fingerprint == sign(kind, Found(PLACE), PLACE, "x = 1").fingerprint
    assert sign(kind, Found(PLACE), PLACE, "x = 1", 1).fingerprint != one.fingerprint
