"""What may happen to a run, from tables: signals at many moments, streams, limits, an odd environment, kept results that were tampered
with, and repositories that attack whoever checks them. Each is a name and a function of the corpus' folder that says what was wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hostile_runs as runs
from hostile_runs import FRONT, KEPT, Disturb
from hostile_targets import SOUND

CODE = [str(Path(sys.executable).with_name("vaelint"))]  # for `python -m`, Python itself would take a vaelint.py that lies there
MOMENTS = (0.02, 0.1, 0.3, 0.8, 2.0)
SIGNALS = {"SIGINT": 130, "SIGTERM": None, "SIGHUP": None, "SIGKILL": -9}  # None: ended by it, or 128 and its number
TRAP = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
BUGGY = SOUND.replace("torch.randn_like(mu)", "torch.randn(4)")

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "no HOME": {"HOME": ""}, "a HOME that is not there": {"HOME": "/nowhere/at/all"}, "no PATH": {"PATH": ""},
    "the locale C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a TMPDIR that is not there": {"TMPDIR": "/nowhere/at/all"},
    "Latin-1 for standard output": {"PYTHONIOENCODING": "latin-1"}, "warnings as errors": {"PYTHONWARNINGS": "error"},
    "Python's development mode": {"PYTHONDEVMODE": "1"}, "one column": {"COLUMNS": "1"}, "a thousand columns": {"COLUMNS": "1000"},
    "columns that are none": {"COLUMNS": "wide"}, "a dumb terminal": {"TERM": "dumb", "FORCE_COLOR": "1"},
    "GitHub's runner": {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": "/nowhere"}, "optimised bytecode": {"PYTHONOPTIMIZE": "2"},
    "no GPU by request": {"CUDA_VISIBLE_DEVICES": "junk"}, "a thread count that is none": {"OMP_NUM_THREADS": "many"},
    "hash seed 0": {"PYTHONHASHSEED": "0"}, "a cache key too short": {"VAELINT_CACHE_KEY": "x"},
}  # fmt: skip
LIMITS = {
    "files that may not grow": (resource.RLIMIT_FSIZE, 512), "few open files": (resource.RLIMIT_NOFILE, 32),
    "a small stack": (resource.RLIMIT_STACK, 1 << 20), "half a gigabyte of addresses": (resource.RLIMIT_AS, 1 << 29),
    "a second of the CPU": (resource.RLIMIT_CPU, 1), "no core files": (resource.RLIMIT_CORE, 0),
}  # fmt: skip
STREAMS = {
    "a full standard output": ("> /dev/full", 2), "a closed standard output": (">&-", 2), "a reader that leaves": ("| true", 0),
    "a full standard error": ("2> /dev/full > /dev/null", 0), "a closed standard error": ("2>&- > /dev/null", 0),
    "no standard input": ("<&- > /dev/null", 0), "an endless standard input": ("< /dev/zero > /dev/null", 0),
    "a full output as JSON": ("--output-format json > /dev/full", 2), "a full output as SARIF": ("--output-format sarif > /dev/full", 2),
}  # fmt: skip
# What somebody does to the kept results: (entry, its folder, a file elsewhere) -> nothing.
TAMPERINGS: dict[str, Callable[[Path], None]] = {
    "emptied": lambda entry: entry.write_bytes(b""),
    "cut in half": lambda entry: entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2]),
    "garbage": lambda entry: entry.write_bytes(bytes(range(256)) * 40),
    "said to be clean": lambda entry: entry.write_bytes(entry.read_bytes().replace(b'"findings"', b'"clean"')),
    "without end": lambda entry: _replaced(entry, lambda: entry.symlink_to("/dev/zero")),
    "a pipe": lambda entry: _replaced(entry, lambda: os.mkfifo(entry)),
    "a folder": lambda entry: _replaced(entry, entry.mkdir),
    "a link to itself": lambda entry: _replaced(entry, lambda: entry.symlink_to(entry.name)),
    "unreadable JSON": lambda entry: entry.write_bytes(entry.read_bytes().partition(b"\n")[0] + b"\n" + b"[" * 100_000),
    "gone": lambda entry: entry.unlink(),
}
# Files of a repository that are no code of the model: (name, text), with whether the check must refuse to go on.
REPOSITORIES: dict[str, tuple[dict[str, str], bool | None]] = {
    "a random.py": ({"random.py": TRAP}, None), "a typer.py": ({"typer.py": TRAP}, None), "a json.py": ({"json.py": TRAP}, None),
    "a torch.py": ({"torch.py": TRAP}, None), "a sitecustomize.py": ({"sitecustomize.py": TRAP}, None),
    "a vaelint.py": ({"vaelint.py": TRAP}, None), "a conftest.py": ({"conftest.py": TRAP}, None), "a setup.py": ({"setup.py": TRAP}, None),
    "a baseline elsewhere": ({"vaelint.toml": 'baseline = "/etc/hostname"\n'}, True),
    "a baseline without end": ({"vaelint.toml": 'baseline = "/dev/zero"\n'}, True),
    "keys that nobody knows": ({"vaelint.toml": "colour = 'red'\n"}, True), "no TOML": ({"vaelint.toml": "[" * 5000}, True),
    "ten megabytes of TOML": ({"vaelint.toml": "# x\n" * 2_500_000}, None),
    "shipped results": ({".vaelint_cache/CACHEDIR.TAG": "x", ".vaelint_cache/last-0": "{}"}, None),
}  # fmt: skip


def table() -> dict[str, Disturb]:
    """All disturbances by name."""
    found: dict[str, Disturb] = dict(runs.DISTURBANCES)
    for name in SIGNALS:
        for moment in MOMENTS:
            found[f"{name} after {moment} s"] = partial(signalled, name, moment)
    found |= {f"environment: {name}": partial(in_environment, values) for name, values in ENVIRONMENTS.items()}
    found |= {f"limit: {name}": partial(limited, *limit) for name, limit in LIMITS.items()}
    found |= {f"stream: {name}": partial(redirected, *stream) for name, stream in STREAMS.items()}
    found |= {f"kept result {name}": partial(tampered, act) for name, act in TAMPERINGS.items()}
    found |= {f"repository with {name}": partial(attacking, files, refused) for name, (files, refused) in REPOSITORIES.items()}
    found["a working directory that is gone"] = removed
    found["results in somebody's folder"] = occupied
    return found


def _quick(*more: str) -> list[str]:
    return [*FRONT, "--input", "6x12", "--device", "none", *more]


def _faults(code: int, said: bytes, allowed: tuple[int, ...]) -> Iterator[str]:
    if b"Traceback" in said:
        yield f"a traceback: {said[-400:]!r}"
    if code not in allowed:
        yield f"exit code {code}, not {' or '.join(map(str, allowed))}: {said[-300:]!r}"


def signalled(name: str, moment: float, folder: Path) -> list[str]:
    """A signal to the command line; whatever it was doing, all that it started is gone afterwards."""
    front = subprocess.Popen(_quick("--no-cache", "sound.py:VAE"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(moment)
    below = _family(front.pid)
    number = getattr(signal, name)
    front.send_signal(number)
    _, said = front.communicate(timeout=120)
    if b"Traceback" in said and b"/vaelint/" not in said:
        return runs.gone(below)  # Python itself was still starting: no line of ours had run
    told = SIGNALS[name]
    done = (0, told) if told is not None else (0, -number, 128 + number, 130, 2)
    return [*_faults(front.returncode, said, done), *runs.gone(below)]


def _family(pid: int) -> list[int]:
    """The processes below one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def in_environment(values: dict[str, str], folder: Path) -> list[str]:
    """Variables of the environment that few have."""
    done = subprocess.run(
        _quick("--output-format", "json", "sound.py:VAE"), cwd=folder, env=os.environ | values, capture_output=True, timeout=300
    )
    wrong = list(_faults(done.returncode, done.stderr, (0,)))
    return wrong or ([] if json.loads(done.stdout)["targets"][0]["status"] == "clean" else ["the sound target is not clean"])


def limited(kind: int, amount: int, folder: Path) -> list[str]:
    """A limit of the system: clean, or one message and no claim."""
    hard = resource.getrlimit(kind)[1]
    amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    done = subprocess.run(
        _quick("--no-cache", "--output-format", "concise", "sound.py:VAE"), cwd=folder, capture_output=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(kind, (amount, hard)),
    )  # fmt: skip
    ended = (-signal.SIGXCPU, -signal.SIGKILL) if kind == resource.RLIMIT_CPU else ()
    return list(_faults(done.returncode, done.stderr, (0, 2, 3, *ended)))


def redirected(how: str, code: int, folder: Path) -> list[str]:
    """Standard streams that take nothing, or are not there."""
    words = " ".join(_quick("sound.py:VAE"))
    line = f"{words} {how}" + ("; exit ${PIPESTATUS[0]}" if how.startswith("|") else "")
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, timeout=300)
    return list(_faults(done.returncode, done.stderr, (code, 2) if how.startswith("|") else (code,)))


def removed(folder: Path) -> list[str]:
    """The working directory is removed under the shell's feet."""
    (folder / "gone").mkdir(exist_ok=True)
    line = f"cd gone && rmdir ../gone && {' '.join(CODE)} check m.py:VAE --input 3x4"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, timeout=120)
    return list(_faults(done.returncode, done.stderr, (2,)))


def tampered(act: Callable[[Path], None], folder: Path) -> list[str]:
    """Kept results that somebody changed are as good as none: the same is found again, and nothing hangs."""
    (folder / "buggy.py").write_text(BUGGY)
    words = _quick("--output-format", "concise", "buggy.py:VAE")
    first = subprocess.run(words, cwd=folder, capture_output=True, timeout=300)
    entries = [*KEPT.rglob("*.json")]
    for entry in entries:
        act(entry)
    again = subprocess.run(words, cwd=folder, capture_output=True, timeout=300)
    for entry in KEPT.rglob("*.json"):  # for those who come after
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink()
    wrong = [*_faults(first.returncode, first.stderr, (1,)), *_faults(again.returncode, again.stderr, (1,))]
    return wrong + ([] if entries else ["nothing was kept"]) + ([] if first.stdout == again.stdout else [f"then {again.stdout!r}"])


def _replaced(entry: Path, make: Callable[[], object]) -> None:
    entry.unlink()
    make()


def attacking(files: dict[str, str], refused: bool | None, folder: Path) -> list[str]:
    """A repository whose files are aimed at the tool: none of them runs but what the model imports, nothing outside is touched."""
    place = folder / "attack"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "model.py").write_text(BUGGY)
    for name, text in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    wrong: list[str] = []
    for words in (["rules"], ["explain", "VAE201"], ["discover", "--static"]):
        done = subprocess.run([*CODE, *words], cwd=place, capture_output=True, timeout=120)
        wrong += _faults(done.returncode, done.stderr, (0, 2) if refused else (0,))
    if (place / "ran").exists():
        wrong.append("a command that only reads ran a file of the repository")
    (place / "ran").unlink(missing_ok=True)
    words = [*CODE, *_quick("model.py:VAE")[len(FRONT) - 1 :]]
    done = subprocess.run(words, cwd=place, capture_output=True, timeout=300)
    allowed = (2,) if refused else (1, 2) if "torch.py" in files else (1,)
    return wrong + list(_faults(done.returncode, done.stderr, allowed))


def occupied(folder: Path) -> list[str]:
    """The folder that is named for results holds somebody's files: none is deleted, also by `cache clear`."""
    place = folder / "occupied"
    old = place / "v1" / "ab" / "model.pt"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text("weights")
    os.utime(old, (1, 1))
    environment = os.environ | {"VAELINT_CACHE_DIR": str(place)}
    done = subprocess.run(_quick("sound.py:VAE"), cwd=folder, env=environment, capture_output=True, timeout=300)
    subprocess.run([*CODE, "cache", "clear"], cwd=folder, env=environment, capture_output=True, timeout=60)
    return [*_faults(done.returncode, done.stderr, (0,)), *([] if old.is_file() else ["a file that is not ours was deleted"])]
