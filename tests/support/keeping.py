"""Fixtures of the tests of kept results: a target that reads what it likes, checked by the small pipeline of tests/data/fake."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vaelint.cache.store import Cache
from vaelint.core.checked import Checked
from vaelint.core.result import Request
from vaelint.process import gate
from vaelint.process.front import Worker

FAKE = Path(__file__).parents[1] / "data" / "fake"
VAELINT = str(Path(sys.executable).parent / "vaelint")
LONG_AGO = (1e9, 1e9)
Run = Callable[..., Checked]


@pytest.fixture(scope="module")
def hired() -> Iterator[gate.Hired]:
    """A worker whose pipeline runs the module of its target."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FAKE))
        worker = Worker("fake_pipeline:check_target")
    with gate.Hired(worker) as made:
        yield made


@pytest.fixture
def said() -> list[str]:
    """What was said about keeping results."""
    return []


@pytest.fixture
def run(hired: gate.Hired, tmp_path: Path, said: list[str]) -> Run:
    """Checks model.py of a folder, whose files must look older than the run."""

    def go(code: str | None = None, *, keep: Path | None = None, **options: object) -> Checked:
        if code is not None:
            (tmp_path / "model.py").write_text(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{code}\n")
        if keep is None and not (tmp_path / ".kept").exists():
            (tmp_path / ".kept").mkdir()  # or the folder, which an import lists, would change during the run
        for file in (tmp_path, *tmp_path.rglob("*")):
            if not file.is_symlink() and file.stat().st_mtime > time.time() - 1:
                os.utime(file, (time.time() - 1, time.time() - 1))
        cache = Cache(str(keep or tmp_path / ".kept"), said.append)
        (checked,) = gate.run([Request(f"{tmp_path}/model.py:VAE", timeout=20.0, **options)], hired, cache=cache)  # type: ignore[arg-type]
        return checked

    return go


def command(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder whose Python can be told to lack packages."""
    (folder / "site").mkdir(exist_ok=True)
    custom = folder / "site" / "sitecustomize.py"
    if not custom.exists():
        custom.write_text("import os, sys\nfor name in os.environ.get('LACKS', '').split(): sys.modules[name] = None\n")
        os.utime(custom, LONG_AGO)
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([VAELINT, *args], cwd=folder, env=os.environ | {"PYTHONPATH": path} | env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done
