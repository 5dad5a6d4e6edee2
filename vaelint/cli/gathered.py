"""The results of a check as they come: printed at once for a person who reads along, and not lost where the check is interrupted."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from vaelint.cache.store import Cache
from vaelint.cli import terminal
from vaelint.cli.outcome import Report, Shown, to_stdout, view_of, write_reports
from vaelint.config.settings import Settings, Target
from vaelint.core.checked import Checked
from vaelint.policy.judge import adjusted, flattened
from vaelint.process.progress import Watched
from vaelint.report import full
from vaelint.report.parts.closing import total
from vaelint.report.parts.text import paint


class Gathered:
    """What a check has found so far. `live`: each result is printed when it is there."""

    def __init__(self, shown: Shown, *, live: bool) -> None:
        self.shown, self.live = shown, live
        self._held: list[Checked] = []
        self._printed: list[Checked] = []
        self.cache: Cache | None = None  # of the results of the whole command

    def take(self, checked: Checked, target: Target, settings: Settings, eyes: Watched | None = None) -> None:
        """One more, of `target`. What is printed is as comments and configuration want it."""
        new, own = flattened([checked], replace(settings, targets=(target,)))
        ready = [replace(one, result=copy.deepcopy(one.result)) for one in new]
        adjusted([one.result for one in ready], own)
        self._held += ready
        if self.live:
            with eyes.aside() if eyes is not None else nullcontext():
                for one in ready:
                    self._print(one)

    def _print(self, one: Checked) -> None:
        text = full.render([one.result], view_of([one], self.shown))
        to_stdout(("\n" if self._printed else "") + text, guarded=True)
        self._printed.append(one)

    def close(self, results: Sequence[Checked], reports: Sequence[Report]) -> None:
        """The end of a check: the last line of what was printed, else the reports."""
        if not self.live:
            write_reports(results, reports, self.shown)
        elif len(results) > 1:
            colour = terminal.colour(self.shown.color, to_file=False)
            to_stdout("\n" + paint(total([r.result for r in results]), colour), guarded=True)

    def interrupted(self, reports: Sequence[Report]) -> None:
        """Ctrl-C: what was found until then is reported, and that it is not all."""
        if self._held and not self.live:
            write_reports(self._held, reports, self.shown)
        sys.stdout.flush()
        terminal.say(f"interrupted: {terminal.counted(len(self._held), 'result')} until then, and not all")
