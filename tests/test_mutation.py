"""The operators of the mutation benchmark: each applies to the fixtures, changes what the code says, and names the line."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_operator_applies_to_some_clean_model_and_changes_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    operators = importlib.import_module("operators")
    applied: set[str] = set()
    for path in sorted((ROOT / "fixtures" / "good").glob("ok_*.py")):
        source = path.read_text()
        before = [ast.dump(s) for s in _statements(source)]
        for mutant in operators.mutants(source, 1):
            applied.add(mutant.operator)
            after = _statements(mutant.text)
            assert len(after) == len(before)
            (changed,) = (s for s, b in zip(after, before, strict=True) if ast.dump(s) != b)
            assert mutant.line <= changed.lineno <= (changed.end_lineno or 0) <= mutant.end_line
    assert applied == {o.__name__ for o in operators.OPERATORS}


def _statements(source: str) -> list[ast.stmt]:
    plain = (ast.Assign, ast.AugAssign, ast.Return, ast.Expr, ast.AnnAssign)
    return [n for n in ast.walk(ast.parse(source)) if isinstance(n, plain)]
