"""The real pass on a CUDA device: the whole check, faults of the device, memory. Skipped where there is none."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from expectations import ROOT, Fixture, complaints, fixtures
from realpass import measured, traced, write

from vaelint.finding import Certainty
from vaelint.rule import Claim

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
BAD = [
    f for f in fixtures("bad") if f.path.stem.startswith(("vae103", "vae201", "vae208", "vae301", "vae402", "vae407", "vae503", "vae601"))
]


@pytest.mark.parametrize("fixture", BAD, ids=lambda f: f.path.stem)
def test_the_whole_check_on_cuda_says_what_it_says_on_the_cpu(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check = importlib.import_module("vaelint.check").check_target
    on_cuda, on_cpu = (check(fixture.request(device), lambda message: None) for device in ("cuda", "cpu"))
    assert complaints(fixture, on_cuda.findings) == []
    assert [(f.code, f.span, f.certainty) for f in on_cuda.findings] == [(f.code, f.span, f.certainty) for f in on_cpu.findings]


def test_a_tensor_left_on_the_cpu_is_seen_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, eps="torch.randn(std.size(0), 4)")
    model = traced()
    result = measured(model, Claim("device_error", "", {"node": model.sites[0].z}), device="cuda")
    assert result.findings[0].certainty is Certainty.CONFIRMED
    assert result.confirm["device"] == "cpu" and "repeated on the CPU" in result.confirm["reason"]


def test_a_half_precision_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, eps="torch.randn(4, device=std.device)")
    model = traced(code="with torch.autocast(model.dec[0].weight.device.type, dtype=torch.bfloat16):\n    loss = model(x)")
    result = measured(model, Claim("noise_rows", "", {"site": model.sites[0], "equal": True}), device="cuda")
    assert (result.confirm["outcome"], result.confirm["device"]) == ("ran", "cuda:0")
    assert result.findings[0].certainty is Certainty.CONFIRMED


def test_memory_is_estimated_within_a_quarter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layers = "self.wide = nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(4096, 4096), nn.Tanh())))"
    write(
        tmp_path, init=f"self.up, self.down = nn.Linear(12, 4096), nn.Linear(4096, 12); {layers}", flat="self.down(self.wide(self.up(x)))"
    )
    facts = measured(traced(("x=8192x12:float32[0,1]",)), device="cuda").confirm
    assert facts["outcome"] == "ran"
    assert 0.75 < facts["estimated_memory_bytes"] / facts["peak_memory_bytes"] < 1.25


def test_an_assertion_on_the_device_costs_no_finding(tmp_path: Path) -> None:
    """In a process of its own: after such an assertion the device does not answer that process any more."""
    import json
    import subprocess
    import sys

    write(tmp_path, eps="torch.randn(4, device=std.device)", rec="F.binary_cross_entropy(recon - 9, x)")
    command = [sys.executable, "-m", "vaelint", "check", "model.py:VAE", "--input", "x=8x12:float32[0,1]", "--step", "loss = model(x)"]
    done = subprocess.run(
        [*command, "--output-format", "json", "--device", "cuda"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    (target,) = json.loads(done.stdout)["targets"]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "VAE201" in {f["code"] for f in target["findings"]}
    assert target["confirm"]["outcome"] in ("raised", "ran") and "assert" in target["confirm"]["reason"]
