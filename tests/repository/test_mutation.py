"""The operators of the mutation benchmark: each applies to the fixtures, changes what the code says, and names the line."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import thorough
from expectations import ROOT, fixtures, path_of

RARE = """
def mixed(self, x, drawn, mask, h, probs):
    filled = drawn * mask + x * (1 - mask)
    h = F.dropout(h, p=0.2, training=self.training)
    spread = -torch.sum(probs * torch.log(probs + 1e-8), dim=1)
    return filled, h, spread
"""
"""Spellings that no fixture has."""


def test_every_operator_applies_to_some_clean_model_and_changes_one_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    operators = importlib.import_module("operators")
    applied: set[str] = set()
    wanted = {o.__name__ for o in operators.OPERATORS}
    for source in (RARE, *(f.path.read_text() for f in (*fixtures("systems"), *fixtures("good")))):
        if applied == wanted and not thorough.ALL:
            break
        if not thorough.ALL:
            monkeypatch.setattr(operators, "OPERATORS", [o for o in operators.OPERATORS if o.__name__ not in applied])
        before = [ast.dump(s) for s in _statements(source)]
        for mutant in operators.mutants(source, 1):
            applied.add(mutant.operator)
            after = _statements(mutant.text)
            assert len(after) == len(before)
            (changed,) = (s for s, b in zip(after, before, strict=True) if ast.dump(s) != b)
            assert mutant.line <= changed.lineno <= (changed.end_lineno or 0) <= mutant.end_line
    assert applied == wanted


def test_every_law_has_an_operator_that_breaks_it_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    told, operators = importlib.import_module("operator_laws"), importlib.import_module("operators")
    importlib.import_module("vaelint.laws.every")
    laws = {law.name for law in importlib.import_module("vaelint.laws.law").LAWS}
    broken, without = ({name for names in table.values() for name in names} for table in (told.BREAKS, told.WITHOUT))
    assert broken | without == laws
    assert not broken & without
    assert set(told.BREAKS) <= {o.__name__ for o in operators.OPERATORS}


def test_the_benchmark_measures_a_model_whose_loss_it_has_to_find(tmp_path: Path) -> None:
    model = path_of("good", "vae206_negative_scale__own_line")
    out = tmp_path / "rows.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "mutate.py"), str(model), "--most", "1", "--json", str(out)]
    for name in ("std_without_exp", "skip_the_noise", "flip_the_kl"):
        command += ["--operator", name]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = {r["operator"]: (r["state"], r["line"]) for r in json.loads(out.read_text())}
    assert rows == {"std_without_exp": ("found", 16), "skip_the_noise": ("found", 18), "flip_the_kl": ("found", 22)}, ran.stdout
    assert "3 mutants of 1 models behave differently; found at the mutated line: 100.0 %" in ran.stdout


def _statements(source: str) -> list[ast.stmt]:
    plain = (ast.Assign, ast.AugAssign, ast.Return, ast.Expr, ast.AnnAssign)
    return [n for n in ast.walk(ast.parse(source)) if isinstance(n, plain)]
