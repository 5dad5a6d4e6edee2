"""The memory that the real pass says it will need, against what the CPU's allocator hands out during it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from vaelint.core.result import Request

run = importlib.import_module("vaelint.confirm.run")
MODEL = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        {layers}

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, {axis})
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        rec = 0.5 * (self.dec(z) - x).square().flatten(1).sum(1)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).flatten(1).sum(1)
        return (rec + kl).mean()
"""
MODELS = {
    "products": (
        "self.enc, self.dec = (nn.Sequential(nn.Linear(a, 1024), nn.Tanh(), nn.Linear(1024, b)) for a, b in ((64, 32), (16, 64)))",
        "1024x64",
        1,
    ),
    "convolutions": (
        "self.enc = nn.Sequential(nn.Conv2d(3, 48, 3, 1, 1), nn.SiLU(), nn.Conv2d(48, 8, 4, 2, 1))\n"
        "        self.dec = nn.Sequential(nn.ConvTranspose2d(4, 48, 4, 2, 1), nn.SiLU(), nn.Conv2d(48, 3, 3, 1, 1))",
        "16x3x32x32",
        1,
    ),
    "attention": (
        "made = [nn.TransformerEncoderLayer(48, 4, 192, batch_first=True) for _ in range(2)]\n"
        "        self.enc = nn.Sequential(made[0], nn.Linear(48, 16))\n        self.dec = nn.Sequential(nn.Linear(8, 48), made[1])",
        "16x64x48",
        2,
    ),
}


def _peak(roots: list[Any]) -> int:
    """The most bytes held at a time of the blocks handed out under the profiler.

    What an earlier profile saw handed out, and a collector frees during this one, is no memory of this run.
    """
    events, left = [], list(roots)
    while left:
        event = left.pop()
        left.extend(event.children)
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields))
    blocks: dict[int, int] = {}
    held = peak = 0
    for _, at in sorted(events, key=lambda e: e[0]):
        if at.alloc_size > 0:
            blocks[at.ptr] = at.alloc_size
            held += at.alloc_size
        else:
            held -= blocks.pop(at.ptr, 0)
        peak = max(peak, held)
    return peak


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("layers", "size", "axis"), MODELS.values(), ids=MODELS)
def test_memory_is_estimated_within_a_quarter(layers: str, size: str, axis: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL.format(layers=layers, axis=axis))
    first, backward = run._first_run, run._backward
    recorder = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    peaks: list[int] = []

    def begin(*args: Any, **kwargs: Any) -> Any:
        recorder.start()
        return first(*args, **kwargs)

    def end(*args: Any) -> None:
        backward(*args)
        recorder.stop()
        kept: Any = recorder.profiler
        peaks.append(_peak(kept.kineto_results.experimental_event_tree()))

    monkeypatch.setattr(run, "_first_run", begin)
    monkeypatch.setattr(run, "_backward", end)
    request = Request("model.py:VAE", (size,), step="loss = model(x)", device="cpu")
    result = importlib.import_module("vaelint.pipeline.check").check_target(request, lambda message: None)
    assert result.confirm["outcome"] == "ran" and result.confirm["reason"] is None
    assert 0.75 < result.confirm["estimated_memory_bytes"] / max(peaks) < 1.25
