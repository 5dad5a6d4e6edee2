"""Entry points are found as `importlib.metadata` finds them, without importing it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from vaelint.entry_points import entry_points


def places(group: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Ours and those of the standard library."""
    ours = [(p.name, p.value, p.module) for p in entry_points(group)]
    return sorted(ours), sorted((p.name, p.value, p.module) for p in metadata.entry_points(group=group))


@pytest.mark.parametrize("group", ["vaelint.rules", "pytest11", "console_scripts", "nobody.has.these"])
def test_what_is_installed_here(group: str) -> None:
    ours, theirs = places(group)
    assert ours == theirs
    assert bool(ours) == (group != "nobody.has.these")


TEXT = "[console_scripts]\nno = no:main\n\n[acme.rules]\n# a comment\n first = acme.rules\nsecond=acme.more:one.two [extra]\n\n[z]\na = b\n"


def test_folders_archives_and_a_name_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, kind in (("a", "acme_rules-1.2.dist-info"), ("b", "Acme.Rules-1.1.dist-info"), ("c", "old-0.1-py3.11.egg-info")):
        (tmp_path / folder / kind).mkdir(parents=True)
        (tmp_path / folder / kind / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1.2\n")
        (tmp_path / folder / kind / "entry_points.txt").write_text(TEXT.replace("first", folder))
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none"), *sys.path])
    ours, theirs = places("acme.rules")
    assert ours == theirs and ("a", "acme.rules", "acme.rules") in ours and "b" not in {name for name, _, _ in ours}
    assert ("second", "acme.more:one.two [extra]", "acme.more") in ours
    assert {p.version for p in entry_points("acme.rules") if p.name == "a"} == {"1.2"}
    with zipfile.ZipFile(tmp_path / "packed.whl", "w") as packed:
        packed.writestr("packed-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed\nVersion: 1\n")
        packed.writestr("packed-1.dist-info/entry_points.txt", "[acme.rules]\nin_archive = packed\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "packed.whl")])
    ours, theirs = places("acme.rules")
    assert ours == theirs and "in_archive" in {name for name, _, _ in ours}


def test_what_answers_at_once_does_without_the_parser_of_mail() -> None:
    code = "import sys, vaelint.cli.checking, vaelint.catalogue as c; c.all_rules(); print('email' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_rule_of_ours_is_found_by_its_file_alone() -> None:
    code = "import sys; from vaelint.catalogue import find as f\nprint(f('vae201').name, f('Kl-Sign').code)\n"
    code += "print(sum('_rules.v' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "shared-noise VAE407\n2\n"
