"""Which files are made up without anything known of them, and what they hold for whoever reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaelint.core.assumption import Assumption, Chosen
from vaelint.observe.data.unknown.undecided import Undecided, real
from vaelint.observe.data.unknown.values import says
from vaelint.observe.data.unknown.wishes import Node, Text, Wishes

_NEVER = frozenset({
    ".yaml", ".yml", ".ini", ".toml", ".cfg", ".conf", ".py", ".pyc", ".so", ".dll", ".ttf", ".otf", ".env", ".sh", ".md", ".html", ".xml",
    ".ipynb", ".proto", ".pem", ".key", ".log", ".lock", ".gin", ".tex", ".exe", ".mplstyle", ".pyi", ".egg", ".whl",
})  # fmt: skip
"""What tells a program how it is to run, and no data."""
_SETTINGS = re.compile(r"config|param|setting|option|args|cfg|credential|secret|token\.json|api_?key", re.IGNORECASE)
_BINARY = frozenset({
    ".npy", ".npz", ".mat", ".h5", ".hdf5", ".hdf", ".pkl", ".pickle", ".p", ".pk", ".pt", ".pth", ".tar", ".ckpt", ".bin", ".joblib",
    ".parquet", ".feather", ".xlsx", ".xls", ".gz", ".bz2", ".xz", ".dat", ".mmap", ".t7", ".th", ".model",
})  # fmt: skip


_SYSTEM = ("/sys/", "/proc/", "/dev/", "/etc/", "/usr/", "/lib", "/run/", "/bin/", "/sbin/")


def may_be_data(path: str) -> bool:
    """Whether a file that is not there may be made up: it is no setting, and no program."""
    name, ending = Path(path).name, Path(path).suffix.lower()
    if path.startswith(_SYSTEM):
        return False
    return ending not in _NEVER and not (ending in ("", ".json", ".txt") and _SETTINGS.search(name)) and not name.startswith(".")


def is_binary(path: str) -> bool:
    """Whether a file's name says that it is no text."""
    return Path(path).suffix.lower() in _BINARY


class Blanks:
    """The files that were made up so in one run. Their content is decided by who reads them."""

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self._real: dict[str, str] = {}  # by every path under which one is known: the script's
        self._families: dict[str, list[str]] = {}  # the folders that were made up, and their files in the order in which they are read
        self._lines: dict[str, tuple[str, int]] = {}  # by a made-up line: its file, and which one it is
        self._places: dict[str, str] = {}
        self._folders: dict[str, tuple[str, str]] = {}
        self.weights: dict[str, str] = {}  # files of weights that were not there, with the line that reads them

    def add(self, path: str, twin: str, place: str, *, said: bool = True) -> None:
        """A file in the mirror that stands for one that is not there. `said`: whether nobody else says so."""
        self._real[path] = self._real[twin] = path
        if said:
            self._places[path] = place
        key = self._key(path)
        if key not in self.wishes.used:
            self.wishes.used.append(key)

    def add_folder(self, path: str) -> None:
        """A folder that was made up: its files are alike."""
        self._families[path] = []

    def said_of_folder(self, path: str, what: str, place: str) -> None:
        """A folder that was made up, in words."""
        self._folders[path] = (what, place)

    def path_of(self, file: Any) -> str | None:
        """The script's path of a file that was made up here, by its name or an open file; None for all others."""
        for _ in range(4):  # gzip and bz2 keep the file within
            name = getattr(file, "name", None) if hasattr(file, "read") else file
            if isinstance(name, str | bytes | os.PathLike):
                return self._real.get(os.path.abspath(os.fsdecode(name)))  # noqa: PTH100 - as the mirror has it
            file = getattr(file, "fileobj", None) or getattr(file, "_fp", None) or getattr(file, "buffer", None)
        return None

    def node(self, path: str) -> tuple[Node, int | None]:
        """What is known of a file; of one in a folder of its like, also which one it is."""
        key = self._key(path)
        known = self.wishes.node(key)
        if key == path:
            return known, None
        known.whole = True
        files = self._families[str(Path(path).parent)]
        if path not in files:
            files.append(path)
        return known, files.index(path)

    def content(self, path: str, kind: str = "", library: str = "") -> Any:
        """What a reader gets. `kind`: of which it can be only one."""
        node, row = self.node(path)
        if kind and not node.kind:
            made = Undecided(node, self.wishes, row)
            return made._become(kind, library)
        node.library = library or node.library
        return real(node, self.wishes, row)

    def text(self, path: str, lines: list[str], *, named: bool = True) -> str:
        """The text of a file: some lines, or as errors have told; `named`: each ends with the name of its file, as those of no other do."""
        told = self.wishes.texts.get(self._key(path))
        if told is not None:
            size = (
                max(told.pieces - told.words, 1) if told.pieces else self.wishes.size(f"{Path(path).stem}|numbers") if told.numbers else 0
            )
            lines = [_line(told, line, i, size) for i, line in enumerate(lines)]
        if told is None and named:
            lines = [f"{line} {Path(path).stem}" if " " in line else line for line in lines]
        self._lines.update({line.strip(): (path, i) for i, line in enumerate(lines)})
        return "\n".join(lines) + "\n"

    def of_line(self, line: Any) -> tuple[Node, int] | None:
        """What is known of a line of a text that is not there, and which line it is."""
        found = self._lines.get(line.strip()) if isinstance(line, str) else None
        return (self.wishes.node(self._key(found[0])).part("[]", whole=True), found[1]) if found is not None else None

    def text_key(self, path: str) -> str:
        """Under which name what is known of a text is kept."""
        return self._key(path)

    def has_torch(self) -> bool:
        """Whether something was read that torch would have saved."""
        return any(node.library == "torch" for node in self.wishes.files.values())

    def keeps_weights(self, state: Any) -> None:
        """A network, or an optimizer, was to get weights out of a file that is not there."""
        held = getattr(state, "__dict__", {}).get("made_of")
        for path, place in self._places.items():
            known = self.wishes.files.get(self._key(path))
            if known is not None and (held is None or any(held[0] is node for node in known.walk())) and known.library == "torch":
                self.weights[path] = place

    def notes(self, shown: Callable[[str], str]) -> list[str]:
        """What was made up, with the line that reads it."""
        said: list[str] = []
        for path, place in self._places.items():
            if path in self.weights:
                continue
            node = self.wishes.files.get(self._key(path))
            what = says(node, self.wishes) if node is not None and node.kind else "what the code makes of it"
            choice = Assumption("data", shown(path), what, "its data are not there", varied=True)
            said.append(Chosen(f"made-up data instead of {shown(path)}: {what}{place}", choice))
        for path, (what, place) in self._folders.items():
            choice = Assumption("data", shown(path), what, "its data are not there", varied=True)
            said.append(Chosen(f"made-up data instead of the folder {shown(path)}: {what}{place}", choice))
        said += [
            f"{shown(p)} is not there: the network keeps the weights that it was made with{place}" for p, place in self.weights.items()
        ]
        return list(dict.fromkeys(said))[:12]

    def _key(self, path: str) -> str:
        folder = str(Path(path).parent)
        return f"{folder}/*{Path(path).suffix}" if folder in self._families else path


def _line(told: Text, line: str, row: int, size: int) -> str:
    """A line of as many pieces as the code takes it apart into; of `size` numbers, behind some words."""
    words, between = line.split(), told.between or " "
    if told.numbers:
        numbers = [f"{(row * 7 + i * 13) % 100 / 100:.2f}" for i in range(size)]
        return between.join([*(f"{words[i % len(words)]}{row}" for i in range(told.words)), *numbers])
    if between.strip():
        return between.join(" ".join(words[i:] + words[:i]) for i in range(told.pieces))
    return between.join(words[i % len(words)] for i in range(told.pieces or len(words)))
