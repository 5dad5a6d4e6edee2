"""The package: its list against the folders, its entry points, and the public names."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import thorough
import yaml

import vaelint
from vaelint.catalogue import FAMILIES, all_rules
from vaelint.core import pages

ROOT = Path(__file__).parents[2]
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
    assert PROJECT["project"]["version"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    urls = PROJECT["project"]["urls"]
    assert urls == {"Documentation": pages.HOME} | {name: f"{pages.HOME}{name.lower()}" for name in ("Source", "Issues", "Changelog")}


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


def sections_of(doc: str) -> dict[str, str]:
    """The sections of a rule's page by their titles."""
    parts = re.split(r"^## (.+)$", doc, flags=re.M)[1:]
    return {title: text.strip() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def test_every_rule_has_all_sections_of_its_page() -> None:
    from vaelint.rule import SECTIONS
    from vaelint.rule_packages import load_rules

    for rule in load_rules():
        of_loss = rule.code.startswith(("VAE3", "VAE4"))
        wanted = (*SECTIONS[:2], "Formula", *SECTIONS[2:]) if of_loss else SECTIONS
        found = sections_of(rule.doc)
        assert tuple(found) == wanted, rule.code
        assert all(found.values()), f"{rule.code}: an empty section"
        if of_loss:
            formula, _, source = found["Formula"].partition("\n\nSource: ")
            assert formula, f"{rule.code}: no formula"
            assert re.search(r"\b(19|20)\d\d\b|documentation", source), f"{rule.code}: a formula has its source, with the year"


CONVENTIONS = ("both summed over the batch", "both averaged over the batch", "sample by sample")


def test_the_pages_on_scale_show_each_convention_of_reduction() -> None:
    from vaelint.rule_packages import load_rules

    for rule in load_rules():
        if rule.code in ("VAE401", "VAE402", "VAE403", "VAE404", "VAE405"):
            right = sections_of(rule.doc)["Use instead"]
            assert [c for c in CONVENTIONS if c not in right] == [], rule.code


def test_no_file_is_too_long() -> None:
    long = {
        str(f.relative_to(ROOT)): n
        for d in ("vaelint", "rules", "tests")
        for f in (ROOT / d).rglob("*.py")
        if (n := f.read_text().count("\n")) > 450
    }
    assert long == {}


def families() -> str:
    """The rules' names by family, as the README has them."""
    rows = [(prefix, family, [r.name for r in all_rules() if r.code.startswith(prefix)]) for prefix, family in FAMILIES.items()]
    return "| codes | about | rules |\n|---|---|---|\n" + "".join(f"| {p}xx | {about} | {', '.join(names)} |\n" for p, about, names in rows)


def test_the_readme_names_the_rules_that_there_are() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    assert TABLE.search(text), "README.md needs the lines <!-- rules --> and <!-- /rules -->"
    fresh = TABLE.sub(lambda m: m[1] + families() + m[2], text)
    if os.environ.get("VAELINT_UPDATE"):
        readme.write_text(fresh)
    assert fresh == text or os.environ.get("VAELINT_UPDATE"), "run make update"


def test_the_readmes_picture_names_the_packages_that_there_are() -> None:
    picture = (ROOT / "README.md").read_text().partition("## How it works")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z]+)/`", picture))
    assert named == {f.parent.name for f in (ROOT / "vaelint").glob("*/__init__.py")} | {"rules"}
    assert set(re.findall(r"`([a-z]+\.py)`", picture)) <= {f.name for f in (ROOT / "vaelint").glob("*.py")}


def test_what_is_run_in_part_is_there_and_run_in_whole_by_make_test_cases() -> None:
    whole = re.search(r"VAELINT_CASES=all .*?(?=\n\n)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.S)
    assert whole is not None
    texts = {f: f.read_text(encoding="utf-8") for f in (ROOT / "tests").rglob("test_*.py")}
    for name in thorough.PART_OF:
        (file,) = [f for f, text in texts.items() if f"def {name}(" in text]
        places = re.findall(r"tests/\S+", whole[0])
        assert any(file.is_relative_to(ROOT / place) for place in places), f"make test-cases leaves out {file.name}"
