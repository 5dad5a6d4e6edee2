"""Targets that do their worst, and what a run makes of them.

    python benchmarks/hostile.py [--only WORDS] [--jobs 2] [--keep FOLDER]

Writes a corpus (every violent end at every place where user code runs, files that are hardly files, output in every format's own
syntax, machines that fail), checks it in batches with a sound model in each, and holds every batch against what must be true: one
result for each target, the sound one clean, no traceback, the exit code that follows from the results, a report that parses, a cache
whose every entry is whole, and the same statuses once more from the cache. Prints what was broken; exit code 1 if anything was.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT = 8.0  # seconds for a target; those that hang take all of it
FRONT = [sys.executable, "-m", "vaelint", "check"]
PLACES = ("import", "constructor", "forward", "loss", "backward")

MODEL = """\
import torch
from torch import nn
{import_}

class VAE(nn.Module):
    def __init__(self, latent_dim=4):
        super().__init__()
        {constructor}
        self.enc, self.mu, self.lv = nn.Linear(12, 8), nn.Linear(8, latent_dim), nn.Linear(8, latent_dim)
        self.dec = nn.Linear(latent_dim, 12)

    def forward(self, x):
        {forward}
        h = torch.relu(self.enc(x))
        mu, logvar = self.mu(h), self.lv(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        recon = self.dec(z)
        {backward}
        return recon, mu, logvar


def loss_fn(recon, x, mu, logvar):
    {loss}
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (recon - x).pow(2).sum() + kl
"""

# What user code may do. `!` marks what no analysis survives wherever it happens while the model is looked at.
ACTS = {
    "raises": "raise ValueError('boo')",
    "raises what cannot be printed": "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})",
    "raises a novel": "raise RuntimeError('word ' * 200_000)",
    "raises surrogates": "raise RuntimeError('\\udcff\\ud800 \\x00 \\x1b[31m')",
    "raises a group": "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [TypeError(2)])])",
    "interrupts itself": "raise KeyboardInterrupt",
    "exits": "import sys; sys.exit(0)",
    "exits with words": "import sys; sys.exit('words')",
    "!_exit 0": "import os; os._exit(0)",
    "!_exit 3": "import os; os._exit(3)",
    "!segfault": "import ctypes; ctypes.string_at(0)",
    "!abort": "import os; os.abort()",
    "!kills itself": "import os; os.kill(os.getpid(), 9)",
    "!kills its group": "import os; os.killpg(0, 9)",
    "!terminates itself": "import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15); signal.pause()",
    "!loops": "exec('while True: pass')",
    "!sleeps": "import time; time.sleep(10**6)",
    "!deadlocks": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "!ignores signals": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 10, 12, 15)]; exec('while True: pass')",
    "recurses": "f = lambda n: f(n + 1); f(0)",
    "takes all memory": "x = [bytearray(1 << 40)]",
    "makes a tensor of an exabyte": "torch.empty(1 << 57).fill_(1.0)",
    "limits its own memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33)); bytearray(1 << 34)",
    "limits its own files": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
    "closes every file": "import os; os.closerange(0, 1024)",
    "forks": "import os, time; [time.sleep(60) for _ in range(3) if os.fork() == 0]",
    "forks and both go on": "import os; os.fork()",
    "leaves its group": "import os, time; os.fork() or (os.setsid(), time.sleep(30))",
    "leaves a program": "import subprocess; subprocess.Popen(['sleep', '30'])",
    "leaves a thread": "import threading, time; threading.Thread(target=time.sleep, args=(30,)).start()",
    "hangs at its end": "import atexit, time; atexit.register(time.sleep, 30)",
    "reads from people": "input('name? ')",
    "parses a command line": "import argparse; argparse.ArgumentParser().parse_args(['--no'])",
    "goes away": "import os; os.chdir('/')",
    "forgets its modules": "import sys; sys.modules.clear()",
    "forgets its path": "import sys; sys.path[:] = []; sys.meta_path[:] = []",
    "breaks json": "import json; json.dumps = json.loads = None",
    "breaks the builtins": "import builtins; builtins.open = builtins.print = builtins.isinstance = None",
    "breaks torch": "torch.randn_like = torch.relu = torch.nn.functional.linear = None",
    "breaks tensors": "torch.Tensor.__add__ = None",
    "breaks modules": "torch.nn.Module.__call__ = None",
    "turns gradients off": "torch.set_grad_enabled(False)",
    "turns to doubles": "torch.set_default_dtype(torch.float64)",
    "warns": "import warnings; warnings.simplefilter('error'); warnings.warn('w')",
    "prints a novel": "print('words ' * 500_000)",
    "prints bytes": "import os; os.write(1, bytes(range(256)) * 100)",
    "prints commands of GitHub": "print('\\n::error file=x.py,line=1::owned\\n::set-output name=a::b\\n##[error]owned')",
    "prints JSON": 'print(\'{"version": 1, "targets": []}\')',
    "prints the protocol": 'print(\'{"kind": "final", "result": {}}\'); print(\'{"kind": "exited", "code": 0}\')',
    "prints XML": "print(']]></system-out><testcase/>&xxe;')",
    "prints escapes": "print('\\x1b[2J\\x1b]0;title\\x07\\r\\x08\\x9b31m')",
    "speaks on our socket": "import os\n{indent}for fd in range(3, 64):\n"
    '{indent}    try: os.write(fd, b\'{"kind": "final"}\\n\\x00garbage\')\n{indent}    except OSError: pass',
    "removes its own file": "import os; os.path.exists(__file__) and os.remove(__file__)",
    "changes its own file": "open(__file__, 'a').write('# more\\n')",
    "wants another interpreter": "import sys; sys.setrecursionlimit(10**9); sys.setswitchinterval(1e-9)",
    "fakes its name": "__name__ = '__main__'; __file__ = '/nowhere'",
    "alarms": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()",
    "raises later": "import signal\n{indent}signal.signal(14, lambda *a: 1 / 0); signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)",
}

FEW = "self.enc, self.mu"
MANY = "self.many = nn.ModuleList(nn.Linear(1, 1) for _ in range(10**6)); " + FEW
SOUND = MODEL.format(import_="", constructor="", forward="", backward="", loss="")
# Texts that are hardly Python. True: it can be read, and the model in it is sound.
TEXTS: dict[str, tuple[bytes, bool | None]] = {
    "empty": (b"", False),
    "one comment": (b"# nothing", False),
    "no Python": (b"class VAE(nn.Module\n    def", False),
    "old Python": (b"print 'hello'\n", False),
    "null byte": (SOUND.encode() + b"\0", False),
    "binary": (bytes(range(256)) * 20, False),
    "not UTF-8, in a comment": (b"# \xff\xfe\n" + SOUND.encode(), None),
    "not UTF-8, in the code": (SOUND.encode().replace(b"mu", b"m\xff"), False),
    "Latin-1 declared": (b"# -*- coding: latin-1 -*-\n# \xe9\n" + SOUND.encode(), True),
    "unknown coding": (b"# -*- coding: klingon -*-\n" + SOUND.encode(), False),
    "BOM": (b"\xef\xbb\xbf" + SOUND.encode(), True),
    "UTF-16": (SOUND.encode("utf-16"), False),
    "CRLF": (SOUND.replace("\n", "\r\n").encode(), True),
    "CR": (SOUND.replace("\n", "\r").encode(), True),
    "tabs": (SOUND.replace("    ", "\t").encode(), True),
    "tabs and spaces": (SOUND.replace("        super", "\tsuper").encode(), False),
    "no newline": (SOUND.rstrip().encode(), True),
    "form feeds": (SOUND.replace("\n\n", "\n\x0c\n").encode(), True),
    "unicode names": (SOUND.replace("recon", "rekonstruktión").replace("logvar", "лог").replace("kl", "κλ").encode(), True),
    "emoji in strings": (SOUND.replace("import torch\n", "import torch\nNAME = '🧨👩‍👩‍👧 \u202e abc'\n", 1).encode(), True),
    "deep nesting": (b"x = " + b"(" * 2000 + b")" * 2000 + b"\n" + SOUND.encode(), False),
    "one long line": (b"x = [" + b"1, " * 50_000 + b"]\n" + SOUND.encode(), True),
    "many lines": (b"x = 1\n" * 5_000 + SOUND.encode(), True),
    "no VAE": (SOUND.replace("class VAE", "class Other").encode(), False),
    "VAE is a number": (b"VAE = 3\n", False),
    "VAE is a trap": (b"class T:\n    def __getattr__(self, n): raise SystemExit\n    __call__ = None\nVAE = T()\n", False),
    "metaclass": (b"class M(type):\n    def __call__(c, *a, **k): raise BaseException('no')\nclass VAE(metaclass=M): pass\n", False),
    "imports itself": (b"import sys\nfrom {stem} import VAE\n" + SOUND.encode(), False),
    "star": (b"from torch import *\nfrom os import *\n" + SOUND.encode(), None),
    "chain of imports": (b"import chain0\n" + SOUND.encode(), True),
    "ring of imports": (b"import ring0\n" + SOUND.encode(), True),
    "missing packages": (b"import nowhere, no.where\nfrom not_there import *\n" + SOUND.encode(), None),
    "shadows torch": (b"torch = None\n" + SOUND.encode(), True),
    "forward returns itself": (SOUND.replace("return recon, mu, logvar", "return self").encode(), None),
    "forward is none": (SOUND.replace("def forward", "forward = None\n    def other").encode(), None),
    "a million layers": (SOUND.replace(FEW, MANY).encode(), None),
    "a terabyte of weights": (SOUND.replace(FEW, "self.big = nn.Linear(10**6, 250_000); " + FEW).encode(), None),
}  # fmt: skip
NAMES = (
    "with space", "ünïcödé", "名前", "emoji🧨", "quote'", 'quote"', "dollar$HOME", "percent%20", "semi;colon", "-dash", "a" * 200,
    "back\\slash", "new\nline", "{brace}", "#hash", "torch", "types", "__init__", "vaelint", "test",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A hostile target: what it is called, its text, and whether it must come out sound, must not, or may either way."""

    what: str
    target: str
    sound: bool | None


def write_corpus(folder: Path) -> list[Target]:
    """All targets, written below `folder`."""
    found = [*_acts(folder), *_texts(folder), *_names(folder), *_files(folder)]
    (folder / "sound.py").write_text(SOUND)
    for i in range(300):
        (folder / f"chain{i}.py").write_text(f"import chain{i + 1}\n" if i < 299 else "")
    for i in range(5):
        (folder / f"ring{i}.py").write_text(f"import ring{(i + 1) % 5}\n")
    return found


def _acts(folder: Path) -> Iterator[Target]:
    for number, (name, act) in enumerate(ACTS.items()):
        for place in PLACES:
            parts = dict.fromkeys(("import_", "constructor", "forward", "backward", "loss"), "pass")
            indent = {"import": "", "loss": "    "}.get(place, "        ")
            text = act.replace("{indent}", indent)
            if place == "backward":
                text = f"recon.requires_grad and recon.register_hook(lambda g: exec({act.replace('{indent}', '')!r}, globals()))"
            parts[{"import": "import_"}.get(place, place)] = text
            path = folder / f"act{number}_{place}.py"
            path.write_text(MODEL.format(**parts))
            fatal = name.startswith("!") and place in ("import", "constructor", "forward")
            yield Target(f"{name.lstrip('!')} at {place}", f"{path.name}:VAE", False if fatal else None)


def _texts(folder: Path) -> Iterator[Target]:
    for number, (name, (text, sound)) in enumerate(TEXTS.items()):
        path = folder / f"text{number}.py"
        path.write_bytes(text.replace(b"{stem}", path.stem.encode()))
        yield Target(name, f"{path.name}:VAE", sound)


def _names(folder: Path) -> Iterator[Target]:
    for number, name in enumerate(NAMES):
        place = folder / f"names{number}"
        place.mkdir()
        (place / f"{name}.py").write_text(SOUND)
        yield Target(f"a file called {name[:20]!r}", f"names{number}/{name}.py:VAE", None if "\n" in name else True)


def _files(folder: Path) -> Iterator[Target]:
    (folder / "real").mkdir()
    (folder / "real" / "model.py").write_text(SOUND)
    (folder / "link.py").symlink_to("real/model.py")
    yield Target("a link", "link.py:VAE", True)
    (folder / "linked").symlink_to("real")
    yield Target("a file in a linked folder", "linked/model.py:VAE", True)
    (folder / "loop.py").symlink_to("loop.py")
    yield Target("a link to itself", "loop.py:VAE", False)
    (folder / "dangling.py").symlink_to("nowhere.py")
    yield Target("a link to nothing", "dangling.py:VAE", False)
    (folder / "folder.py").mkdir()
    yield Target("a folder", "folder.py:VAE", False)
    os.mkfifo(folder / "pipe.py")
    yield Target("a pipe that nobody writes to", "pipe.py:VAE", False)
    (folder / "endless.py").symlink_to("/dev/zero")
    yield Target("a file without end", "endless.py:VAE", False)
    (folder / "nothing.py").symlink_to("/dev/null")
    yield Target("a file that is nothing", "nothing.py:VAE", False)
    (folder / "locked").mkdir()
    (folder / "locked" / "model.py").write_text(SOUND)
    (folder / "locked").chmod(0o555)
    yield Target("a file in a read-only folder", "locked/model.py:VAE", True)
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("raise SystemExit('no')\n")
    (folder / "package" / "model.py").write_text(SOUND)
    yield Target("a package that ends the program", "package/model.py:VAE", None)
    yield Target("a module that is not there", "no.such.module:VAE", False)
    yield Target("a module of Python", "json:dumps", None)


def check(folder: Path, targets: Sequence[str], *options: str, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    """One run of the command line."""
    words = [*FRONT, *options, "--input", "6x12", "--device", "cpu", "--timeout", str(LIMIT), "--", *targets]
    return subprocess.run(words, cwd=folder, capture_output=True, timeout=1800, check=False, **kwargs)  # type: ignore[call-overload,no-any-return]


def faults(folder: Path, batch: Sequence[Target], jobs: int) -> Iterator[str]:
    """What is wrong with a run of a batch, twice: the second time with what the first one kept."""
    targets = [*(t.target for t in batch), "sound.py:VAE"]
    statuses: list[dict[str, str]] = []
    late: set[str] = set()  # a busy machine may make a slow target a late one
    for name in ("first", "again"):
        done = check(folder, targets, "--output-format", "json", "--jobs", str(jobs))
        said = done.stderr.decode("utf-8", "replace")
        if "Traceback" in said or b"Traceback" in done.stdout.partition(b'"targets"')[0]:
            yield f"{name}: a traceback: {said[-500:]}"
        try:
            results = json.loads(done.stdout)["targets"]
        except (ValueError, KeyError) as error:
            yield f"{name}: the report cannot be read ({error}); exit code {done.returncode}; {said[-300:]}"
            return
        found = {r["target"]: r["status"] for r in results}
        statuses.append(found)
        late |= {r["target"] for r in results if "not done within" in json.dumps([*r["findings"], r["notes"]])}
        if [r["target"] for r in results] != targets:
            yield f"{name}: {len(results)} results for {len(targets)} targets, or in another order"
        if found.get("sound.py:VAE") != "clean":
            yield f"{name}: the sound target is {found.get('sound.py:VAE')}"
        expected = 2 if "failed" in found.values() else 1 if "findings" in found.values() else 0
        if done.returncode != expected:
            yield f"{name}: exit code {done.returncode}, not {expected}; {said[-300:]}"
        for t in batch:
            got = found.get(t.target)
            if t.sound is True and got != "clean":
                messages = [f["message"][:160] for r in results if r["target"] == t.target for f in r["findings"]]
                yield f"{name}: {t.what} ({t.target}) is {got}: {messages}"
            if t.sound is False and got != "failed":
                yield f"{name}: {t.what} ({t.target}) is {got}, and was not looked at"
        for r in results:
            for f in r["findings"]:
                if "fault of vaelint" in json.dumps(f):
                    what = next((t.what for t in batch if t.target == r["target"]), r["target"])
                    yield f"{name}: {what} is called a fault of vaelint: {f['message'][:200]}"
    moved = {k: (v, statuses[1].get(k)) for k, v in statuses[0].items() if statuses[1].get(k) != v and k not in late}
    if moved:
        yield f"the second run says otherwise: {moved}"
    yield from broken_entries(folder)


def broken_entries(folder: Path) -> Iterator[str]:
    """Entries of the cache that are not whole, and what a run left beside them."""
    for entry in (folder / ".vaelint_cache").rglob("*"):
        if entry.suffix == ".json" and not entry.name.startswith("."):
            digest, _, body = entry.read_text().partition("\n")
            if hashlib.blake2b(body.encode(), digest_size=16).hexdigest() != digest:
                yield f"the cache has a broken entry: {entry.name}"


def disturbed(folder: Path) -> Iterator[tuple[str, str]]:
    """Runs that something happens to: (what, "" or what is wrong)."""
    for name, disturb in DISTURBANCES.items():
        shutil.rmtree(folder / ".vaelint_cache", ignore_errors=True)
        for fault in disturb(folder) or [""]:
            yield name, fault
        after = check(folder, ["sound.py:VAE"], "--output-format", "json")
        if after.returncode != 0 or json.loads(after.stdout)["targets"][0]["status"] != "clean":
            yield name, f"the next run ends with {after.returncode}: {after.stderr.decode()[-200:]}"
        for fault in broken_entries(folder):
            yield name, fault


def _start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    words = [*FRONT, *options, "--input", "6x12", "--device", "none", "--output-format", "json", "sound.py:VAE", "sleeper.py:VAE"]
    (folder / "sleeper.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(f'{os.getppid()} {os.getpid()}')\ntime.sleep(20)\n"
    )
    (folder / "pid").unlink(missing_ok=True)
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _pids(folder: Path, front: subprocess.Popen[bytes]) -> list[int]:
    limit = time.monotonic() + 60
    while not ((folder / "pid").exists() and (folder / "pid").read_text().count(" ")):
        if front.poll() is not None or time.monotonic() > limit:
            return []
        time.sleep(0.02)
    return [int(p) for p in (folder / "pid").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _gone(pids: Sequence[int]) -> list[str]:
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
    return _gone(pids)


def interrupted(folder: Path) -> list[str]:
    """Ctrl-C with two targets at once."""
    front = _start(folder, "--jobs", "2")
    pids = _pids(folder, front)
    front.send_signal(signal.SIGINT)
    _, said = front.communicate(timeout=30)
    return _gone(pids) + ([] if front.returncode == 130 and b"Traceback" not in said else [f"exit code {front.returncode}: {said!r}"])


def killed_worker(folder: Path) -> list[str]:
    """SIGKILL for the server."""
    front = _start(folder, "--jobs", "2")
    pids = _pids(folder, front)
    with contextlib.suppress(OSError):
        os.kill(pids[0], signal.SIGKILL)
    out, said = front.communicate(timeout=60)
    found = {t["target"]: t["status"] for t in json.loads(out)["targets"]}
    wrong = [] if found.get("sleeper.py:VAE") == "failed" and front.returncode == 2 and b"Traceback" not in said else [f"{found} {said!r}"]
    return _gone(pids) + wrong


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

    shutil.rmtree(folder / ".vaelint_cache", ignore_errors=True)
    done = check(folder, ["sound.py:VAE"], "--output-format", "concise", preexec_fn=small)
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


DISTURBANCES: dict[str, Callable[[Path], list[str]]] = {
    "the front is killed": killed_front,
    "Ctrl-C": interrupted,
    "the server is killed": killed_worker,
    "the front is killed at forty moments": killed_while_keeping,
    "the disk is full": full_disk,
    "the cache's folder cannot be made": no_folder,
    "four runs at once": two_at_once,
    "every format": every_format,
}


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="targets whose description has these words")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--keep", type=Path, help="write the corpus here and leave it")
    told = parser.parse_args()
    count = wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = told.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        corpus = [t for t in write_corpus(folder) if told.only in t.what]
        started = time.perf_counter()
        for first in range(0, len(corpus), told.batch):
            batch = corpus[first : first + told.batch]
            found = list(faults(folder, batch, told.jobs))
            count, wrong = count + len(batch), wrong + len(found)
            print(f"{count:4} of {len(corpus)} targets, {time.perf_counter() - started:5.0f} s, {wrong} wrong", flush=True)
            for fault in found:
                print("    " + fault, flush=True)
        if not told.only:
            for what, fault in disturbed(folder):
                wrong += bool(fault)
                print(f"{what}: {fault or 'as it should be'}", flush=True)
        with contextlib.suppress(OSError):
            (folder / "locked").chmod(0o755)
    print(f"{count} hostile targets and {len(DISTURBANCES)} disturbed runs: {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
