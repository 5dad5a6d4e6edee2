"""The Python files of a repository that are its own. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from vaelint.core.launchers import starts_python

MOST_FILES = 2000
_FOREIGN = frozenset({"site-packages", "node_modules", "__pycache__", "build", "dist", "venv", "env"})
_TESTS = frozenset({"tests", "test"})


def python_files(root: Path, *, tests: bool = False, notebooks: bool = False, scripts: bool = False) -> list[Path]:
    """The Python files at or below `root`, the nearest first, without environments, hidden folders and builds; at most `MOST_FILES`.

    Those in folders of tests are left out unless `tests`. Where they are asked for, notebooks come too, and scripts whose name has no
    ending and whose first line names Python.
    """
    if root.is_file():
        return [root]
    ends = (".py", ".ipynb") if notebooks else (".py",)
    found: list[Path] = []
    folders = [root]
    while folders and len(found) < MOST_FILES:
        folder = folders.pop(0)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        found += [e for e in entries if e.is_file() and (e.suffix in ends or (scripts and not e.suffix and starts_python(e)))]
        folders += [e for e in entries if _worth_entering(e, tests)]
    return found[:MOST_FILES]


def _worth_entering(entry: Path, tests: bool) -> bool:
    if not entry.is_dir() or entry.is_symlink() or entry.name.startswith(".") or entry.name in _FOREIGN:
        return False
    if entry.name in _TESTS and not tests:
        return False
    return not (entry / "pyvenv.cfg").exists()
