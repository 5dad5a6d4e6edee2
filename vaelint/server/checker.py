"""The thread that checks for an editor, with one worker that is kept: what is newer ends what is older. Imports no torch."""

from __future__ import annotations

import copy
import threading
import traceback
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from vaelint.cache.folder import of_results
from vaelint.cache.store import Cache
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import Settings, resolve
from vaelint.core.checked import Checked
from vaelint.core.errors import ConfigurationError, Stopped, UsageError
from vaelint.core.finding import Certainty, Severity
from vaelint.core.paths import real
from vaelint.core.result import Request
from vaelint.policy.judge import flattened, judge
from vaelint.process import gate, verify
from vaelint.server.finder import Finder
from vaelint.server.target_state import Outcome, VerifiedFix, read_by


class Listener(Protocol):
    """Who is told what goes on; called in the thread of the checks."""

    def begins(self, what: str) -> None: ...

    def goes_on(self, what: str, done: int, of: int) -> None: ...

    def ends(self, what: str) -> None: ...

    def changed(self, outcomes: list[Outcome], wrong: list[ConfigurationError]) -> None: ...

    def says(self, message: str, help: str, *, loud: bool) -> None: ...


class Checker(threading.Thread):
    """Checks the targets of files that are opened or saved, then looks for fixes of what was found."""

    def __init__(self, listener: Listener, *, fixes: bool = True) -> None:
        super().__init__(name="vaelint checks", daemon=True)
        self._listener, self._fixes = listener, fixes
        self._told = threading.Condition()
        self._pending: dict[str, None] = {}
        self._busy = ""  # "", "checking" or "mending"
        self._cancelled = self._over = False
        self._hired = gate.Hired()
        self._finder = Finder(self._hired, partial(listener.says, loud=False))
        self._outcomes: dict[Request, Outcome] = {}
        self._wrong: dict[str, ConfigurationError] = {}

    def wants(self, file: str, *, saved: bool) -> None:
        """A file was opened, or saved: what is being checked is then out of date."""
        with self._told:
            self._pending[file] = None
            if self._busy == "mending" or (saved and self._busy):
                self._hired.worker().interrupt()
            self._told.notify()

    def closed(self, file: str, left: Iterable[str]) -> None:
        """A file was closed: targets that none of those `left` open is read by are forgotten."""
        with self._told:
            self._pending.pop(file, None)
            kept = [str(real(f)) for f in left]
            for request, outcome in list(self._outcomes.items()):
                if not any(outcome.reads(f) for f in kept):
                    del self._outcomes[request]
        self._publish()

    def cancel(self) -> None:
        """The person does not want to wait."""
        with self._told:
            self._cancelled = bool(self._busy)
            self._pending.clear()
            if self._busy:
                self._hired.worker().interrupt()

    def stop(self) -> None:
        """Ends the thread and the worker."""
        with self._told:
            self._over = True
            if self._busy:
                self._hired.worker().interrupt()
            self._told.notify()

    def run(self) -> None:
        """Until `stop`."""
        with self._hired:
            try:
                self._hired.worker().warm()
            except UsageError as e:
                self._listener.says(e.message, e.help, loud=True)
            while (files := self._next()) is not None:
                self._guarded(files)

    def _next(self) -> list[str] | None:
        """The files to check; none where there is time to look for fixes; None at the end."""
        with self._told:
            self._busy = ""
            self._told.wait_for(lambda: self._pending or self._over or self._unmended())
            files, self._pending = list(self._pending), {}
            self._busy, self._cancelled = "checking" if files else "mending", False
            self._hired.worker().go_on()
            return None if self._over else files

    def _guarded(self, files: list[str]) -> None:
        """One round, whose faults end no thread."""
        said = "cancelled"
        try:
            if files:
                said = self._round(files)
            else:
                self._mend(self._unmended()[0])
                said = "done"
        except Stopped:
            with self._told:
                if not self._cancelled:
                    self._pending = dict.fromkeys([*files, *self._pending])
                    said = "started again"
                else:
                    for outcome in self._unmended():
                        outcome.mended = True
        except UsageError as e:
            said = "stopped"
            self._listener.says(e.message, e.help, loud=True)
        except Exception as e:  # noqa: BLE001 - a fault of ours is told, and the next save is checked all the same
            said = "stopped by a fault of vaelint"
            text = "".join(traceback.format_exception(e))
            self._listener.says(f"internal error: {type(e).__name__}: {e}", f"please report it:\n{text}", loud=True)
        self._listener.ends(said)

    def _round(self, files: list[str]) -> str:
        """Checks what reads these files. Returns what came of it, in a few words."""
        self._listener.begins("looking for models")
        asked: list[Settings] = []
        known = {r: o.checked for r, o in self._outcomes.items()}
        self._wrong = {str(e.file): e for e in map(_still, self._wrong.values()) if e is not None}
        for file in files:
            try:
                found = self._finder.settings_for(file, known)
            except ConfigurationError as e:
                self._wrong[str(e.file)] = e
                continue
            for settings in found:
                asked.append(settings)
                self._drop_unasked(settings)
        count = sum(len(s.requests) for s in asked)
        if not count:
            self._publish()
        for settings in asked:
            self._check(settings, count)
        return "done" if count else "no model here that vaelint checks"

    def _drop_unasked(self, found: Settings) -> None:
        """Forgets targets that the configuration does not have any more."""
        if not found.config.targets:
            return
        named = {(t.target, t.run) for t in found.config.targets}
        with self._told:
            for request, outcome in list(self._outcomes.items()):
                same = outcome.settings.config.file == found.config.file
                replaced = any((request.target, request.run) == (t.target, t.run) and request != t for t in found.requests)
                if same and ((request.target, request.run) not in named or replaced):
                    del self._outcomes[request]

    def _check(self, settings: Settings, of: int) -> None:
        targets = {t.request: t for t in settings.targets}
        done = 0
        cache = Cache(of_results(), lambda text: self._listener.says(text, "", loud=False))

        def on_stage(request: Request, stage: str) -> None:
            self._listener.goes_on(f"{request.target}: {stage}", done, of)

        def on_next(checked: Checked) -> None:
            nonlocal done
            done += 1
            self._take(checked, replace(settings, targets=(targets[checked.request],)))

        gate.run(settings.requests, self._hired, cache=cache, jobs=settings.jobs.value, on_stage=on_stage, on_next=on_next)

    def _take(self, checked: Checked, settings: Settings) -> None:
        """One more result: judged, kept and shown."""
        flat, own = flattened([checked], settings)
        shown = [copy.deepcopy(one.result) for one in flat]
        try:
            judge(shown, own)
        except UsageError as e:
            if settings.config.file is None:
                raise
            self._wrong[str(settings.config.file)] = ConfigurationError(e.message, e.help, file=settings.config.file, key="baseline")
        with self._told:
            self._outcomes[checked.request] = Outcome.of(settings.targets[0], settings, checked, shown)
        self._publish()

    def _publish(self) -> None:
        with self._told:
            outcomes = list(self._outcomes.values())
        self._listener.changed(outcomes, list(self._wrong.values()))

    def _unmended(self) -> list[Outcome]:
        """The targets whose findings nobody has looked for fixes of."""
        return [o for o in self._outcomes.values() if self._fixes and not o.mended and o.checked.request.fixes and _mendable(o)]

    def _mend(self, outcome: Outcome) -> None:
        """Looks for a fix of each finding by itself, so that each can be applied to the file as it is."""
        run = self._hired.worker().run
        self._listener.begins(f"verifying fixes for {outcome.target.request.target}")
        if outcome.checked.kept:  # results that were kept have no proposals
            outcome.checked = run(outcome.checked.request)
        wanted = _mendable(outcome)
        for number, fingerprint in enumerate(wanted):
            self._listener.goes_on(f"fix {number + 1} of {len(wanted)}", number, len(wanted))
            if not outcome.checked.proposals.get(fingerprint):
                continue
            file = next(f.span.file for f in outcome.checked.result.findings if f.fingerprint == fingerprint)
            others = [o.checked for o in read_by(self._outcomes.values(), file) if o is not outcome]
            leave = [_all(outcome.checked) - {fingerprint}, *(_all(o) for o in others)]
            done = verify.mend([outcome.checked, *others], run, leave)
            if done.fixes:
                outcome.fixes[fingerprint] = VerifiedFix(done.fixes[0].proposal, dict(done.before))
                self._publish()
        outcome.mended = True


def _still(error: ConfigurationError) -> ConfigurationError | None:
    """What is wrong with a configuration now."""
    try:
        resolve([], config.load(error.file.parent), Options())
    except ConfigurationError as e:
        return e
    return None


def _mendable(outcome: Outcome) -> list[str]:
    """The fingerprints of findings that stand, are nobody's decision and no mere remark."""
    standing = {f.fingerprint for r in outcome.shown[:1] for f in r.findings if f.stands(Severity.WARNING)}
    found = [f.fingerprint for f in outcome.checked.result.findings if f.certainty is not Certainty.REFUTED]
    return [f for f in found if f in standing and f not in outcome.fixes]


def _all(checked: Checked) -> set[str]:
    return {f.fingerprint for f in checked.result.findings}
