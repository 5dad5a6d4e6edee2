"""What a target starts ends with it, whatever it did to stay; and a result counts only if its process came to its own end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_front import FAKE, alive, one, run, wait_until

from vaelint.core.result import Request
from vaelint.process.front import Worker

DAEMON = """import os, pathlib, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        pathlib.Path({folder!r}, "daemon").write_text(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
pathlib.Path({folder!r}, "sleeper").write_text(str(sleeper.pid))
while not (pathlib.Path({folder!r}, "daemon").exists() and pathlib.Path({folder!r}, "daemon").read_text()):
    time.sleep(0.01)
"""

OUTLIVES = """end = time.monotonic() + 20
while not os.path.exists({folder!r} + "/ended") and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.2)
stat = pathlib.Path("/proc", pathlib.Path({folder!r}, "daemon").read_text(), "stat")
print("still there" if stat.exists() and ") Z" not in stat.read_text() else "gone")
"""
STREAM = """import os, signal, sys, time

class Out:
    def write(self, text):
        return len(text)

    def flush(self):
        {}

sys.stdout = Out()
"""
"""A standard output that the process writes out when it has sent its result."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FAKE)
        with Worker("fake_pipeline:check_target") as made:
            yield made


@pytest.mark.parametrize(
    ("end", "status"), [("", "clean"), ("while True: pass", "failed"), ("os._exit(1)", "failed"), ("os.abort()", "failed")]
)
def test_processes_in_sessions_of_their_own_are_gone_with_the_target(worker: Worker, tmp_path: Path, end: str, status: str) -> None:
    checked = run(worker, tmp_path, DAEMON.format(folder=str(tmp_path)) + end, timeout=2.0)
    assert checked.result.status == status
    assert [name for name in ("daemon", "sleeper") if alive(int((tmp_path / name).read_text()))] == []


def test_what_another_target_started_goes_on(worker: Worker, tmp_path: Path) -> None:
    """The second ends while the first, whose daemon is no longer below it, still runs."""
    first = DAEMON.format(folder=str(tmp_path)) + OUTLIVES.format(folder=str(tmp_path))
    second = f"import time, pathlib\nwhile not pathlib.Path({f'{tmp_path}/sleeper'!r}).exists(): time.sleep(0.01)\n"
    second += f"pathlib.Path({f'{tmp_path}/ended'!r}).touch()\n"
    for name, code in (("a", first), ("b", second)):
        (tmp_path / f"{name}.py").write_text(code)
    got = list(worker.run_all([Request(f"{tmp_path}/{name}.py:VAE", timeout=30.0) for name in "ab"], 2))
    assert [c.result.status for c in got] == ["clean", "clean"]
    assert got[0].output.split() == ["still", "there"]
    assert not alive(int((tmp_path / "daemon").read_text()))


def test_what_was_started_is_gone_when_its_keeper_was_killed(worker: Worker, tmp_path: Path) -> None:
    checked = run(
        worker, tmp_path, DAEMON.format(folder=str(tmp_path)) + "import signal\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"
    )
    assert "SIGKILL" in one(checked)[0]
    assert [name for name in ("daemon", "sleeper") if alive(int((tmp_path / name).read_text()))] == []


def test_what_was_started_is_gone_when_the_front_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FAKE)
    (tmp_path / "a.py").write_text(DAEMON.format(folder=str(tmp_path)) + "time.sleep(60)")
    (tmp_path / "b.py").write_text(f"import time, pathlib\nwhile not pathlib.Path({f'{tmp_path}/sleeper'!r}).exists(): time.sleep(0.01)\n")
    with Worker("fake_pipeline:check_target") as mine:
        results = mine.run_all([Request(f"{tmp_path}/{name}.py:VAE") for name in "ba"], 2)
        next(results)
    wait_until(lambda: not any(alive(int((tmp_path / name).read_text() or 0)) for name in ("daemon", "sleeper")))


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGKILL"])
def test_a_result_that_is_followed_by_death_does_not_count(worker: Worker, tmp_path: Path, signal: str) -> None:
    code = STREAM.format(f"os.kill(os.getpid(), signal.{signal})")
    result = run(worker, tmp_path, code).result
    assert result.status == "incomplete"
    assert signal in result.gaps()[0][0]


def test_the_time_limit_holds_after_the_result(worker: Worker, tmp_path: Path) -> None:
    started = time.monotonic()
    result = run(worker, tmp_path, STREAM.format("time.sleep(60)"), timeout=1.0).result
    assert (result.status, result.confirm["outcome"]) == ("incomplete", "timed out")
    assert time.monotonic() - started < 10
