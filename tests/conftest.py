"""Fixtures that write model files into an empty folder and work there."""

from __future__ import annotations

import gc
import os
import sys
import textwrap
import zlib
from collections import Counter
from pathlib import Path

import pytest
import thorough
import typehooks  # noqa: F401 - stands before all that imports vaelint, and so checks it
from keeping import hired, run, said  # noqa: F401 - fixtures
from usermodels import Case, Load, Make

from vaelint.core.inputs import InputSet
from vaelint.loading.build import Loaded, load_target
from vaelint.source.target import parse_target

os.environ["COLUMNS"] = "100"  # readline, which pytest imports, tells child processes of a terminal of its own


LONG = (
    "test_fix.py",
    "test_changes.py",
    "test_laws.py",
    "test_docs.py",
    "test_hostile.py",
    "test_annotate.py",
    "test_places.py",
    "test_law_kernels.py",
    "test_real_pass.py",
    "test_run.py",
    "test_pytest_plugin.py",
    "test_bare_folder.py",
    "test_spelling.py",
)
"""Files whose tests start processes, or check many models at once, for all of the file: of five seconds and more."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests go first, so that no core ends on one alone, and a file that prepares something for all its tests is seldom shared.

    Of the rules' further cases, of the correct systems and of `thorough.PART_OF` a part, unless all are asked for (VAELINT_CASES=all,
    `make test-cases`), or tests by their names.
    """
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if thorough.ALL or config.option.keyword or any("::" in argument for argument in config.args):
        return
    seen: Counter[str] = Counter()
    left = set()
    for item in items:
        name, _, case = item.name.partition("[")
        if (item.path.name == "test_fixtures.py" and _is_left_out(case)) or seen[name] % thorough.PART_OF.get(name, 1):
            left.add(item)
        seen[name] += 1
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]


def _is_left_out(stem: str) -> bool:
    """Whether a fixture is none of those that are always run. Twins have one stem and fate."""
    one_in = thorough.SYSTEMS_IN if stem.startswith("ok_") else thorough.ONE_IN if "__" in stem else thorough.RULES_IN
    return zlib.crc32(stem.encode()) % one_in != 0


def pytest_collection_finish() -> None:
    """Torch's million objects are no garbage, and a check keeps nearly all that it makes: looked for as seldom as in the worker."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Results that tests keep go into a folder of this session, and none of other sessions are used."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes files into an empty folder, goes there, and loads a target."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def go(target: str = "model.py:VAE", **files: str) -> Loaded:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__DIR__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return load_target(parse_target(target))

    return go


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes model.py (and other files) and builds its VAE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def go(text: str, *inputs: str, target: str = "VAE", **files: str) -> Case:
        (tmp_path / "model.py").write_text(text)
        for name, other in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(other))
        loaded = load_target(parse_target(f"model.py:{target}"))
        given = InputSet.from_texts(inputs or ["5x6"])
        return Case(loaded, loaded.build(loaded.resolve_init(given, {})), given)

    return go
