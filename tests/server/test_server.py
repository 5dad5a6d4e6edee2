"""`vaelint server` as an editor sees it: one session of one client, asked about afterwards."""

from __future__ import annotations

import asyncio
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lspclient import Client
from lsprotocol import types

from vaelint.cli import server as command
from vaelint.config.options import Options
from vaelint.core.errors import UsageError

LOSS = """import torch
import torch.nn.functional as F


def loss_fn(recon, x, mu, logvar):
    rec = F.mse_loss(recon, x, reduction="sum") / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return rec + kl
"""
MODEL = """import torch
from torch import nn

from loss import loss_fn


class VAE(nn.Module):
    def __init__(self, latent_dim=4):
        super().__init__()
        self.latent_dim = latent_dim
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(latent_dim, 12)
        self.mu, self.logvar = nn.Linear(8, latent_dim), nn.Linear(8, latent_dim)

    def encode(self, x):
        h = torch.relu(self.enc(x))
        return self.mu(h), self.logvar(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        z = mu + std * eps
        recon = self.dec(z)
        return recon, mu, logvar
"""
SHARED = MODEL.replace("randn_like(std)", "randn(self.latent_dim, device=mu.device)")
EPS, KL = 21, 7  # lines: of the noise in the model, of the KL in the loss
TARGET = '[[targets]]\ntarget = "model.py:VAE"\ninput = "5x12"\n'


@dataclass
class Seen:
    """What the session showed."""

    diagnostics: dict[str, list[types.Diagnostic]] = field(default_factory=dict)
    hovers: dict[str, str] = field(default_factory=dict)
    hints: dict[int, str] = field(default_factory=dict)
    actions: list[types.CodeAction] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def applied(text: str, action: types.CodeAction) -> str:
    """The text after the edits of an action."""
    assert action.edit is not None and action.edit.changes is not None
    (edits,) = action.edit.changes.values()
    lines = text.split("\n")
    for e in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
        assert e.range.start.line == e.range.end.line
        row = lines[e.range.start.line]
        lines[e.range.start.line] = row[: e.range.start.character] + e.new_text + row[e.range.end.character :]
    return "\n".join(lines)


def fixable(found: list[types.Diagnostic]) -> bool:
    """Whether a fix of the first was verified."""
    return bool(found) and isinstance(found[0].data, dict) and bool(found[0].data["fix"])


async def session(folder: Path) -> Seen:
    """Opens, fixes, suppresses, configures, cancels."""
    seen = Seen()
    told = seen.diagnostics
    (folder / "model.py").write_text(SHARED)
    (folder / "loss.py").write_text(LOSS)
    async with Client(folder) as client:
        client.open("model.py")
        told["discovered"] = await client.shown("model.py", "VAE201")
        await client.until(lambda: fixable(client.diagnostics["model.py"]), "verified fix")
        seen.actions = await client.actions("model.py", EPS)
        seen.hints = await client.hints("model.py")
        for line, word in ((20, "std"), (EPS, "torch"), (23, "recon")):
            seen.hovers[word] = await client.hover("model.py", line, word)
        client.save("model.py", applied(SHARED, seen.actions[0]))
        told["fixed"] = await client.shown("model.py")
        client.save("model.py", SHARED)
        await client.shown("model.py", "VAE201")
        client.save("model.py", applied(SHARED, seen.actions[1]))
        told["ignored"] = await client.shown("model.py")
        client.open("loss.py")
        client.save("loss.py", LOSS.replace("-0.5", "0.5"))
        told["imported"] = await client.shown("loss.py", "VAE407")
        seen.hovers["kl"] = await client.hover("loss.py", KL, "kl")
        (folder / "vaelint.toml").write_text(TARGET + "inpt = 3\n")
        client.open("vaelint.toml")
        told["key"] = await client.shown("vaelint.toml", None)
        client.save("vaelint.toml", TARGET)
        told["mended"] = await client.shown("vaelint.toml")
        client.save("vaelint.toml", TARGET.replace("model.py", "modell.py"))
        told["absent"] = await client.shown("vaelint.toml", "VAE001")
        client.save("vaelint.toml", TARGET)
        await client.shown("vaelint.toml")
        begun = len(client.progress)
        client.save("model.py", "import time\ntime.sleep(60)\n" + MODEL)
        await client.until(lambda: any(v["kind"] == "report" for _, v in client.progress[begun:]), "progress")
        client.cancel(client.progress[-1][0])
        await client.until(lambda: client.progress[-1][1]["kind"] == "end", "end after a cancellation")
        seen.ends.append(client.progress[-1][1]["message"])
        client.save("model.py", "import time\ntime.sleep(60)\n" + MODEL)
        await client.until(lambda: client.progress[-1][1]["kind"] == "report", "progress")
        client.save("loss.py", LOSS)
        client.save("model.py", SHARED)
        told["newer"] = await client.shown("model.py", "VAE201")
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return asyncio.run(session(tmp_path_factory.mktemp("workspace")))


def codes(found: list[types.Diagnostic]) -> list[tuple[str | int | None, int]]:
    return [(d.code, d.range.start.line + 1) for d in found]


def test_a_finding_is_shown_with_its_places_and_its_evidence(seen: Seen) -> None:
    (found,) = seen.diagnostics["discovered"]
    assert (found.code, found.severity) == ("VAE201", types.DiagnosticSeverity.Error)
    assert (found.range.start, found.range.end) == (types.Position(EPS - 1, 14), types.Position(EPS - 1, 60))
    assert found.related_information and found.related_information[0].location.range.start.line + 1 == 20
    assert "confirmed on cpu" in found.message and "measured" in found.message


def test_a_fix_and_a_suppression_do_what_they_say(seen: Seen) -> None:
    assert [a.title.split(":")[0].split(" on ")[0] for a in seen.actions] == ["Fix VAE201", "Ignore VAE201 shared-noise"]
    assert seen.diagnostics["fixed"] == seen.diagnostics["ignored"] == []


def test_shapes_roles_and_weights_are_shown_where_the_pointer_is(seen: Seen) -> None:
    assert "std: (B, L) = (" in seen.hovers["std"] and "standard deviation" in seen.hovers["std"]
    assert "torch.randn(self.latent_dim, device=mu.device): (" in seen.hovers["torch"] and "noise" in seen.hovers["torch"]
    assert "recon: (B, D)" in seen.hovers["recon"] and "role: reconstruction" in seen.hovers["recon"]
    assert "kl: scalar" in seen.hovers["kl"] and "weight -1/B" in seen.hovers["kl"]


def test_shapes_stand_behind_names(seen: Seen) -> None:
    assert [seen.hints[n] for n in (15, 19)] == ["h: (B, 8)", "mu: (B, L) logvar: (B, L)"]
    assert [seen.hints[n] for n in (20, 21, 22, 23)] == ["std: (B, L)", "eps: (4)", "z: (B, L)", "recon: (B, D)"]


def test_a_file_that_the_target_imports_has_its_findings(seen: Seen) -> None:
    assert [line for _, line in codes(seen.diagnostics["imported"])] == [KL]


def test_an_error_in_the_configuration_is_at_its_line(seen: Seen) -> None:
    (wrong,) = seen.diagnostics["key"]
    assert wrong.range.start.line + 1 == 4 and "unknown key 'inpt'" in wrong.message and "input" in wrong.message
    assert seen.diagnostics["mended"] == []
    assert codes(seen.diagnostics["absent"]) == [("VAE001", 2)]


def test_a_check_is_cancelled_and_a_newer_save_ends_an_older_check(seen: Seen) -> None:
    assert seen.ends == ["cancelled"]
    assert ("VAE201", EPS) in codes(seen.diagnostics["newer"])


def test_without_its_packages_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as raised:
        command.server(Options())
    assert "pygls and lsprotocol" in raised.value.message and raised.value.help == "pip install 'vaelint[server]'"


def test_the_extension_has_the_version_and_the_options_of_the_server() -> None:
    root = Path(__file__).parents[2]
    told = json.loads((root / "editors" / "vscode" / "package.json").read_text())
    assert told["version"] == tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    locked = json.loads((root / "editors" / "vscode" / "package-lock.json").read_text())
    assert locked["version"] == told["version"] and all("resolved" not in p for p in locked["packages"].values())
    assert "verifyFixes" in (root / "vaelint" / "server" / "editor.py").read_text()
    assert set(told["contributes"]["configuration"]["properties"]) == {"vaelint.command", "vaelint.verifyFixes"}
