"""Files that a script reads and that are not there, made up in the scratch folder: images, folders of them, files of public data sets."""

from __future__ import annotations

import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vaelint.observe.data.made_tables import ROWS, TABLES, TEXTS, made_table, made_text
from vaelint.observe.data.pictures import drawn
from vaelint.observe.data.public_files import public_file, sentence
from vaelint.observe.data.stood_in import instead_of
from vaelint.observe.data.unknown.blanks import Blanks, is_binary, may_be_data

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
COUNT = 300
_DISTINCT = 16
_OPENS = re.compile(r"Image\.open|imread|ImageFolder|read_image|default_loader|decode_(jpeg|png|image)|load_img")
_RESIZES = re.compile(r"Resize|CenterCrop|RandomCrop|RandomResizedCrop|\.resize\(|thumbnail\(|Scale\(|interpolate\(")
_COMMENT = re.compile(r"#[^\n]*")
_VIEWED = re.compile(
    r"(?:view|reshape|randn|rand|zeros|ones|unflatten)\(\s*(?:[\w.*-]+\s*,\s*){0,2}([134])\s*,\s*(\d{2,3})\s*,\s*(\d{2,3})\s*\)"
)
_TAKEN_APART = re.compile(r"""\.split\(\s*["']([_-])["']""")
_ENDINGS = re.compile(r"""["'*]\.?(jpe?g|png|bmp|webp|tiff?)["']""", re.IGNORECASE)


def told_shape(texts: str) -> tuple[int, int, int] | None:
    """Channels, height and width where the code writes them out: `x.view(-1, 1, 120, 160)`; the first that it writes."""
    found = _VIEWED.search(_COMMENT.sub("", texts))
    return (int(found[1]), int(found[2]), int(found[3])) if found is not None else None


def guessed_size(texts: str, *, other: bool = False) -> tuple[int, int]:
    """Height and width of made-up images: any, where the code brings them to a size of its own; else one that many models take.

    `other` gives another guess, for what must hold at both.
    """
    if _RESIZES.search(_COMMENT.sub("", texts)):
        return (250, 250) if other else (218, 218)  # square: `Resize(64)` alone keeps what is not
    return (128, 128) if other else (64, 64)


class AbsentFiles:
    """Makes what is read and is not there.

    `guessed`: images whose size nothing tells, with the line that reads them. `invented`: tables and texts of which nothing but their
    kind is known, each with its line. `public`: files of public data sets, which have their shapes and fewer rows, each with its line.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        place: Callable[[], str],
        sources: Callable[[], str],
        *,
        other: bool = False,
        needed: Callable[[], bool] = lambda: True,
        blanks: Blanks | None = None,
    ) -> None:
        """`place` is the script's line that is running, `sources` the text of the files of the script that are running.

        `other`: images get another size than they get at first, and tables another number of columns.
        `needed`: whether the script cannot do without what it reads. `blanks`: files of which nothing but their use is known; without
        it none are made.
        """
        self._blanks = blanks
        self._note, self._place, self._sources, self._other, self._needed = note, place, sources, other, needed
        self.invented: list[tuple[str, str]] = []
        self.public: list[tuple[str, str]] = []
        self._pictures: dict[tuple[int, int, int], list[bytes]] = {}
        self.guessed: list[str] = []

    def __call__(self, path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None], listed: bool) -> bool:
        """Makes `twin` in the place of `path`, if it is known what that is. `listed`: it is read as a folder."""
        if not self._place():
            return False
        if listed:
            return self._folder(path, twin, open_file, make_folder) or self._alike(path, twin, open_file, make_folder)
        known = public_file(Path(path).name)
        if known is not None:
            make_folder(str(Path(twin).parent))
            try:
                with open_file(twin, "wb") as file:
                    said = known.write(file)
            except ModuleNotFoundError:  # what reads it is not installed either
                return False
            self._note(instead_of(f"{_shown(path)} ({known.what})", said))
            self.public.append((path, self._place()))
            if self._blanks is not None:
                self._blanks.wishes.public = True
            return True
        if (other := _other_split(path)) is not None and not self._is_hollow(other):
            make_folder(str(Path(twin).parent))
            with open_file(twin, "wb") as file:
                file.write(Path(other).read_bytes())  # which may have been made up itself
            self._note(instead_of(_shown(path), f"a copy of {_shown(other)}"))
            return True
        if Path(path).suffix.lower() in IMAGES:
            make_folder(str(Path(twin).parent))
            with open_file(twin, "wb") as file:
                file.write(self._picture(len(path), self._shape(self._sources())))
            folder = _shown(str(Path(path).parent))
            self._guess(folder, f"made-up images instead of those in {folder}")
            return True
        return self._invented(path, twin, open_file, make_folder) or self._blank(path, twin, open_file, make_folder)

    def _is_hollow(self, path: str) -> bool:
        """Whether a file was made up that holds nothing itself: what it holds is made as its reader uses it."""
        return self._blanks is not None and is_binary(path) and self._blanks.path_of(path) is not None

    def _blank(self, path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None]) -> bool:
        """A file that holds what its reader makes of it."""
        if self._blanks is None or not may_be_data(path) or not self._needed():
            return False
        make_folder(str(Path(twin).parent))
        with open_file(twin, "w", encoding="utf-8") as file:
            lines = [sentence(i) for i in range(ROWS)]
            file.write("" if is_binary(path) else self._blanks.text(path, lines))
        self._blanks.add(path, twin, self._place())
        self._blanks.wishes.last_text = "" if is_binary(path) else self._blanks.text_key(path)
        self.invented.append((path, self._place()))
        return True

    def _invented(self, path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None]) -> bool:
        """A table, or a text, of which only its kind is known: a script that cannot do with it is told that the file is not there."""
        kind = Path(path).suffix.lower()
        if kind not in (*TABLES, *TEXTS) or not self._needed():
            return False
        code, between = self._sources(), "\t" if kind == ".tsv" else ","
        wishes = self._blanks.wishes if self._blanks is not None else None
        text, said = made_text(path, code) if kind in TEXTS else made_table(code, between, other=self._other, wishes=wishes)
        if self._blanks is not None and kind in TEXTS:
            text = self._blanks.text(path, text.splitlines(), named=False)  # whose words are in a vocabulary
            self._blanks.add(path, twin, self._place(), said=False)
            self._blanks.wishes.last_text = self._blanks.text_key(path)
        elif wishes is not None:
            wishes.tables = True
        make_folder(str(Path(twin).parent))
        with open_file(twin, "w", encoding="utf-8") as file:
            file.write(text)
        self.invented.append((path, self._place()))
        self._note(instead_of(_shown(path), said, varied=kind in TABLES))
        return True

    def _folder(self, path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None]) -> bool:
        """A folder of images, where the running code reads images; of two classes, where it is torchvision that looks for classes."""
        sources = self._sources()
        if not _OPENS.search(sources) or Path(path).suffix or path in map(os.path.abspath, sys.path):  # Python itself looks for modules
            return False
        ending = next((m[1] for m in _ENDINGS.finditer(sources)), "jpg")
        shape = self._shape(sources)
        nested = self._blanks is not None and self._blanks.wishes.nested
        below = _CLASSES[:2] if nested or "find_classes" in sources or "ImageFolder" in sources else ("",)
        pieces = 0
        if self._blanks is not None:
            self._blanks.wishes.images = self._blanks.wishes.folders = True
            pieces = self._blanks.wishes.pieces
        for folder in below:
            make_folder(str(Path(twin) / folder))
            for number in range(COUNT // len(below)):
                with open_file(str(Path(twin) / folder / f"{_name(number, sources, pieces)}.{ending}"), "wb") as file:
                    file.write(self._picture(number, shape))
        self._guess(_shown(path), f"{COUNT} made-up images instead of the folder {_shown(path)}")
        return True

    def _alike(self, path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None]) -> bool:
        """A folder of files of one kind, which the running code names by their ending."""
        ending = next((m[1].lower() for m in _ALIKE.finditer(_COMMENT.sub("", self._sources()))), None)
        if self._blanks is None or ending is None or Path(path).suffix or path in map(os.path.abspath, sys.path):
            return False
        if not may_be_data(path) or not self._needed():
            return False
        below = _CLASSES if self._blanks.wishes.nested else ("",)
        self._blanks.wishes.folders = True
        for kind in below:
            own, there = os.path.join(path, kind).rstrip("/"), os.path.join(twin, kind).rstrip("/")  # noqa: PTH118 - as the mirror knows them
            self._blanks.add_folder(own)
            make_folder(there)
            for number in range(_FILES // len(below)):
                name = f"{_name(number, self._sources(), self._blanks.wishes.pieces)}.{ending}"
                file, made = os.path.join(own, name), os.path.join(there, name)  # noqa: PTH118
                with open_file(made, "w", encoding="utf-8") as opened:
                    opened.write("" if is_binary(name) else self._blanks.text(file, [sentence(i) for i in range(ROWS)]))
                self._blanks.add(file, made, "", said=False)
        self._blanks.said_of_folder(path, f"{_FILES} files that end in .{ending}", self._place())
        self.invented.append((path, self._place()))
        return True

    def _shape(self, sources: str) -> tuple[int, int, int]:
        """Channels, height and width: as the code writes them out, if it leaves images in their size."""
        size = guessed_size(sources, other=self._other)
        told = told_shape(sources)
        return told if told is not None and size == guessed_size("", other=self._other) else (3, *size)

    def _guess(self, folder: str, what: str) -> None:
        sources = self._sources()
        shape = self._shape(sources)
        size = "x".join(map(str, shape))
        said = f"{what}, of {size}"
        if said not in self.guessed:
            self.guessed.append(said)
            self._note(instead_of(folder, f"images of {size}", said, varied=shape != told_shape(sources)))

    def _picture(self, number: int, shape: tuple[int, int, int]) -> bytes:
        """A PNG, which readers of images know by its content."""
        if shape not in self._pictures:
            channels, height, width = shape
            self._pictures[shape] = [png(image) for image in drawn(_DISTINCT, height, width, 1 if channels == 1 else 3, seed=height)]
        return self._pictures[shape][number % _DISTINCT]


_FILES = 60
_CLASSES = ("a", "b", "c", "d")  # folders of a folder of files, where its code expects some
_ALIKE = re.compile(r"""["'*]\.(npy|npz|mat|pkl|pickle|pt|pth|h5|hdf5|csv|txt|json|jsonl)["']""", re.IGNORECASE)
_SPLITS = re.compile(r"(?<![a-z])(train(?:ing)?|test|valid(?:ation)?|val|dev|eval)(?![a-z])", re.IGNORECASE)


def _other_split(path: str) -> str | None:
    """Another part of the same data, `data/val.txt` of `data/train.txt`: what is large is often not kept beside what is small."""
    name, folder = Path(path).name, Path(path).parent
    if not _SPLITS.search(name) or Path(path).suffix.lower() not in _KEPT or not folder.is_dir():
        return None
    same = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name != name and _SPLITS.sub("", f.name) == _SPLITS.sub("", name)]
    return max(same, key=lambda f: f.stat().st_size).as_posix() if same else None


_KEPT = (
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".npy",
    ".npz",
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".mat",
    ".h5",
    ".hdf5",
    ".gz",
    ".data",
)
"""How data end: what is written by a training, as `train.log`, is not read."""


def _name(number: int, sources: str, pieces: int = 0) -> str:
    """The name of an image: of several numbers, as names that say labels are, where the code takes names apart; of four, or so many."""
    between = _TAKEN_APART.search(sources)
    if between is None:
        return f"{number:06d}"
    numbers = [number % 50, *(number % (2 + i) for i in range((pieces or 4) - 2))]
    return between[1].join([*map(str, numbers), f"{number:06d}"])


def png(image: torch.Tensor) -> bytes:
    """An image (3, H, W), or a grey one (1, H, W), of 8-bit values as a PNG: https://www.w3.org/TR/png-3/."""
    channels, height, width = image.shape
    rows = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), image.permute(1, 2, 0).reshape(height, -1)], dim=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows.flatten().tolist()), 1)) + chunk(b"IEND", b"")
    )


def _shown(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative).as_posix()
