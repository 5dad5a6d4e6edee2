"""The limits of files, functions, names and folders: a person who looks for something finds it, and sees it whole."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from radon.complexity import cc_rank, cc_visit
from radon.visitors import Function

ROOT = Path(__file__).parents[2]
FILES = [f for folder in ("vaelint", "rules", "tests", "benchmarks", "docs") for f in sorted((ROOT / folder).rglob("*.py"))]
LINES = 400  # of a file
LENGTH = 50  # lines of a function
RATINGS = "ABCD"  # of radon, for a function with all that is defined in it: at most 30 ways through
CROWD = 25  # Python files of a folder
ONE_RULE_A_FILE = {ROOT / "rules"}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def too_long(source: str) -> list[str]:
    lengths = [(f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions(ast.parse(source))]
    return [f"{name}: {length} lines" for name, length in lengths if length > LENGTH]


def too_tangled(source: str) -> list[str]:
    found = [block for block in cc_visit(source) if isinstance(block, Function)]
    found += [inner for block in found for inner in block.closures]
    rated = [(block.fullname, block.complexity, cc_rank(block.complexity)) for block in found]
    return [f"{name}: {ways} ways through ({rating})" for name, ways, rating in rated if rating not in RATINGS]


@pytest.mark.parametrize("folder", sorted({f.relative_to(ROOT).parts[0] for f in FILES}))
def test_files_and_functions_are_seen_whole(folder: str) -> None:
    own = [f for f in FILES if f.is_relative_to(ROOT / folder)]
    sources = {name_of(f): f.read_text() for f in own}
    lines = {name: n for name, source in sources.items() if (n := len(source.splitlines())) > LINES}
    assert lines == {}, "one responsibility a file: move what is another subject"
    long = {name: found for name, source in sources.items() if (found := too_long(source))}
    assert long == {}, "give a part of it a name"
    tangled = {name: found for name, source in sources.items() if (found := too_tangled(source))}
    assert tangled == {}, "a chain of exemptions is a table of names and questions (vaelint/replay/exempt.py); else give parts a name"


def test_the_measures_can_fail() -> None:
    long = "def f():\n" + "    x = 1\n" * LENGTH
    assert too_long(long) == ["f: 51 lines"]
    assert too_long("class A:\n    async def g(self):\n" + "        x = 1\n" * LENGTH) == ["g: 51 lines"]
    tangled = "def f(x):\n" + "    if x: pass\n" * 30
    assert too_tangled(tangled) == ["f: 31 ways through (E)"]
    assert too_tangled("class A:\n" + "".join(f"    {line}\n" for line in tangled.splitlines())) == ["A.f: 31 ways through (E)"]
    assert too_tangled(tangled.replace("    if x: pass\n", "", 1)) == []


def test_no_two_files_have_one_name() -> None:
    found = [f for f in FILES if f.name != "__init__.py" and not {"benchmarks", "data"} & set(f.parts)]  # scripts, and scripts of users
    counted = Counter(f.name for f in found)
    twice = {name: [name_of(f) for f in FILES if f.name == name] for name, count in counted.items() if count > 1}
    assert twice == {}


def test_no_folder_is_crowded() -> None:
    counted = Counter(f.parent for f in FILES if f.parent not in ONE_RULE_A_FILE)
    assert {name_of(folder): count for folder, count in counted.items() if count > CROWD} == {}
