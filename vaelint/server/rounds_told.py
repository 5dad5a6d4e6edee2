"""What an editor shows while a check runs."""

from __future__ import annotations

import itertools
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer


class Told:
    """One round after the other, each with a progress of its own, where the editor knows what that is."""

    def __init__(self, server: LanguageServer) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._token = ""  # of the round that runs
        self._ready = False  # whether the editor has taken the token
        self._title = ""

    def begins(self, what: str) -> None:
        """A round; one that is not over is."""
        self.ends("")
        window = self._server.client_capabilities.window
        if not (window and window.work_done_progress):
            return
        self._token, self._ready, self._title = f"vaelint-{next(self._numbers)}", False, what
        token = self._token

        def created(_: Any) -> None:
            if self._token == token:
                self._ready = True
                begin = types.WorkDoneProgressBegin("vaelint", cancellable=True, message=self._title, percentage=0)
                self._server.work_done_progress.begin(token, begin)

        self._server.work_done_progress.create(token, created)

    def goes_on(self, what: str, done: int, of: int) -> None:
        """How far it is."""
        self._title = what
        if self._ready:
            report = types.WorkDoneProgressReport(message=what, percentage=100 * done // max(of, 1))
            self._server.work_done_progress.report(self._token, report)

    def ends(self, what: str) -> None:
        """It is over."""
        if self._ready:
            self._server.work_done_progress.end(self._token, types.WorkDoneProgressEnd(message=what))
        self._token, self._ready = "", False
