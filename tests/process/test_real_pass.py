"""Faults that only the real pass meets, end to end: the outcome says the cause in words, and the static findings stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vaelint.core.result import Request, TargetResult
from vaelint.core.strength import RAN
from vaelint.process.front import Worker

MODEL = """
import ctypes, os, resource, signal
import torch
import torch.nn.functional as F
from torch import nn

{top}

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn(4, device=x.device)
        if type(x) is torch.Tensor:  # a real one
            {fault}
        return F.mse_loss(self.dec(z), x, reduction="sum") - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
"""
FEW = "resource.setrlimit(resource.RLIMIT_AS, (int(open('/proc/self/statm').read().split()[0]) * 4096 + (1 << 29),) * 2)"
"""Leaves this process 512 MiB more than it has."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


def check(worker: Worker, folder: Path, fault: str, top: str = "", size: str = "8x12", timeout: float = 60.0) -> TargetResult:
    file = folder / "model.py"
    file.write_text(MODEL.format(fault=fault, top=top))
    request = Request(f"{file}:VAE", inputs=(f"{size}:float32[0,1]",), step="loss = model(x)", device="cpu", timeout=timeout)
    return worker.run(request).result


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "crashed", "ended by SIGKILL"),
        ("ctypes.string_at(0)", "crashed", "ended by SIGSEGV"),
        ("os._exit(0)", "crashed", "ended its process"),
        ("raise SystemExit(3)", "raised", "SystemExit: 3"),
        ("z = z + torch.zeros(1 << 46)[:4]", "out of memory", "281 TB were asked for at once"),
        ("raise RuntimeError('CUDA error: device-side assert triggered')", "raised", "an index out of range"),
        ("z = z * float('nan')", "ran", None),
    ],
    ids=["killed", "segmentation fault", "exit", "sys.exit", "memory", "assertion", "nan"],
)
def test_a_fault_of_the_real_pass_costs_no_finding(worker: Worker, tmp_path: Path, fault: str, outcome: str, words: str | None) -> None:
    result = check(worker, tmp_path, fault)
    codes = {f.code for f in result.findings}
    assert "VAE201" in codes
    assert result.confirm["outcome"] == outcome
    assert words in result.confirm["reason"] if words else "VAE702" in codes
    if outcome in RAN:
        assert (result.status, result.gaps()) == ("findings", [])
    else:
        ((told, _),) = result.gaps()
        assert result.status == "incomplete", "findings, and still not all was looked at"
        assert told.startswith(("the real pass did not run: ", "the real pass did not end: ")) and result.confirm["reason"] in told


def test_a_hang_of_the_real_pass_costs_no_finding(worker: Worker, tmp_path: Path) -> None:
    result = check(worker, tmp_path, "while True: pass", timeout=5.0)
    assert ({f.code for f in result.findings}, result.status) == ({"VAE201"}, "incomplete")
    assert result.confirm["outcome"] == "timed out" and "model.py:" in result.confirm["reason"]


def test_a_limit_on_memory_lowers_the_batch_and_says_so(worker: Worker, tmp_path: Path) -> None:
    """The rules before it run what they need again on a few samples: at this size they would meet the limit as well."""
    result = check(worker, tmp_path, "pass", top=FEW, size="300000000x12")
    assert result.confirm["outcome"] == "ran"
    assert 1000 < result.confirm["batch"] < 2_000_000 and "instead of 300000000: not enough memory" in result.confirm["reason"]
    assert [(f.code, f.certainty.value) for f in result.findings] == [("VAE201", "confirmed")]


def test_memory_that_runs_out_below_a_limit_is_an_outcome(worker: Worker, tmp_path: Path) -> None:
    result = check(worker, tmp_path, "z = z + torch.zeros(1 << 28)[:4]", top=FEW)
    assert result.confirm["outcome"] == "out of memory" and "1.07 GB were asked for at once" in result.confirm["reason"]
    assert "VAE201" in {f.code for f in result.findings}
