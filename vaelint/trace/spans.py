"""From a running frame to the exact expression in the user's source."""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from types import CodeType, FrameType

import torch

from vaelint.core.finding import Span
from vaelint.core.paths import is_cell
from vaelint.record.sampled import Sampled
from vaelint.source.notebook import source_of_file
from vaelint.trace import keras_places

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ENTRY = os.path.join(_OURS, "pipeline", "check.py")
_STDLIB = tuple({os.path.abspath(sysconfig.get_path(k)) + os.sep for k in ("stdlib", "platstdlib")})
_SITE = f"{os.sep}site-packages{os.sep}"  # of an environment that this one builds on
_SCRATCH = f"{os.sep}vaelint-run-"  # where a library that writes modules for itself writes them while a script is watched
_KERAS = tuple(f"{_SITE}{name}{os.sep}" for name in ("keras", "optree"))  # layers on torch, as torch's own are
_PACKAGES = tuple({os.path.abspath(sysconfig.get_path(k)) + os.sep for k in ("purelib", "platlib")})

_UNTIDY = re.compile(r"/\.{0,2}(/|\Z)")  # what is to be made straight before a path says where it lies


class SpanFinder:
    """Finds user code on the stack. `home` is the folder (or package) of the checked file: it is user code wherever it lies."""

    def __init__(self, home: str, base: str | None = None) -> None:
        self._home = os.path.abspath(home) + os.sep
        self._base = os.path.abspath(base or os.getcwd())
        self._stands: tuple[Span, ...] = ()
        self.frames: dict[CodeType, FrameType] | None = None  # those of user code that were met, the last of each, where they are wanted
        self.sampled: Sampled | None = None  # the site whose log-density is being computed
        self.risen: dict[Span, float] = {}  # where a weight that is 0 is to be what it comes to later
        self._is_user: dict[str, bool] = {}
        self._spans: dict[tuple[CodeType, int], Span | None] = {}
        self._positions: dict[CodeType, list[tuple[int | None, int | None, int | None, int | None]]] = {}
        self._lines: dict[str, list[bytes]] = {}

    def is_user(self, filename: str) -> bool:
        """Whether a file is the user's: not torch, not the standard library, not ours, not another installed package."""
        known = self._is_user.get(filename)
        if known is None:
            path = filename if filename.startswith(os.sep) and not _UNTIDY.search(filename) else os.path.abspath(filename)
            foreign = path.startswith((_TORCH, _OURS, *_PACKAGES)) or path.startswith(_STDLIB) or _SITE in path or _SCRATCH in path
            known = (self._is_own(path) or not foreign) and not path.startswith((_TORCH, _OURS))
            known = is_cell(filename) if filename.startswith("<") else known and not filename.endswith((".pyx", ".pxd", ".pxi"))
            self._is_user[filename] = known
        return known

    def _is_own(self, path: str) -> bool:
        """Whether a file lies in the folder of the checked file, and not in an environment below that."""
        if not path.startswith(self._home) or _SITE in path[len(self._home) - 1 :]:
            return False
        return not any(path.startswith(there) and there.startswith(self._home) for there in (*_STDLIB, *_PACKAGES))

    def relative(self, filename: str) -> str:
        """The path as a report shows it: relative to the working directory where it lies below it, with `/`."""
        if is_cell(filename):
            return filename
        path = os.path.abspath(filename)
        if path.startswith(self._base + os.sep):
            path = os.path.relpath(path, self._base)
        return path.replace(os.sep, "/")

    def stack(self, frame: FrameType | None, limit: int = 8) -> tuple[Span, ...]:
        """The user's places from `frame` outwards, innermost first."""
        if self._stands:
            return self._stands[:limit]
        found: list[Span] = []
        while frame is not None and len(found) < limit and frame.f_code.co_filename != _ENTRY:
            user = self.is_user(frame.f_code.co_filename)
            if user and self.frames is not None:
                self.frames[frame.f_code] = frame
            place = (frame.f_code, frame.f_lasti) if user else keras_places.of_graph(frame)
            if place is not None and (span := self.span(*place)) is not None:
                found.append(span)
            frame = frame.f_back
        return tuple(found)

    @contextlib.contextmanager
    def standing_at(self, places: tuple[Span, ...], sampled: Sampled | None = None) -> Iterator[None]:
        """Within the block what runs is said to run at these places, innermost first; an empty tuple changes nothing. What is made there
        belongs to the log-density of `sampled`."""
        before = self._stands, self.sampled
        self._stands, self.sampled = places or self._stands, sampled
        try:
            yield
        finally:
            self._stands, self.sampled = before

    def written(self, frame: FrameType | None) -> Span | None:
        """The user's place that called torch itself; None where a library did so."""
        frame = _behind_torch(frame)
        return self.span(frame.f_code, frame.f_lasti) if frame is not None and self.is_user(frame.f_code.co_filename) else None

    def library(self, frame: FrameType | None) -> str:
        """The package that called torch for the user; empty where the user's own code did."""
        frame = _behind_torch(frame)
        if frame is None or self.is_user(frame.f_code.co_filename):
            return ""
        return os.path.abspath(frame.f_code.co_filename).rpartition(_SITE)[2].partition(os.sep)[0].removesuffix(".py")

    def user_frames(self, frame: FrameType | None, limit: int = 8) -> list[FrameType]:
        """The frames of the user's code that have a place, from `frame` outwards, innermost first."""
        found: list[FrameType] = []
        while frame is not None and len(found) < limit:
            code = frame.f_code
            if code.co_filename == _ENTRY:
                break  # who called vaelint is not part of the step
            if self.is_user(code.co_filename) and self.span(code, frame.f_lasti) is not None:
                found.append(frame)
            frame = frame.f_back
        return found

    def span(self, code: CodeType, lasti: int) -> Span | None:
        """The expression that instruction `lasti` of `code` evaluates."""
        key = (code, lasti)
        if key not in self._spans:
            positions = self._positions.get(code)
            if positions is None:
                positions = self._positions[code] = list(code.co_positions())
            line, end_line, column, end_column = positions[lasti // 2] if 0 <= lasti // 2 < len(positions) else (None,) * 4
            if line is None:
                self._spans[key] = None
            else:
                self._spans[key] = Span(
                    self.relative(code.co_filename),
                    line,
                    self._characters(code.co_filename, line, column) + 1,
                    end_line,
                    self._characters(code.co_filename, end_line, end_column) + 1,
                )
        return self._spans[key]

    def _characters(self, filename: str, line: int | None, offset: int | None) -> int:
        """Columns of code objects count UTF-8 bytes; ours count characters."""
        if line is None or offset is None:
            return 0
        if filename not in self._lines:
            try:
                self._lines[filename] = source_of_file(filename).splitlines()
            except (OSError, ValueError):
                self._lines[filename] = [text.encode() for text in linecache.getlines(filename)]
        lines = self._lines[filename]
        return len(lines[line - 1][:offset].decode("utf-8", "replace")) if line <= len(lines) else offset

    def of_traceback(self, error: BaseException) -> tuple[Span, ...]:
        """The user's frames of an exception, innermost first."""
        found = []
        tb = error.__traceback__
        while tb is not None:
            code = tb.tb_frame.f_code
            if self.is_user(code.co_filename) and (span := self.span(code, tb.tb_lasti)) is not None:
                found.append(span)
            tb = tb.tb_next
        return tuple(reversed(found))


def _behind_torch(frame: FrameType | None) -> FrameType | None:
    while frame is not None and _between(os.path.abspath(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame


def _between(path: str) -> bool:
    """Whether a file is torch's, Keras', ours or Python's own: what calls it is responsible."""
    if any(name in path for name in _KERAS):
        return True
    return path.startswith((_TORCH, _OURS)) or (path.startswith(_STDLIB) and _SITE not in path)


def caller(depth: int = 1) -> FrameType:
    """The frame `depth` calls above the caller of this function."""
    return sys._getframe(depth + 1)
