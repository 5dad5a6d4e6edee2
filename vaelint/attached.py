"""A watch that a library's callback puts on a training: it looks on for some iterations, speaks, and the training goes on.

Imports torch only once a training begins.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from vaelint.api import Report
    from vaelint.observe.session import Session

_BARS = ("error", "warning", "info", "never")


class NotClean(Exception):
    """What a watched training was found to do wrong. `reports` holds what was seen of each model."""

    def __init__(self, reports: Sequence[Report]) -> None:
        super().__init__("\n" + "\n".join(map(str, reports)))
        self.reports = list(reports)


class Watching:
    """What the callbacks share."""

    def __init__(
        self,
        *,
        steps: int = 5,
        fail_on: str = "error",
        device: str = "auto",
        select: str | Sequence[str] = (),
        ignore: str | Sequence[str] = (),
    ) -> None:
        """
        Args:
            steps: iterations that are watched; the third gets fewer rows of its batch.
            fail_on: findings of this severity or worse raise `NotClean`, others warn: error, warning, info, or never.
            device: "none" leaves out the experiments.
            select, ignore: rules by code, prefix or name, as for `--select` and `--ignore`.

        Raises:
            ValueError: `fail_on` is none of these.
        """
        if fail_on not in _BARS:
            raise ValueError(f"fail_on is one of {', '.join(_BARS)}, not {fail_on!r}")
        self._steps, self._bar = steps, fail_on
        self._how: dict[str, Any] = {"device": device, "select": select, "ignore": ignore}
        self._file = _script()
        self._open: ExitStack | None = None
        self._session: Session | None = None
        self.reports: list[Report] = []

    def begin(self, models: Sequence[Any]) -> None:
        """The training of `models` is about to begin."""
        from vaelint.observe.hooks import watched
        from vaelint.observe.session import Session
        from vaelint.trace.spans import SpanFinder

        self.close()
        self._session = Session(SpanFinder(str(Path(self._file).absolute().parent)), self._steps, goes_on=True)
        self._session.modules += models
        self._open = ExitStack()
        self._open.enter_context(watched(self._session, stands_in=False))

    @property
    def is_due(self) -> bool:
        """Whether enough was seen."""
        return self._session is not None and self._session.stopped

    def end(self) -> None:
        """Checks what was seen, and says it. Raises NotClean where a finding is at or above the bar."""
        session = self._session
        if session is None:
            return
        session.over(None, sys._getframe(1))
        self.close()
        from vaelint.api import reports_of
        from vaelint.pipeline.restore import undisturbed

        with undisturbed():
            self.reports = reports_of(session, self._file, **self._how)
        self._say()

    def close(self) -> None:
        """Takes the watch off."""
        if self._open is not None:
            self._open.close()
        self._open = self._session = None

    def _say(self) -> None:
        from vaelint.core.finding import Certainty

        found = [f for r in self.reports for f in r.findings if f.certainty is not Certainty.REFUTED]
        analysed = all(r.status != "failed" for r in self.reports)
        if analysed and self._bar != "never" and any(_BARS.index(f.severity.value) <= _BARS.index(self._bar) for f in found):
            raise NotClean(self.reports)
        if found or not analysed:
            warnings.warn("vaelint: " + "\n".join(map(str, self.reports)), stacklevel=3)


def _script() -> str:
    """The file of the user's code that makes a callback: the innermost one outside of ours and of installed packages."""
    frame: FrameType | None = sys._getframe(1)
    ours = str(Path(__file__).parent)
    while frame is not None and (frame.f_code.co_filename.startswith((ours, "<")) or "site-packages" in frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith("<ipython"):
            break
        frame = frame.f_back
    return frame.f_code.co_filename if frame is not None else sys.argv[0]
