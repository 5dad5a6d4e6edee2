"""A law: after any single change, a result that is still used is the one that a new run would give."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import examples

from vaelint.cache.store import Cache
from vaelint.core.result import Request
from vaelint.process import gate

PATHS = ("a", "b", "d", "d/c", "d/l", "l", "mod.py", "d/sub.py", ".h")
LOOKS = (
    "os.path.exists(p)", "os.path.isfile(p)", "os.path.isdir(p)", "os.path.islink(p)", "os.path.getsize(p)", "os.path.realpath(p)",
    "os.readlink(p)", "os.access(p, os.X_OK)", "sorted(os.listdir(p))", "sorted(e.name for e in os.scandir(p) if e.is_dir())",
    "open(p).read()", "os.stat(p)[:7]", "os.lstat(p).st_mtime_ns", "sorted(pathlib.Path(p).rglob('*'))", "glob.glob(p + '*')",
    "pathlib.Path(p).is_file()", "pathlib.Path(p).resolve()", "spec(os.path.basename(p).partition('.')[0])",
    "spec('d.' + os.path.basename(p).partition('.')[0])", "[f for _, d, f in os.walk(p)]",
    "os.stat(os.path.basename(p), dir_fd=folder(p))[:7]",
)  # fmt: skip
HEAD = """
import glob, importlib, importlib.util, os, pathlib
os.chdir({box!r})
sys.path.insert(0, {box!r})
def folder(p): return os.open(os.path.dirname(p) or ".", os.O_RDONLY)
def spec(name): return bool(importlib.util.find_spec(name)) if name.isidentifier() or "." in name else None
def seen(look, p):
    try: return eval(look)
    except Exception as error: return type(error).__name__
"""


def fresh(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for below in path.iterdir():
            fresh(below)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def put(text: str) -> Callable[[Path], object]:
    def go(path: Path) -> None:
        fresh(path)
        path.write_text(text)

    return go


def link(to: str) -> Callable[[Path], object]:
    def go(path: Path) -> None:
        fresh(path)
        path.symlink_to(to)

    return go


def folder(path: Path) -> None:
    fresh(path)
    path.mkdir()


ACTS: dict[str, Callable[[Path], object]] = {
    "written": put("x = 1"),
    "written otherwise": put("x = 22"),
    "of the same length": put("y = 2"),
    "removed": fresh,
    "a folder": folder,
    "a link": link("a"),
    "another link": link("d"),
    "touched": lambda path: os.utime(path, (2e9, 2e9), follow_symlinks=False),
    "not to be read by others": lambda path: path.chmod(0o700),
}


def act(box: Path, what: str, path: str) -> None:
    """What may not be possible, such as to write below a file, changes nothing."""
    try:
        ACTS[what](box / path)
    except OSError:
        return


@settings(max_examples=examples(8, 60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(
    before=st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from(PATHS)), max_size=4),
    looks=st.lists(st.tuples(st.sampled_from(LOOKS), st.sampled_from(PATHS)), min_size=1, max_size=4),
    change=st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from(PATHS)),
)
def test_what_is_kept_is_what_a_new_run_sees(
    hired: gate.Hired,
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str]],
    looks: list[tuple[str, str]],
    change: tuple[str, str],
) -> None:
    home = tmp_path_factory.mktemp("law")
    box = home / "box"
    box.mkdir()
    (box / "d").mkdir()
    for what, path in before:
        act(box, what, path)
    (home / "model.py").write_text("import sys\n" + HEAD.format(box=str(box)) + f"print([seen(*look) for look in {looks!r}])\n")
    for file in home.rglob("*"):
        os.utime(file, (time.time() - 9, time.time() - 9), follow_symlinks=False)
    request = Request(f"{home}/model.py:VAE", timeout=20.0)

    def run() -> tuple[bool, str]:
        (checked,) = gate.run([request], hired, cache=Cache(str(home / "kept"), print))
        return checked.kept, checked.output

    first = run()
    assert first[0] is False
    assert run() == (True, first[1]), "nothing has changed"
    act(box, *change)
    kept, output = run()
    (truth,) = gate.run([request], hired)
    assert output == truth.output
    assert not kept or output == first[1]
