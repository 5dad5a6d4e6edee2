"""The package: its list against the folders, its entry points, and the public names."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import TypeCheckError

import vaelint
from vaelint import pages
from vaelint.loading.inputs import InputSet

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TABLE = re.compile(r"(<!-- rules -->\n).*?(<!-- /rules -->)", re.S)


def test_the_package_list_names_every_folder() -> None:
    folders = {".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "vaelint").rglob("__init__.py")} | {"vaelint_rules"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders
    assert not [f for f in (ROOT / "vaelint").rglob("*/") if list(f.glob("*.py")) and not (f / "__init__.py").exists()]


def test_rules_lie_flat() -> None:
    assert not [f for f in (ROOT / "rules").rglob("*.py") if f.parent != ROOT / "rules"]


def test_data_files_are_listed() -> None:
    listed = PROJECT["tool"]["setuptools"]["package-data"]
    for package, names in listed.items():
        for name in names:
            assert (ROOT / Path(*package.split(".")) / name).is_file()
    loose = {f.name for f in (ROOT / "vaelint").rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert loose == {name for names in listed.values() for name in names}


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == vaelint.__version__
    assert PROJECT["project"]["urls"]["Documentation"] == pages.HOME


def test_every_dependency_is_pinned() -> None:
    pins = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = [d for extra in PROJECT["project"]["optional-dependencies"].values() for d in extra]
    wanted = {re.split(r"[<>=\[]", d)[0].lower() for d in PROJECT["project"]["dependencies"] + extras}
    assert wanted - {"vaelint"} <= pins


def test_the_catalogue_is_an_entry_point() -> None:
    assert [e.value for e in entry_points(group="vaelint.rules") if e.name == "builtin"] == ["vaelint_rules"]


def test_public_names_load_on_first_use() -> None:
    assert issubclass(vaelint.Report, vaelint.TargetResult)
    assert callable(vaelint.rule)
    assert callable(vaelint.check)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = vaelint.nothing_here


def test_every_rule_has_all_sections_of_its_page() -> None:
    from vaelint.load import load_rules
    from vaelint.rule import SECTIONS

    pages = {r.code: tuple(re.findall(r"^## (.+)$", r.doc, re.M)) for r in load_rules()}
    assert {code: sections for code, sections in pages.items() if sections != SECTIONS} == {}


def test_the_suite_runs_under_the_types() -> None:
    wrong: Any = 3
    with pytest.raises(TypeCheckError, match="texts"):
        InputSet.from_texts(wrong)


def test_no_file_is_too_long() -> None:
    long = {
        str(f.relative_to(ROOT)): n
        for d in ("vaelint", "rules", "tests")
        for f in (ROOT / d).rglob("*.py")
        if (n := f.read_text().count("\n")) > 450
    }
    assert long == {}


def test_the_readme_lists_the_rules_as_they_are() -> None:
    from vaelint.catalogue import all_rules, as_markdown

    readme = ROOT / "README.md"
    text = readme.read_text()
    assert TABLE.search(text), "README.md needs the lines <!-- rules --> and <!-- /rules -->"
    fresh = TABLE.sub(lambda m: m[1] + as_markdown(all_rules()) + m[2], text)
    if os.environ.get("VAELINT_UPDATE"):
        readme.write_text(fresh)
    assert fresh == text or os.environ.get("VAELINT_UPDATE"), "run make update"
