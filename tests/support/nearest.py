"""The tests that are nearest to what has changed since the branch left main, for `make quick`; arguments go to pytest.

One pair of fixtures a family, all fixtures of the rules that changed, the test files that changed, who may import whom, and the
package's own lists and texts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from expectations import ROOT, fixtures

ALWAYS = ("tests/repository/test_layers.py", "tests/repository/test_package.py")
IN_FIXTURES = "tests/rules/test_fixtures.py::test_"
KINDS = {"bad": "bad_fixture_gives_its_finding_and_no_other", "good": "good_fixture_is_clean"}


def _git(*words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()


def changed() -> set[Path]:
    """The files that differ from the point where the branch left main, or from the last commit; and those that git does not know yet."""
    base = next(iter(_git("merge-base", "HEAD", "main")), "HEAD")
    return {Path(name) for name in (*_git("diff", "--name-only", base), *_git("ls-files", "--others", "--exclude-standard"))}


def ids(files: Iterable[Path]) -> Iterator[str]:
    """What pytest is asked to run."""
    files = list(files)
    rules = {f.stem for f in files if f.parent.name == "rules"} | {
        f.parts[1] for f in files if f.parts[0] == "fixtures" and len(f.parts) > 2
    }
    for side, name in KINDS.items():
        families: set[str] = set()
        for fixture in fixtures(side):
            family, rule = fixture.stem[:4], fixture.stem.partition("__")[0]
            if rule in rules or family not in families:
                yield f"{IN_FIXTURES}{name}[{fixture.stem}]"
            families.add(family)
    own = {f.as_posix() for f in files if f.parts[0] == "tests" and f.name.startswith("test_") and (ROOT / f).exists()}
    yield from sorted({*ALWAYS, *own} - {"tests/rules/test_fixtures.py"})


if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-q", *sys.argv[1:], *ids(changed())], cwd=ROOT, check=False).returncode)
