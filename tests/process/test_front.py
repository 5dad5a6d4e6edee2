"""The front against hostile user code: one clear message each, findings kept, other targets unharmed.

The pipeline here is a small one from tests/data/fake, so that what is tested is the front and the worker's process.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaelint.core.checked import Checked
from vaelint.core.errors import Stopped, UsageError
from vaelint.core.finding import Span
from vaelint.core.result import Request
from vaelint.process.fate import Fate, settle
from vaelint.process.flight import KEPT, Output
from vaelint.process.front import Worker
from vaelint.process.protocol import Final, Lines, Ready, Stage, encode

FAKE = str(Path(__file__).parents[1] / "data" / "fake")
KILLS_SERVER = """import os, signal
keeper = os.getppid()
os.kill(int(open(f"/proc/{keeper}/stat").read().rpartition(")")[2].split()[1]), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FAKE)
        with Worker("fake_pipeline:check_target") as made:
            yield made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """The worker keeps its own working directory, so targets are named by absolute paths here."""
    yield tmp_path


def run(worker: Worker, folder: Path, code: str, timeout: float = 20.0) -> Checked:
    file = folder / "model.py"
    file.write_text(code + "\n\nclass VAE:\n    pass\n")
    return worker.run(Request(f"{file}:VAE", timeout=timeout, max_memory="9GB"))


def one(checked: Checked) -> tuple[str, Span, str]:
    """Message, place and code of the only finding of a failed target."""
    assert checked.result.status == "failed"
    (finding,) = checked.result.findings
    return finding.message, finding.span, finding.code


def test_prints_are_captured_and_kept_apart(worker: Worker, tmp_path: Path) -> None:
    checked = run(worker, tmp_path, "import os, sys\nprint('out')\nprint('err', file=sys.stderr)\nos.system('echo shell')")
    assert checked.result.status == "clean"
    assert sorted(checked.output.split()) == ["err", "out", "shell"]


@pytest.mark.parametrize(
    ("code", "message", "line", "rule"),
    [
        ("def f():\n    raise ValueError('boo')\nf()", "the code raised ValueError: boo", 2, "VAE007"),
        ("import sys\nsys.exit(3)", "the code called sys.exit(3)", 2, "VAE007"),
        ("raise SystemExit", "the code called sys.exit()", 1, "VAE007"),
        ("raise KeyboardInterrupt", "the code raised KeyboardInterrupt", 1, "VAE007"),
        ("import os\nx = 1\nos._exit(4)", "the code ended its process with exit code 4 (os._exit)", 3, "VAE006"),
        ("import ctypes\nctypes.string_at(0)", "the process that ran the code was ended by SIGSEGV", 2, "VAE006"),
        ("import os\nos.abort()", "the process that ran the code was ended by SIGABRT", 2, "VAE006"),
        ("x = bytearray(1 << 62)", "the code needs more memory than the 9 GB that it may take", 1, "VAE006"),
        ("import os\nos.closerange(3, 256)", "the code closed the file descriptor that vaelint answers through", 4, "VAE006"),
    ],
)
def test_every_violent_end_has_its_message_and_line(worker: Worker, tmp_path: Path, code: str, message: str, line: int, rule: str) -> None:
    said, span, found = one(run(worker, tmp_path, code))
    assert (said, span.line, found) == (message, line, rule)
    assert span.file.endswith("model.py")


def test_a_kill_from_outside_reads_as_out_of_memory(worker: Worker, tmp_path: Path) -> None:
    checked = run(worker, tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    message, span, _ = one(checked)
    assert "SIGKILL" in message
    assert "ran out of memory" in checked.result.findings[0].notes[0]
    assert span.line == 4, "no stack is left, so it points at the class"


def test_a_hang_ends_at_the_limit_and_names_the_line(worker: Worker, tmp_path: Path) -> None:
    started = time.monotonic()
    message, span, _ = one(run(worker, tmp_path, "def spin():\n    while True: pass\nspin()", timeout=0.5))
    assert message == "not done within 0.5 s"
    assert span.line == 2
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("target", ["train.py", "notebook.ipynb", "train.py:VAE", "train:VAE"])
def test_a_script_that_takes_too_long_has_its_own_name(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass\n\nclass VAE: ...\n")
    span = settle(Request(target), Fate(timed_out=0.5)).findings[0].span
    assert (span.file, span.line) == ("notebook.ipynb" if "note" in target else "train.py", 3 if "VAE" in target else 1)


def test_a_hang_that_refuses_signals_ends_as_well(worker: Worker, tmp_path: Path) -> None:
    code = "import signal\nfor n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
    assert one(run(worker, tmp_path, code, timeout=0.5))[0] == "not done within 0.5 s"


def test_endless_printing_is_bounded(worker: Worker, tmp_path: Path) -> None:
    checked = run(worker, tmp_path, "while True: print('x' * 1000)", timeout=0.5)
    assert one(checked)[0] == "not done within 0.5 s"
    assert len(checked.output) < 2 * KEPT + 100


@pytest.mark.parametrize(
    "code",
    [
        "import sys, os\nsys.stdout.close()\nos.close(1)\nos.close(2)",
        "import os\nos.fork()",
        "import subprocess\nsubprocess.Popen(['sleep', '60'])",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import atexit, time\natexit.register(time.sleep, 60)",
        "import argparse\nargparse.ArgumentParser().parse_args()",
        "input and __import__('sys').stdin.read()",
    ],
    ids=["closes stdout", "forks", "leaves a process", "leaves a thread", "atexit hangs", "parses its command line", "reads stdin"],
)
def test_bad_manners_do_no_harm(worker: Worker, tmp_path: Path, code: str) -> None:
    started = time.monotonic()
    assert run(worker, tmp_path, code).result.status == "clean"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("body", "outcome", "words"),
    [
        ("while True: pass", "timed out", "not done within 0.5 s"),
        ("import sys; sys.exit(1)", "raised", "sys.exit(1)"),
        ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
    ],
)
def test_what_was_found_before_the_real_pass_is_kept(worker: Worker, tmp_path: Path, body: str, outcome: str, words: str) -> None:
    result = run(worker, tmp_path, f"def after_static():\n    {body}", timeout=0.5).result
    assert result.status == "incomplete", "the real pass was not seen to the end"
    assert result.symbols == {"B": 32}
    assert result.confirm["outcome"] == outcome
    assert words in result.confirm["reason"]
    ((gap, _),) = result.gaps()
    assert words in gap
    assert "model.py:2" in gap


def test_the_next_target_is_unharmed(worker: Worker, tmp_path: Path) -> None:
    codes = ["import ctypes\nctypes.string_at(0)", "import json, sys\njson.dumps = None\nsys.modules.clear()", "print('fine')"]
    requests = []
    for i, code in enumerate(codes):
        (tmp_path / f"m{i}.py").write_text(code)
        requests.append(Request(f"{tmp_path}/m{i}.py:VAE"))
    last = list(worker.run_all(requests))[-1]
    assert (last.result.status, last.output) == ("clean", "fine\n")


def test_several_run_at_once_and_answer_in_the_order_of_the_request(worker: Worker, tmp_path: Path) -> None:
    """The first cannot end before the last has: so they run at once. Each is told its own output."""
    waits = "import pathlib, time\nend = time.monotonic() + 9\n"
    waits += "while not pathlib.Path({there!r}).exists():\n    assert time.monotonic() < end\n"
    codes = [
        waits.format(there=f"{tmp_path}/2") + "print(0)",
        "print(1)",
        f"open({f'{tmp_path}/2'!r}, 'w').close()\nprint(2)",
        "import os\nprint(3, flush=True)\nos._exit(1)",
    ]
    for i, code in enumerate(codes):
        (tmp_path / f"m{i}.py").write_text(code)
    got = list(worker.run_all([Request(f"{tmp_path}/m{i}.py:VAE", timeout=20.0) for i in range(4)], 3))
    assert [c.output.strip() for c in got] == ["0", "1", "2", "3"]
    assert [c.result.status for c in got] == ["clean", "clean", "clean", "failed"]


def test_a_killed_server_takes_only_what_ran_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FAKE)
    codes = [f"{KILLS_SERVER}while True: pass", "while True: pass", "pass", "pass"]
    for i, code in enumerate(codes):
        (tmp_path / f"m{i}.py").write_text(code)
    with Worker("fake_pipeline:check_target") as worker:
        got = list(worker.run_all([Request(f"{tmp_path}/m{i}.py:VAE", timeout=20.0) for i in range(4)], 2))
    assert [c.result.status for c in got[2:]] == ["clean", "clean"]
    assert got[1].result.status == "failed"


def test_whoever_stops_listening_ends_all_that_runs(worker: Worker, tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"m{i}.py").write_text(
            f"import os, time, pathlib\npathlib.Path({f'{tmp_path}/pid{i}'!r}).write_text(str(os.getpid()))\n"
            + ("time.sleep(60)" if i else "while not os.path.exists(" + repr(f"{tmp_path}/pid1") + "): pass")
        )
    results = worker.run_all([Request(f"{tmp_path}/m{i}.py:VAE") for i in range(2)], 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    wait_until(lambda: not alive(int((tmp_path / "pid1").read_text())))
    assert run(worker, tmp_path, "print('still here')").output == "still here\n"


def test_an_interruption_from_another_thread_ends_what_runs_and_nothing_else(worker: Worker, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    (tmp_path / "m.py").write_text(f"import os, time, pathlib\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(60)")
    worker.interrupt()
    worker.go_on()  # that one came when nothing ran, and is forgotten
    with pytest.raises(Stopped):
        worker.run(Request(f"{tmp_path}/m.py:VAE"), lambda _: threading.Timer(0.2, worker.interrupt).start())
    wait_until(lambda: not pid.is_file() or not pid.read_text() or not alive(int(pid.read_text())))
    assert run(worker, tmp_path, "print('still here')").output == "still here\n"


def test_a_fault_of_ours_is_not_blamed_on_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text(
        "from vaelint.core.finding import Finding\n"
        "def check_target(request, emit):\n    return Finding.from_json({'severity': 1, 'certainty': 2})\n"
    )
    (tmp_path / "m.py").write_text("class VAE: ...\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # The pipeline lies in tmp_path and would count as user code, as it does not in real life: ask for the innermost frame.
    with Worker("broken:check_target") as broken:
        finding = broken.run(Request(f"{tmp_path}/m.py:VAE")).result.findings[0]
    assert finding.code == "VAE006"
    assert "finding.py" in finding.message
    assert "report it" in finding.help


def test_a_missing_torch_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker("needs:check_target") as worker, pytest.raises(UsageError, match="'a_package_that_nobody_has' is not installed"):
        worker.run(Request("m.py:VAE"))


def test_a_killed_server_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FAKE)
    with Worker("fake_pipeline:check_target") as worker:
        killed = run(worker, tmp_path, f"{KILLS_SERVER}while True: pass")
        assert killed.result.status == "failed"
        assert run(worker, tmp_path, "pass").result.status == "clean"


def test_the_target_dies_with_the_front(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n")
    code = (
        "from vaelint.process.front import Worker; from vaelint.core.result import Request; "
        "Worker('fake_pipeline:check_target').run(Request('m.py:VAE'))"
    )
    front = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": FAKE})
    try:
        pid = tmp_path / "pid"
        wait_until(lambda: pid.exists() and pid.read_text() != "")
    finally:
        front.kill()
        front.wait()
    wait_until(lambda: not alive(int(pid.read_text())))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: object) -> None:
    assert callable(true)
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_output_keeps_both_ends() -> None:
    output = Output()
    for i in range(30_000):
        output.add(f"{i}\n".encode())
    text = output.text()
    assert text.startswith("0\n1\n")
    assert text.endswith("29999\n")
    assert "bytes not kept" in text


def test_output_that_fits_is_whole() -> None:
    output = Output()
    output.add(b"a" * (KEPT - 1))
    output.add(b"bcd")
    assert output.text() == "a" * (KEPT - 1) + "bcd"


def test_messages_survive_any_cut_and_a_writer_that_died() -> None:
    stream = encode(Ready()) + b'{"kind": "final", "resu' + encode(Stage("trace")) + encode(Final({"a": 1}))
    for size in (1, 7, 1000):
        lines = Lines()
        got = [m for i in range(0, len(stream), size) for m in lines.feed(stream[i : i + size])]
        assert got == [Ready(), Stage("trace"), Final({"a": 1})]


def test_wrong_usage_that_the_worker_finds_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late.py").write_text(
        "from vaelint.core.errors import UsageError\n"
        "def check_target(request, emit):\n    raise UsageError('--loss names nothing', 'say it')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker("late:check_target") as worker:
        finding = worker.run(Request("m.py:VAE")).result.findings[0]
    assert (finding.code, finding.message, finding.help) == ("VAE006", "--loss names nothing", "say it")
