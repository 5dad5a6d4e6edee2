"""The corpus of benchmarks/hostile.py: every violent end at every place where user code runs, and files that are hardly files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

# Exceptions that are not what they seem: raised wherever user code runs.
RAISED = (
    "SystemExit(0)", "GeneratorExit()", "StopIteration(3)", "MemoryError()", "RecursionError()", "BrokenPipeError(32, 'pipe')",
    "OSError(28, 'No space left on device')", "ImportError('torch')", "UnicodeDecodeError('utf-8', b'x', 0, 1, 'no')",
    "RuntimeError('x' * 50_000_000)", "RuntimeError('\\u202e\\u2066 \\u2028\\u2029 txt')", "type('E', (BaseException,), {})('base')",
)  # fmt: skip
# What is broken for whoever runs in the same process afterwards.
BROKEN = {
    "stops the clock": "import time; time.monotonic = time.perf_counter = time.time = lambda: 0.0",
    "breaks copies": "import copy; copy.deepcopy = copy.copy = None",
    "breaks the system's calls": "import os; os.write = os.read = os.getpid = os.waitpid = None",
    "empties the environment": "import os; os.environ.clear()",
    "sets our variables": "import os; os.environ.update(VAELINT_CACHE_DIR='/', VAELINT_OUTPUT_FORMAT='json:/owned', VAELINT_TRACEBACK='1')",
    "has no standard streams": "import sys; sys.stdin = sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
    "has another command line": "import sys; sys.argv[:] = ['vaelint', '--exit-zero']",
    "traces itself": "import sys; sys.settrace(lambda *a: 1 / 0)",
    "has hooks that raise": "import sys; sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *a: 1 / 0",
    "infers only": "torch.inference_mode(True).__enter__()",
    "has the device meta": "torch.set_default_device('meta')",
    "has a mode of its own": "torch.overrides.TorchFunctionMode().__enter__()",
    "uses deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "seeds at every step": "torch.manual_seed(0)",
    "connects to nobody": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
    "becomes a daemon": "import os, time\n{indent}if os.fork() == 0:\n{indent}    os.setsid()\n{indent}    os.fork() or time.sleep(30)\n"
    "{indent}    os._exit(0)",
    "forks often": "import os, time; [os.fork() for _ in range(4)]",
    "ends at its end": "import atexit, os; atexit.register(os._exit, 0)",
    "ends in a thread": "import threading, os; threading.Timer(0.05, os._exit, (0,)).start()",
    "collects no garbage": "import gc; gc.disable(); gc.freeze()",
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
    "rtl\u202e", "isolate\u2066", "line\u2028", "tab\t", "bell\x07", "escape\x1b[31m", "zero\u200bwidth", "dot.dot", "..", "async", "None",
    "1", "a\u0301", "\uff41", "CON", "~", "$(id)", "`id`", "&amp;", "<b>", "*", "?", "[1]", "a,b", "a=b", "@a", "::error::x",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A hostile target: what it is called, its text, and whether it must come out sound, must not, or may either way."""

    what: str
    target: str
    sound: bool | None
    once: bool = False  # what it does to its own file is its own fault: only the first run finds what was written


def write_corpus(folder: Path) -> list[Target]:
    """All targets, written below `folder`."""
    found = [*_acts(folder), *_texts(folder), *_names(folder), *_files(folder)]
    write_sound(folder)
    for i in range(300):
        (folder / f"chain{i}.py").write_text(f"import chain{i + 1}\n" if i < 299 else "")
    for i in range(5):
        (folder / f"ring{i}.py").write_text(f"import ring{(i + 1) % 5}\n")
    return found


def write_sound(folder: Path) -> None:
    """The models that the others stand beside; a target may have touched them."""
    (folder / "real").mkdir(exist_ok=True)
    (folder / "real" / "model.py").write_text(SOUND)
    (folder / "sound.py").write_text(SOUND)


def _acts(folder: Path) -> Iterator[Target]:
    acts = ACTS | BROKEN | {f"raises {what[:24]}": f"raise {what}" for what in RAISED}
    for number, (name, act) in enumerate(acts.items()):
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
            yield Target(f"{name.lstrip('!')} at {place}", f"{path.name}:VAE", False if fatal else None, "its own file" in name)


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
    write_sound(folder)
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
