"""The bugs of the gallery, as the models that have them: `gallery/vae.py` with a line or two changed."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "gallery"
RIGHT = (FOLDER / "vae.py").read_text(encoding="utf-8")
STEP = "train_step(model, make_optimizer(model), x)"
INPUT = "32x256:float32[0,1]"


@dataclass(frozen=True)
class Bug:
    """One bug: the name of its files, its headline, the code that vaelint gives it, what it does, and the whole model with it."""

    name: str
    title: str
    code: str
    what: str
    source: str

    @property
    def module(self) -> str:
        """The file name that the page and its output show."""
        return self.name.replace("-", "_") + ".py"

    def lines(self) -> str:
        """The function that has the bug, about ten lines, with the repair as a diff."""
        wrong, right = self.source.splitlines(), RIGHT.splitlines()
        diff = difflib.unified_diff(wrong, right, self.module, self.module, n=4, lineterm="")
        return "\n".join(diff)


def bugs() -> list[Bug]:
    """All bugs of the gallery, in its order.

    Raises:
        ValueError: what a bug changes is not in the model exactly once.
    """
    return [_bug(**entry) for entry in tomllib.loads((FOLDER / "bugs.toml").read_text(encoding="utf-8"))["bug"]]


def _bug(*, right: str, wrong: str, also: tuple[tuple[str, str], ...] = (), name: str, **words: str) -> Bug:
    source = RIGHT
    for old, new in ((right, wrong), *also):
        if source.count(old) != 1:
            raise ValueError(f"{name}: {old!r} is not in vae.py exactly once")
        source = source.replace(old, new)
    return Bug(name=name, source=source, **words)
