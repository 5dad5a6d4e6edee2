"""One owner each: what the code may do in one place only."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from vaelint import claims, repairs
from vaelint.confirm import run  # noqa: F401 - registers the experiments
from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.core.finding import Certainty, Severity, Span
from vaelint.core.setup import SETUP
from vaelint.core.sign import Found, Kind, sign
from vaelint.experiment.verdict import experiments
from vaelint.faults.workbench import mended
from vaelint.repair import propose  # noqa: F401 - registers the repairs
from vaelint.rule_packages import load_rules

ROOT = Path(__file__).parents[2]


def callers(name: str) -> set[str]:
    """The files of the engine and of the rules in which a function or class of that name is called."""
    found = set()
    for file in [*(ROOT / "vaelint").rglob("*.py"), *(ROOT / "rules").glob("*.py")]:
        if name not in (text := file.read_text(encoding="utf-8")):
            continue
        for node in ast.walk(ast.parse(text)):
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
    assert {c for c in rules if c.startswith("VAE0")} == set(SETUP)
    for code, kind in SETUP.items():
        assert (rules[code].name, rules[code].severity, rules[code].message) == (kind.name, kind.severity, kind.message)
    slugs = [kind.name for kind in SETUP.values()]
    for file in [*(ROOT / "vaelint").rglob("*.py"), *(ROOT / "rules").glob("*.py")]:
        text = file.read_text(encoding="utf-8")
        if file.name == "setup.py" or not any(slug in text for slug in slugs):
            continue
        told = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)]
        assert not [s for s in slugs if s in told], file


def types_of(base: type) -> set[type]:
    """The types of claims, or of repairs, that rules may use."""
    families = [f.stem.removesuffix("_claims") for f in (ROOT / "vaelint" / "faults").glob("*/*_claims.py")]
    modules = [importlib.import_module(f"vaelint.faults.{f}.{f}_claims") for f in families]
    found = {t for m in modules for t in vars(m).values() if isinstance(t, type) and issubclass(t, base)}
    return {t for t in found if t.__module__ in {m.__name__ for m in modules}}


def test_each_claim_has_an_experiment_and_each_repair_proposes_edits() -> None:
    assert types_of(Claim) == {e.kind for e in experiments()}
    assert types_of(Repair) == set(mended())
    for kind in types_of(Claim):
        assert getattr(claims, kind.__name__) is kind, "what rules write"
    for kind in types_of(Repair):
        assert getattr(repairs, kind.__name__) is kind, "what rules write"
    for kind in types_of(Claim) | types_of(Repair):
        assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]


def test_claims_and_repairs_import_no_torch() -> None:
    modules = ", ".join(sorted({t.__module__ for t in types_of(Claim) | types_of(Repair)}))
    ask = f"import sys\nimport vaelint.rule, {modules}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", ask], check=True)


def test_a_claim_that_there_is_not_is_said() -> None:
    with pytest.raises(AttributeError, match="there is no claim NoSuchThing"):
        getattr(claims, "NoSuchThing")  # noqa: B009 - a name that is not there


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
