"""The script within a command: `torchrun --nproc-per-node 2 train.py --lr 1e-3` trains with `train.py --lr 1e-3`. Nothing is run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vaelint.late import dataclass

_PYTHON = re.compile(r"(python[\d.]*t?|py)(\.exe)?")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
_TAKES_VALUE = ("-W", "-X", "--check-hash-based-pycs")  # of Python's own options
_MODULES = {"torch.distributed.run": "torchrun", "torch.distributed.launch": "torchrun", "accelerate.commands.launch": "accelerate"}
_LAUNCHERS = frozenset({
    "torchrun", "accelerate", "deepspeed", "horovodrun", "mpirun", "mpiexec", "srun", "uv", "poetry", "pipenv", "pixi", "hatch", "pdm",
    "conda", "mamba", "micromamba", "env", "nohup", "time", "nice", "exec", "stdbuf", "xvfb-run", "coverage", "numactl", "taskset",
})  # fmt: skip
"""What starts the Python process that comes later among its words."""

_TAKE_MODULES = frozenset({"torchrun", "accelerate", "deepspeed", "coverage"})
_GROUPS = frozenset({"torchrun", "deepspeed", "horovodrun", "mpirun", "mpiexec", "srun"})
"""What gives each process a rank."""

RANK_ZERO = {
    "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}  # fmt: skip
"""What a launcher puts into the environment (https://docs.pytorch.org/docs/stable/elastic/run.html), for a group of one."""

OTHER_PYTHON = "VAELINT_OTHER_PYTHON"
"""The variable that names the environment of a command's own Python, where it is not ours."""


@dataclass(frozen=True)
class Started:
    """A Python process: its words after `python`, the variables that it gets besides, and the folder that it starts in."""

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    folder: str = ""


def is_script(word: str) -> bool:
    """Whether a word names a file that Python runs."""
    return word.endswith((".py", ".ipynb")) or (Path(word).is_file() and starts_python(Path(word)))


def script_within(words: Sequence[str]) -> Started | None:
    """The script that a command runs; None where its words do not tell."""
    set_by, launcher = dict[str, str](), ""
    left = list(words)
    while left:
        word = left.pop(0)
        name = Path(word).name
        if _ASSIGNED.match(word) and launcher in ("", "env"):
            variable, _, value = word.partition("=")
            set_by[variable] = value
        elif _PYTHON.fullmatch(name):
            left = _after_options(left)
            if left[:1] == ["-m"] and left[1:2] and left[1] in _MODULES:
                launcher = _MODULES[left[1]]
                set_by |= RANK_ZERO if launcher in _GROUPS else {}
                left = left[2:]
            elif left and (left[0] == "-m" or Path(left[0]).name not in _LAUNCHERS):
                return Started(tuple(left), tuple(set_by.items())) if left[0] == "-m" or is_script(left[0]) else None
        elif name in _LAUNCHERS:
            launcher = name
            set_by |= RANK_ZERO if launcher in _GROUPS else {}
        elif word in ("-m", "--module") and launcher in _TAKE_MODULES and left:
            return Started(("-m", *left), tuple(set_by.items()))
        elif is_script(word):
            return Started((word, *left), tuple(set_by.items()))
        elif not launcher:
            return None
    return None


def _after_options(words: list[str]) -> list[str]:
    """What follows Python's own options."""
    left = list(words)
    while left and left[0].startswith("-") and left[0] not in ("-m", "-c", "-"):
        left = left[2:] if left[0] in _TAKES_VALUE else left[1:]
    return left


def starts_python(file: Path) -> bool:
    """Whether a file says in its first line that Python runs it."""
    try:
        with file.open("rb") as opened:
            first = opened.readline(200)
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first
