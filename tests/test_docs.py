"""The pages: built as `make docs` builds them, where a warning is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vaelint.load import load_rules

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def build(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Sphinx with the settings of this project."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        *options,
        "-c",
        str(DOCS),
        str(source),
        str(out),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished pages."""
    out = tmp_path_factory.mktemp("pages")
    done = build(DOCS, out)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_every_rule_has_its_page(pages: Path) -> None:
    listed = (pages / "rules" / "index.html").read_text()
    for rule in load_rules():
        text = (pages / "rules" / f"{rule.code}.html").read_text()
        assert f"{rule.code} {rule.name}" in text
        assert f'href="{rule.code}.html"' in listed


def test_links_that_lead_nowhere_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text(
        "# x\n\n[a](rules/VAE201.md#no-such-heading) [b](nowhere.md)\n\n```{toctree}\nrules/index\nkeys\n```\n"
    )
    done = build(tmp_path, tmp_path / "out", "-b", "dummy")
    assert done.returncode == 1
    assert "no-such-heading" in done.stderr
    assert "nowhere.md" in done.stderr
