"""A client of `vaelint server`: opens, saves, and waits for what the server tells."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.client import LanguageClient

LIMIT = 30.0


class Client:
    """One editor that never edits by itself. `diagnostics` are the last that were told, by file name."""

    def __init__(self, folder: Path, *, fixes: bool = True) -> None:
        self.folder, self.fixes = folder, fixes
        self.diagnostics: dict[str, list[types.Diagnostic]] = {}
        self.progress: list[Any] = []
        self.said: list[str] = []
        self._heard = asyncio.Event()
        self._client = LanguageClient("tests", "1")
        self._version = 1
        hears: dict[str, Callable[[Any], None]] = {
            types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS: self._on_diagnostics,
            types.PROGRESS: self._on_progress,
            types.WINDOW_WORK_DONE_PROGRESS_CREATE: lambda params: None,
            types.WINDOW_LOG_MESSAGE: self._on_said,
            types.WINDOW_SHOW_MESSAGE: self._on_said,
        }
        for name, act in hears.items():
            self._client.feature(name)(lambda params, act=act: act(params))

    async def __aenter__(self) -> Client:
        await self._client.start_io(sys.executable, "-m", "vaelint", "server", cwd=str(self.folder))
        window = types.WindowClientCapabilities(work_done_progress=True)
        asked = types.InitializeParams(
            types.ClientCapabilities(window=window), root_uri=self.folder.as_uri(), initialization_options={"verifyFixes": self.fixes}
        )
        self.can = (await self._client.initialize_async(asked)).capabilities
        self._client.initialized(types.InitializedParams())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.shutdown_async(None)
        self._client.exit(None)
        await self._client.stop()  # type: ignore[no-untyped-call]
        transport = getattr(getattr(self._client, "_server", None), "_transport", None)
        if transport is not None:
            transport.close()  # else its pipes are found open whenever somebody looks for garbage
        await asyncio.sleep(0.05)  # closing is a callback

    def _on_diagnostics(self, params: types.PublishDiagnosticsParams) -> None:
        name = params.uri.rpartition("/")[2]
        self.diagnostics[name] = list(params.diagnostics)
        self._heard.set()

    def _on_progress(self, params: types.ProgressParams) -> None:
        self.progress.append((params.token, params.value))
        self._heard.set()

    def _on_said(self, params: types.LogMessageParams | types.ShowMessageParams) -> None:
        self.said.append(params.message)
        self._heard.set()

    async def until(self, true: Callable[[], object], what: str) -> None:
        """Waits for something to be so. Raises AssertionError where it does not come."""
        limit = time.monotonic() + LIMIT
        while not true():
            self._heard.clear()
            left = limit - time.monotonic()
            assert left > 0, f"no {what}; told: {self.said}, {self.diagnostics}"
            try:
                await asyncio.wait_for(self._heard.wait(), min(left, 1.0))
            except TimeoutError:
                continue

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def open(self, name: str) -> None:
        text = (self.folder / name).read_text()
        language = "toml" if name.endswith(".toml") else "python"
        document = types.TextDocumentItem(self.uri(name), language, self._version, text)
        self._client.text_document_did_open(types.DidOpenTextDocumentParams(document))

    def save(self, name: str, text: str) -> None:
        """Changes the whole text and writes it to the disk."""
        self._version += 1
        change = types.TextDocumentContentChangeWholeDocument(text)
        named = types.VersionedTextDocumentIdentifier(self._version, self.uri(name))
        self._client.text_document_did_change(types.DidChangeTextDocumentParams(named, [change]))
        (self.folder / name).write_text(text)
        self._client.text_document_did_save(types.DidSaveTextDocumentParams(types.TextDocumentIdentifier(self.uri(name))))

    def cancel(self, token: int | str) -> None:
        self._client.window_work_done_progress_cancel(types.WorkDoneProgressCancelParams(token))

    async def shown(self, name: str, *codes: str | None) -> list[types.Diagnostic]:
        """The diagnostics of a file, once they have these codes."""
        await self.until(
            lambda: name in self.diagnostics and [d.code for d in self.diagnostics[name]] == list(codes), f"{list(codes)} in {name}"
        )
        return self.diagnostics[name]

    async def actions(self, name: str, line: int) -> list[types.CodeAction]:
        """The code actions at a line, from 1 on."""
        here = types.Range(types.Position(line - 1, 0), types.Position(line - 1, 0))
        context = types.CodeActionContext(self.diagnostics.get(name, []))
        asked = types.CodeActionParams(types.TextDocumentIdentifier(self.uri(name)), here, context)
        found = await self._client.text_document_code_action_async(asked)
        return [a for a in found or [] if isinstance(a, types.CodeAction)]

    async def hover(self, name: str, line: int, word: str) -> str:
        """What is shown over a word of a line."""
        text = (self.folder / name).read_text().splitlines()[line - 1]
        place = types.Position(line - 1, text.index(word))
        found = await self._client.text_document_hover_async(types.HoverParams(types.TextDocumentIdentifier(self.uri(name)), place))
        return found.contents.value if found is not None and isinstance(found.contents, types.MarkupContent) else ""

    async def hints(self, name: str) -> dict[int, str]:
        """The hints of a file by line, from 1 on."""
        lines = (self.folder / name).read_text().splitlines()
        whole = types.Range(types.Position(0, 0), types.Position(len(lines), 0))
        found = await self._client.text_document_inlay_hint_async(
            types.InlayHintParams(types.TextDocumentIdentifier(self.uri(name)), whole)
        )
        told: dict[int, str] = {}
        for hint in found or []:
            row, column = hint.position.line, hint.position.character
            told[row + 1] = f"{told.get(row + 1, '')} {lines[row][:column].split()[-1]}{hint.label}".strip()
        return told
