"""The real pass on a CUDA device: the whole check, faults of the device, memory. Skipped where there is none."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from expectations import ROOT, Fixture, complaints, fixtures
from realpass import measured, traced, write
from test_anywhere import static
from test_second_device import HARD, RIGHT, written

from vaelint import claims
from vaelint.core.finding import Certainty

if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)  # once, and not a thousand times

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]
FAMILIES = ("vae103", "vae201", "vae208", "vae217", "vae301", "vae402", "vae407", "vae50", "vae603", "vae606", "vae608", "vae70")
BAD = [f for f in fixtures("bad") if f.stem.startswith(FAMILIES)]


@pytest.mark.parametrize("fixture", BAD, ids=lambda f: f.stem)
def test_the_whole_check_on_cuda_says_what_it_says_on_the_cpu(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check = importlib.import_module("vaelint.pipeline.check").check_target
    on_cuda, on_cpu = (check(fixture.request(device), lambda message: None) for device in ("cuda", "cpu"))
    assert complaints(fixture, on_cuda.findings) == []
    assert [(f.code, f.span, f.certainty) for f in on_cuda.findings] == [(f.code, f.span, f.certainty) for f in on_cpu.findings]


def test_a_tensor_left_on_the_cpu_is_seen_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, eps="torch.randn(std.size(0), 4)")
    model = traced()
    result = measured(model, claims.DeviceError("", node=model.sites[0].z), device="cuda")
    assert result.findings[0].certainty is Certainty.CONFIRMED
    assert result.confirm["device"] == "cpu" and "repeated on the CPU" in result.confirm["reason"]


@pytest.mark.parametrize("fixture", fixtures("bad", "vae601"), ids=lambda f: f.stem)
def test_faults_of_the_device_are_confirmed_for_real(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = importlib.import_module("vaelint.pipeline.check").check_target(fixture.request("cuda"), lambda message: None)
    assert complaints(fixture, result.findings) == []
    (finding,) = (f for f in result.findings if f.code == "VAE601")
    assert finding.certainty is Certainty.CONFIRMED
    assert finding.evidence is not None and finding.evidence.detail == "on a CUDA device"
    assert "repeated on the CPU" in result.confirm["reason"]


@pytest.mark.parametrize("fixture", [*(f for f in fixtures("bad") if "vae2" <= f.stem < "vae8"), *fixtures("systems")], ids=lambda f: f.id)
def test_static_findings_do_not_hang_on_the_device(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found before anything runs for real is the same on a machine with a GPU and on one without.

    The check ends before its real pass: an assertion in a kernel would take all tests that follow along.
    """
    monkeypatch.chdir(ROOT)
    with_gpu = static(fixture.request("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert with_gpu == static(fixture.request("none"))


@pytest.mark.parametrize("slots", RIGHT.values(), ids=RIGHT)
def test_a_choice_of_the_device_runs_on_it(slots: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = importlib.import_module("vaelint.pipeline.check").check_target(written(tmp_path, **slots), lambda message: None)
    assert result.findings == []
    assert (result.confirm["device"], result.confirm["outcome"], result.confirm["reason"]) == ("cuda:0", "ran", None)


@pytest.mark.parametrize(("slots", "line"), HARD.values(), ids=HARD)
def test_a_gpu_by_name_is_measured_where_there_is_one(
    slots: dict[str, str], line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = importlib.import_module("vaelint.pipeline.check").check_target(written(tmp_path, **slots), lambda message: None)
    assert [(f.code, f.span.line, f.certainty) for f in result.findings] == [("VAE602", line, Certainty.CONFIRMED)]


def test_autocast_refuses_what_is_said_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (fixture,) = fixtures("bad", "vae607")
    result = importlib.import_module("vaelint.pipeline.check").check_target(fixture.request("cuda"), lambda message: None)
    (finding,) = (f for f in result.findings if f.code == "VAE607")
    assert finding.certainty is Certainty.CONFIRMED and finding.evidence is not None
    assert "unsafe to autocast" in finding.evidence.measured


def test_autocast_computes_exponentials_and_sums_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of operations that VAE603 relies on: under autocast on CUDA neither overflows."""
    monkeypatch.chdir(tmp_path)
    with torch.autocast("cuda", dtype=torch.float16):
        half = torch.full((70_000,), 12.0, dtype=torch.float16, device="cuda")
        assert half.exp().dtype is half.sum().dtype is torch.float32
        assert bool(half.exp().isfinite().all()) and bool(half.sum().isfinite())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_model_runs(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, eps="torch.randn(4, device=std.device)")
    model = traced(code=f"with torch.autocast(model.dec[0].weight.device.type, dtype=torch.{dtype}):\n    loss = model(x)")
    result = measured(model, claims.NoiseRows("", site=model.sites[0], equal=True), device="cuda")
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
    write(tmp_path, eps="torch.randn(4, device=std.device)", rec="F.binary_cross_entropy(recon - 9, x)")
    command = [sys.executable, "-m", "vaelint", "check", "model.py:VAE", "--input", "x=8x12:float32[0,1]", "--step", "loss = model(x)"]
    done = subprocess.run(
        [*command, "--output-format", "json", "--device", "cuda"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    (target,) = json.loads(done.stdout)["targets"]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "VAE201" in {f["code"] for f in target["findings"]}
    assert target["confirm"]["outcome"] in ("raised", "ran") and "assertion" in target["confirm"]["reason"]


def test_an_optimizer_steps_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    with (tmp_path / "model.py").open("a") as file:
        file.write("\n\ndef train(model):\n    return torch.optim.Adam(model.parameters(), lr=0.01)\n")
    facts = measured(traced(), device="cuda").confirm
    assert facts["device"] == "cuda:0"
    assert facts["optimizer"]["finite"] and facts["optimizer"]["loss_after"] < facts["optimizer"]["loss_before"]
    assert facts["optimizer"]["moved"] > 0.7 * facts["parameters"]  # units of a ReLU that no sample of these draws switches on stay


TRAINED = """
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


model = VAE().cuda()
optimizer, scaler = torch.optim.Adam(model.parameters()), torch.amp.GradScaler("cuda", enabled=AMP)
for (x,) in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(640, 12)), batch_size=16, pin_memory=True):
    x = x.cuda(non_blocking=True)
    with torch.autocast("cuda", dtype=torch.float16, enabled=AMP):
        y, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
        loss = F.mse_loss(y, x, reduction="sum") / len(x) + REDUCED
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""


@pytest.mark.parametrize("amp", ["False", "True"])
@pytest.mark.parametrize(("reduced", "codes"), [("kl.sum(1).mean()", []), ("kl.mean()", ["VAE403"])])
def test_a_training_on_the_device_is_observed_and_run_again_there(reduced: str, codes: list[str], amp: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINED.replace("REDUCED", reduced).replace("AMP", amp))
    command = [sys.executable, "-m", "vaelint", "run", "--output-format", "json", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    (target,) = json.loads(done.stdout)["targets"]
    assert [f["code"] for f in target["findings"]] == codes, done.stdout
    assert (target["confirm"]["device"], target["confirm"]["outcome"]) == ("cuda:0", "ran"), target["confirm"]
    sure = {"confirmed", "suspected"} if amp == "True" else {"confirmed"}  # in half precision a weight may not be told from its neighbours
    assert {f["certainty"] for f in target["findings"]} <= sure
