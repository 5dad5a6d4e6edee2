"""Runs of vaelint on hostile targets that something happens to, and what is left behind, for benchmarks/hostile.py."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hostile_targets import ACTS

from vaelint.cache.folder import own
from vaelint.cache.key import key, verified

LIMIT = 8.0  # seconds for a target on an idle machine; those that hang take all of it
SLOWER = 6.0  # a target may take this many times what the sound one took a moment ago
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vaelint-hostile-")  # for all runs; the user's own results are not touched
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
KEPT = Path(own())  # where they keep their results
Disturb = Callable[[Path], list[str]]
FRONT = [sys.executable, "-m", "vaelint", "check"]


def patience(folder: Path) -> float:
    """Seconds for a target on this machine as it is now: what is late because the machine is busy is nobody's fault."""
    done = check(folder, ["sound.py:VAE"], "--no-cache", "--timings", "--output-format", "json", limit=120)
    return max(LIMIT, SLOWER * sum(json.loads(done.stdout)["targets"][0]["timing"].values()))


def check(
    folder: Path, targets: Sequence[str], *options: str, limit: float = LIMIT, **kwargs: object
) -> subprocess.CompletedProcess[bytes]:
    """One run of the command line."""
    words = [*FRONT, *options, "--input", "6x12", "--device", "cpu", "--timeout", str(round(limit, 1)), "--", *targets]
    return subprocess.run(words, cwd=folder, capture_output=True, timeout=1800, check=False, **kwargs)  # type: ignore[call-overload,no-any-return]


def broken_entries() -> Iterator[str]:
    """Entries of the cache that are not whole, and what a run left beside them."""
    secret = key()
    for entry in KEPT.rglob("*"):
        if entry.name.startswith(".") and entry.name != ".gitignore":
            yield f"the cache has a left-over: {entry.name}"
        elif entry.suffix == ".json" and secret is not None:
            try:
                verified(secret, entry.name, entry.read_bytes())
            except ValueError:
                yield f"the cache has a broken entry: {entry.name}"


def disturbed(folder: Path, disturbances: Mapping[str, Disturb]) -> Iterator[tuple[str, list[str]]]:
    """Runs that something happens to: what, and what is wrong."""
    for name, disturb in disturbances.items():
        shutil.rmtree(KEPT, ignore_errors=True)
        try:
            wrong = disturb(folder)
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        after = check(folder, ["sound.py:VAE"], "--output-format", "json", limit=60)
        if after.returncode != 0 or json.loads(after.stdout)["targets"][0]["status"] != "clean":
            wrong.append(f"the next run ends with {after.returncode}: {after.stdout[-600:]!r} {after.stderr[-200:]!r}")
        yield name, [*wrong, *broken_entries()]


def _start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    words = [*FRONT, *options, "--input", "6x12", "--device", "none", "--output-format", "json", "sound.py:VAE", "sleeper.py:VAE"]
    (folder / "sleeper.py").write_text(
        "import os, pathlib, time\n"
        "server = int(pathlib.Path(f'/proc/{os.getppid()}/stat').read_text().rpartition(')')[2].split()[1])\n"  # above the keeper
        f"pathlib.Path({str(_told_in(folder))!r}).write_text(f'{{server}} {{os.getpid()}}')\ntime.sleep(20)\n"
    )
    _told_in(folder).unlink(missing_ok=True)
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _told_in(folder: Path) -> Path:
    """Where a target says which processes it runs in: beside its folder, below which it may not write."""
    return folder.with_name(f"{folder.name}.pids")


def _pids(folder: Path, front: subprocess.Popen[bytes]) -> list[int]:
    limit, told = time.monotonic() + 60, _told_in(folder)
    while not (told.exists() and told.read_text().count(" ")):
        if front.poll() is not None or time.monotonic() > limit:
            return []
        time.sleep(0.02)
    return [int(p) for p in told.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: Sequence[int]) -> list[str]:
    limit = time.monotonic() + 10
    while any(map(_alive, pids)):
        if time.monotonic() > limit:
            return [f"processes are left: {[p for p in pids if _alive(p)]}"]
        time.sleep(0.05)
    return []


def killed_front(folder: Path) -> list[str]:
    """SIGKILL for the command line."""
    front = _start(folder)
    pids = _pids(folder, front)
    front.kill()
    front.communicate()
    return gone(pids)


def interrupted(folder: Path) -> list[str]:
    """Ctrl-C with two targets at once."""
    front = _start(folder, "--jobs", "2")
    pids = _pids(folder, front)
    front.send_signal(signal.SIGINT)
    _, said = front.communicate(timeout=30)
    return gone(pids) + ([] if front.returncode == 130 and b"Traceback" not in said else [f"exit code {front.returncode}: {said!r}"])


def killed_worker(folder: Path) -> list[str]:
    """SIGKILL for the server."""
    front = _start(folder, "--jobs", "2")
    pids = _pids(folder, front)
    with contextlib.suppress(OSError):
        os.kill(pids[0], signal.SIGKILL)
    out, said = front.communicate(timeout=60)
    found = {t["target"]: t["status"] for t in json.loads(out)["targets"]}
    wrong = [] if found.get("sleeper.py:VAE") == "failed" and front.returncode == 2 and b"Traceback" not in said else [f"{found} {said!r}"]
    return gone(pids) + wrong


def killed_while_keeping(folder: Path) -> list[str]:
    """SIGKILL for the command line at many moments of a short run, the writing of the cache among them."""
    for delay in range(40):
        words = [*FRONT, "--input", "6x12", "--device", "none", "sound.py:VAE", "real/model.py:VAE"]
        front = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.05 * delay)
        front.kill()
        front.wait()
    return []


def full_disk(folder: Path) -> list[str]:
    """No file may grow beyond a few bytes."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))

    shutil.rmtree(KEPT, ignore_errors=True)
    whole = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # Python 3.11 keeps compiled files that were cut short
    done = check(folder, ["sound.py:VAE"], "--output-format", "concise", preexec_fn=small, env=whole)
    told = done.stderr.count(b"results are not kept")
    return (
        [] if done.returncode == 0 and told == 1 and b"Traceback" not in done.stderr else [f"exit code {done.returncode}: {done.stderr!r}"]
    )


def no_folder(folder: Path) -> list[str]:
    """The cache's folder cannot be made."""
    done = check(folder, ["sound.py:VAE"], "--output-format", "concise", env=os.environ | {"VAELINT_CACHE_DIR": "/proc/nowhere"})
    return (
        []
        if done.returncode == 0 and done.stderr.count(b"results are not kept") == 1
        else [f"exit code {done.returncode}: {done.stderr!r}"]
    )


def two_at_once(folder: Path) -> list[str]:
    """Four runs of the same targets share the cache."""
    words = [*FRONT, "--input", "6x12", "--device", "none", "--output-format", "json", "sound.py:VAE", "real/model.py:VAE", "link.py:VAE"]
    runs = [subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    said = [r.communicate(timeout=300) for r in runs]
    return [f"exit code {r.returncode}: {err!r}" for r, (_, err) in zip(runs, said, strict=True) if r.returncode or err]


def every_format(folder: Path) -> list[str]:
    """What the model prints, in each format of the report."""
    wrong = []
    targets = [f"act{n}_import.py:VAE" for n, name in enumerate(ACTS) if name.startswith(("prints", "raises surr"))]
    for form in ("full", "concise", "grouped", "json", "json-lines", "github", "gitlab", "junit", "sarif", "rdjson", "markdown"):
        done = check(folder, targets, "--output-format", form, env=os.environ | {"GITHUB_ACTIONS": "true"})
        if form == "full" and b"there is no format" in done.stderr:
            continue
        if b"Traceback" in done.stderr or done.returncode not in (0, 1, 2):
            wrong.append(f"{form}: {done.stderr[-300:]!r}")
        if any(line.startswith((b"::set-output", b"::error file=x.py", b"##[error]owned")) for line in done.stdout.splitlines()):
            wrong.append(f"{form}: the model's own command stands at the start of a line")
        if form in ("json", "gitlab", "sarif", "rdjson"):
            try:
                json.loads(done.stdout)
            except ValueError as error:
                wrong.append(f"{form}: {error}")
    return wrong


DISTURBANCES: dict[str, Disturb] = {
    "the front is killed": killed_front,
    "Ctrl-C": interrupted,
    "the server is killed": killed_worker,
    "the front is killed at forty moments": killed_while_keeping,
    "the disk is full": full_disk,
    "the cache's folder cannot be made": no_folder,
    "four runs at once": two_at_once,
    "every format": every_format,
}
