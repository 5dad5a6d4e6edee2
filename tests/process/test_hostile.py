"""A sample of benchmarks/hostile.py, which has the whole corpus: targets that do their worst beside a sound one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from thorough import examples

SAMPLE = (
    "_exit 0 at constructor", "segfault at forward", "loops at import", "takes all memory at loss", "closes every file at import",
    "forks at constructor", "forgets its modules at import", "forgets its path at import", "breaks json at import",
    "breaks the builtins at forward", "prints the protocol at import", "speaks on our socket at forward",
    "raises what cannot be printed at loss", "null byte", "CRLF", "tabs", "no newline", "unicode names", "deep nesting", "UTF-16",
    "ring of imports", "a link to itself", "a pipe that nobody writes to", "a file without end", "a file in a read-only folder",
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        patch.setenv("XDG_CACHE_HOME", "")  # the benchmark sets one of its own; this takes it back at the end
        yield importlib.import_module("hostile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def disturbed(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Targets of their own: the runs below may come to a process that has checked none of the sample."""
    made = tmp_path_factory.mktemp("disturbed")
    hostile.write_corpus(made)
    return made


def test_none_of_a_sample_harms_anyone(hostile: ModuleType, folder: Path) -> None:
    corpus = {t.what: t for t in hostile.write_corpus(folder)}
    assert len(corpus) >= 500 and len(importlib.import_module("hostile_disturbances").table()) >= 60
    names = [next(t for t in corpus.values() if t.target.startswith("names0/")), next(t for t in corpus.values() if "名前" in t.target)]
    assert list(hostile.faults(folder, [*(corpus[what] for what in SAMPLE[:: examples(10, 1)]), *names], 2)) == []


@pytest.mark.parametrize("what", ["the front is killed", "the server is killed", "the disk is full", "the cache's folder cannot be made"])
def test_what_happens_to_a_run_breaks_nothing(hostile: ModuleType, disturbed: Path, what: str) -> None:
    assert importlib.import_module("hostile_disturbances").table()[what](disturbed) == []
    assert list(hostile.broken_entries()) == []
