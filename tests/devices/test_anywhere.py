"""The same static findings on a machine with a GPU and on one without: here, where user code is told that there is one."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from expectations import ROOT, Fixture, fixtures

from vaelint.core.result import Request

WITH_CUDA = [f for side in ("bad", "good", "systems") for f in fixtures(side) if "cuda" in f.path.read_text()]
MODEL = """
import torch
import torch.nn.functional as F
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if torch.cuda.is_available():
    kind = "cuda:0"
else:
    kind = "cpu"


class VAE(nn.Module):
    def __init__(self, place="cuda" if torch.cuda.is_available() else "cpu"):
        super().__init__()
        self.place = place
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)
        self.scale = 2.0 if torch.cuda.is_available() else 1.0
        if torch.cuda.device_count() > 1:
            self.enc = nn.DataParallel(self.enc)
        self.to(device)

    def forward(self, x):
        x = x.to(device)
        mu, logvar = self.enc(x).chunk(2, 1)
        eps = torch.randn(mu.shape, device=device) + torch.zeros(mu.shape, device=kind) + torch.zeros(mu.shape).to(self.place)
        z = mu + torch.exp(0.5 * logvar) * eps
        scaler = torch.amp.GradScaler("cuda", enabled=torch.cuda.is_available())
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return scaler.scale(F.mse_loss(self.dec(z), x, reduction="sum") + self.scale * kl) / x.size(0)
"""


class Enough(BaseException):
    """Ends a check where the real pass would begin."""


def static(request: Request) -> tuple[list[Any], Any]:
    """What is sent before anything runs for real: the findings, and what was made of the loss."""
    seen: list[dict[str, Any]] = []
    check = importlib.import_module("vaelint.pipeline.check").check_target

    def emit(message: dict[str, Any]) -> None:
        if message["kind"] == "static":
            seen.append(message["result"])
            raise Enough

    with contextlib.suppress(Enough):
        check(request, emit)
    return [(f["code"], f["span"], f["label"]) for r in seen for f in r["findings"]], [r["loss"] for r in seen]


def told_of_a_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize("fixture", WITH_CUDA, ids=lambda f: f.id)
def test_a_gpu_changes_no_static_finding(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    without = static(fixture.request("none"))
    told_of_a_gpu(monkeypatch)
    assert static(fixture.request("none")) == without


def test_devices_chosen_by_what_is_there_are_no_fault_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    request = Request("model.py:VAE", inputs=("8x12:float32[0,1]",), step="loss = model(x)", device="none")
    without = static(request)
    assert without[0] == []
    told_of_a_gpu(monkeypatch)
    assert static(request) == without
