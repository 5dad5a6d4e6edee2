"""The language server: what an editor asks and is told. The checks are those of the command line, in a thread of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls import uris
from pygls.lsp.server import LanguageServer

from vaelint.core.errors import ConfigurationError
from vaelint.core.paths import real
from vaelint.core.version import __version__
from vaelint.core.visible import visible, visible_lines
from vaelint.process import verify
from vaelint.server.actions import Document, actions
from vaelint.server.checker import Checker
from vaelint.server.diagnostics import by_file
from vaelint.server.hover_text import hover_words
from vaelint.server.positions import Places, lines_of, moved
from vaelint.server.rounds_told import Told
from vaelint.server.target_state import Outcome
from vaelint.server.values_seen import Expressions

_READ = (".py", ".toml")


class Editor:
    """One editor, its open files, and what is known of them."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self.checker: Checker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = Told(server)
        self._outcomes: list[Outcome] = []
        self._shown: set[str] = set()  # files with diagnostics, by their paths
        self._said = ""

    # What the checker tells, in its thread.

    def begins(self, what: str) -> None:
        """A round begins."""
        self._later(lambda: self._told.begins(what))

    def goes_on(self, what: str, done: int, of: int) -> None:
        """A target goes on."""
        self._later(lambda: self._told.goes_on(visible(what), done, of))

    def ends(self, what: str) -> None:
        """A round is over."""
        self._later(lambda: self._told.ends(what))

    def changed(self, outcomes: list[Outcome], wrong: list[ConfigurationError]) -> None:
        """There are results; all of them are told."""
        self._later(lambda: self._publish(outcomes, wrong))

    def says(self, message: str, help: str, *, loud: bool) -> None:
        """What is no finding."""
        text = visible_lines(f"vaelint: {message}" + (f"\n{help}" if help else ""))
        kind = types.MessageType.Error if loud else types.MessageType.Info

        def tell() -> None:
            self.server.window_log_message(types.LogMessageParams(kind, text))
            if loud and text != self._said:  # a person closes the same message once, not at each save
                self._said = text
                self.server.window_show_message(types.ShowMessageParams(kind, text))

        self._later(tell)

    def _later(self, act: Callable[[], None]) -> None:
        """Only the thread of the protocol writes."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)

    # What the editor asks, in the thread of the protocol.

    def starts(self, params: types.InitializeParams) -> None:
        """Paths are relative to the workspace, as on a command line that is typed there."""
        self._loop = asyncio.get_running_loop()
        folders = params.workspace_folders or []
        root = folders[0].uri if folders else params.root_uri
        folder = uris.to_fs_path(root) if root else None
        if folder and Path(folder).is_dir():
            os.chdir(folder)
        said = params.initialization_options
        fixes = bool(said.get("verifyFixes", True)) if isinstance(said, dict) else True
        self.checker = Checker(self, fixes=fixes)

    def ready(self) -> None:
        """The editor listens: the first check may begin."""
        if self.checker is not None:
            self.checker.start()

    def cancelled(self) -> None:
        """The person does not want to wait."""
        if self.checker is not None:
            self.checker.cancel()

    def ends_all(self) -> None:
        """No more checks; the worker is ended."""
        if self.checker is not None and self.checker.is_alive():
            self.checker.stop()
            self.checker.join(5)

    def touched(self, uri: str, *, saved: bool) -> None:
        """A file was opened or saved."""
        path = uris.to_fs_path(uri)
        if self.checker is not None and path and path.endswith(_READ) and Path(path).is_file():
            self.checker.wants(path, saved=saved)

    def closed(self, uri: str) -> None:
        """A file was closed."""
        if self.checker is not None and (path := uris.to_fs_path(uri)):
            self.checker.closed(path, [p for d in self.server.workspace.text_documents.values() if (p := uris.to_fs_path(d.uri))])

    def _publish(self, outcomes: list[Outcome], wrong: list[ConfigurationError]) -> None:
        self._outcomes = outcomes
        found = by_file(outcomes, wrong, self._checked_places, self._uri)
        checked = {file for o in outcomes for file in o.texts}  # these are said to be clean
        for file in sorted(self._shown | set(found) | checked):
            told = found.get(file, [])
            self.server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(self._uri(file), told))
        self._shown = set(found)
        can = self.server.client_capabilities.workspace
        if can and can.inlay_hint and can.inlay_hint.refresh_support:
            self.server.workspace_inlay_hint_refresh(None, lambda _: None)

    def _uri(self, file: str) -> str:
        """The address of a file: the one under which it is open, if it is."""
        path = str(real(file))
        for document in self.server.workspace.text_documents.values():
            if (own := uris.to_fs_path(document.uri)) and str(real(own)) == path:
                return str(document.uri)
        return uris.from_fs_path(os.path.abspath(file)) or ""  # noqa: PTH100 - without following links

    def _checked_places(self, file: str) -> Places:
        """The places in a file as it was checked, else as it is."""
        text = next((o.texts[file] for o in self._outcomes if file in o.texts), None)
        return Places(lines_of(text if text is not None else verify.read(file) or ""), self.server.workspace.position_codec)

    def _document(self, uri: str) -> Document:
        document = self.server.workspace.get_text_document(uri)
        path = str(real(uris.to_fs_path(document.uri) or ""))
        text = document.source
        return Document(path, uri, document.version, text, Places(lines_of(text), self.server.workspace.position_codec))

    def actions(self, params: types.CodeActionParams) -> list[types.CodeAction]:
        """What can be done about the findings there."""
        if params.context.only and not any(types.CodeActionKind.QuickFix.startswith(k) for k in params.context.only):
            return []
        return actions(self._outcomes, self._document(params.text_document.uri), params.range, list(params.context.diagnostics))

    def hover(self, params: types.HoverParams) -> types.Hover | None:
        """Shapes, role and weight of the expression there."""
        document = self._document(params.text_document.uri)
        line, column = document.places.place(params.position)
        told: dict[str, None] = {}
        place = None
        for outcome, known in self._expressions(document.path):
            lines = moved(tuple(lines_of(outcome.texts[document.path])), tuple(document.places.lines))
            before = next((old for old, now in lines.items() if now == line), None)
            if before is not None and (value := known.at(before, column)) is not None:
                told[hover_words(value, outcome.shown[0])] = None
                place = place or value.place
        if not told:
            return None
        return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, "\n\n---\n\n".join(told)))

    def hints(self, params: types.InlayHintParams) -> list[types.InlayHint]:
        """Shapes behind the names that are assigned."""
        document = self._document(params.text_document.uri)
        found: dict[tuple[int, int], set[str]] = {}
        for outcome, known in self._expressions(document.path):
            lines = moved(tuple(lines_of(outcome.texts[document.path])), tuple(document.places.lines))
            for hint in known.hints():
                if hint.line in lines:
                    found.setdefault((lines[hint.line], hint.column), set()).add(hint.text)
        wanted = range(params.range.start.line + 1, params.range.end.line + 2)
        return [
            types.InlayHint(document.places.position(line, column), next(iter(texts)), kind=types.InlayHintKind.Type)
            for (line, column), texts in sorted(found.items())
            if line in wanted and len(texts) == 1
        ]

    def _expressions(self, path: str) -> list[tuple[Outcome, Expressions]]:
        return [(o, o.expressions(path)) for o in self._outcomes if path in o.texts]


def made() -> tuple[LanguageServer, Editor]:
    """A server with all that it answers."""
    server = LanguageServer("vaelint", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Incremental)
    editor = Editor(server)
    answers: dict[str, Callable[[Any], Any]] = {
        types.INITIALIZE: lambda params: editor.starts(params),
        types.INITIALIZED: lambda params: editor.ready(),
        types.TEXT_DOCUMENT_DID_OPEN: lambda params: editor.touched(params.text_document.uri, saved=False),
        types.TEXT_DOCUMENT_DID_SAVE: lambda params: editor.touched(params.text_document.uri, saved=True),
        types.TEXT_DOCUMENT_DID_CLOSE: lambda params: editor.closed(params.text_document.uri),
        types.TEXT_DOCUMENT_HOVER: lambda params: editor.hover(params),
        types.TEXT_DOCUMENT_INLAY_HINT: lambda params: editor.hints(params),
        types.WINDOW_WORK_DONE_PROGRESS_CANCEL: lambda params: editor.cancelled(),
        types.SHUTDOWN: lambda params: editor.ends_all(),
    }
    for name, answer in answers.items():
        server.feature(name)(answer)
    server.feature(types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions([types.CodeActionKind.QuickFix]))(
        lambda params: editor.actions(params)
    )
    return server, editor


def serve() -> None:
    """Answers an editor over standard input and output, until it says that it ends, or hangs up."""
    server, editor = made()
    with os.fdopen(os.dup(1), "wb") as answers:  # pygls closes it at the end; our own stays open
        os.dup2(2, 1)  # whatever else is printed is no message
        server.start_io(stdout=answers)
    editor.ends_all()
