"""`--max-memory`: what a target's processes may take together, and what is said of the one that took more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_front import FAKE, alive, one

from vaelint.config.file import Config
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.core import memory
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.process.front import Worker

TOUCHED = """import os, time

def hold(megabytes):
    held = bytearray(megabytes << 20)
    for i in range(0, len(held), 4096):
        held[i] = 1
    return held

"""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FAKE)
        with Worker("fake_pipeline:check_target") as made:
            yield made


def run(worker: Worker, folder: Path, code: str, limit: str) -> Checked:
    (folder / "model.py").write_text(code + "\n\nclass VAE:\n    pass\n")
    return worker.run(Request(f"{folder / 'model.py'}:VAE", timeout=30.0, max_memory=limit))


def test_an_allocation_beyond_the_limit_is_named_by_its_line(worker: Worker, tmp_path: Path) -> None:
    checked = run(worker, tmp_path, "x = 1\nbig = bytearray(600 << 20)", "500MB")
    message, span, code = one(checked)
    assert (message, span.line, code) == ("the code needs more memory than the 500 MB that it may take", 2, "VAE006")
    assert "--max-memory" in checked.result.findings[0].help
    assert run(worker, tmp_path, "x = 1\nbig = bytearray(600 << 20)", "700MB").result.status == "clean"
    assert run(worker, tmp_path, "x = 1\nbig = bytearray(600 << 20)", "none").result.status == "clean"


def test_the_limit_holds_for_all_processes_together(worker: Worker, tmp_path: Path) -> None:
    code = TOUCHED + (
        f"for number in range(4):\n    if os.fork() == 0:\n        os.setsid()\n        open({f'{tmp_path}/pid'!r} + str(number), 'w')"
        ".write(str(os.getpid()))\n        held = hold(150)\n        time.sleep(30)\n"
        "def wait():\n    time.sleep(30)\nwait()"
    )
    message, span, _ = one(run(worker, tmp_path, code, "300MB"))
    assert message == "its processes took more than 300 MB of memory together"
    assert span.line == code[: code.index("time.sleep(30)\nwait")].count("\n") + 1, "the last line that ran in the first of them"
    assert [n for n in range(4) if (tmp_path / f"pid{n}").exists() and alive(int((tmp_path / f"pid{n}").read_text() or 0))] == []


def test_what_processes_share_counts_once(worker: Worker, tmp_path: Path) -> None:
    code = (
        TOUCHED
        + "held = hold(120)\nfor _ in range(4):\n    if os.fork() == 0:\n        time.sleep(0.7)\n        os._exit(0)\ntime.sleep(0.7)"
    )
    assert run(worker, tmp_path, code, "300MB").result.status == "clean"


def test_files_that_are_mapped_are_not_memory(worker: Worker, tmp_path: Path) -> None:
    with (tmp_path / "data").open("wb") as file:
        os.truncate(file.fileno(), 8 << 30)
    code = f"import mmap\nf = open({f'{tmp_path}/data'!r}, 'rb')\nm = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\nm[5 << 30]"
    assert run(worker, tmp_path, code, "300MB").result.status == "clean"


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512MiB", 512 << 20), ("1.5 GB", 1_500_000_000), ("800", 800), ("2k", 2000), ("none", 0), ("lots", None),
     ("0", None), ("-1GB", None), ("4 GBs", None), ("", None), ("1e9", None), ("٤GB", None)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: str, size: int | None) -> None:
    assert memory.size_of(text) == size


def test_without_a_word_it_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 8 * 10**9)
    assert memory.limit_for(None) == 4 * 10**9
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**8)
    assert memory.limit_for(None) == 10**9


def test_another_word_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="--max-memory must be a size such as 4GB or 512MB, or none, not 'lots'"):
        resolve(["model.py:VAE"], Config(), Options(max_memory="lots"))
