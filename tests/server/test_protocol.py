"""The server as a client sees it that is not ours: pytest-lsp's, which refuses what a real editor's capabilities leave out."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

DATA = Path(__file__).resolve().parents[1] / "data"
SETTINGS = '[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n'


@pytest_lsp.fixture(  # type: ignore[untyped-decorator]
    config=ClientServerConfig(server_command=[sys.executable, "-m", "vaelint", "server"]), params=["neovim", "visual_studio_code"]
)
async def client(request: pytest.FixtureRequest, lsp_client: LanguageClient, tmp_path: Path) -> AsyncIterator[None]:
    (tmp_path / "model.py").write_text((DATA / "vae_three_bugs.py").read_text())
    (tmp_path / "vaelint.toml").write_text(SETTINGS)
    lsp_client.feature(types.WORKSPACE_INLAY_HINT_REFRESH)(lambda _: None)  # Neovim says that it can, this client says nothing of it
    asked = types.InitializeParams(client_capabilities(request.param), root_uri=tmp_path.as_uri())
    await lsp_client.initialize_session(asked)
    yield
    await lsp_client.shutdown_session()


@pytest.mark.asyncio
async def test_an_opened_model_gets_findings_words_and_a_fix_that_mends(client: LanguageClient, tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    uri, text = model.as_uri(), model.read_text()
    client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, text)))
    while not any(d.data and d.data["fix"] for d in client.diagnostics.get(uri, ())):  # a fix comes when it was verified
        await client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    found = {str(d.code): d for d in client.diagnostics[uri]}
    assert "VAE201" in found and text.split("\n")[found["VAE201"].range.start.line].strip().startswith("eps = ")
    document = types.TextDocumentIdentifier(uri)
    hover = await client.text_document_hover_async(types.HoverParams(document, found["VAE201"].range.start))
    assert hover is not None
    asked = types.CodeActionParams(document, found["VAE201"].range, types.CodeActionContext([found["VAE201"]]))
    actions = await client.text_document_code_action_async(asked)
    edits = [a.edit.changes[uri] for a in actions or () if isinstance(a, types.CodeAction) and a.edit and a.edit.changes]
    assert any("randn_like" in e.new_text for each in edits for e in each)
