"""The whole check with its real pass on a device that is not the CPU, as far as a machine without one can show it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from expectations import ROOT, Fixture, complaints, fixture_of, fixtures
from seconddevice import SecondDevice, told_of_a_gpu

from vaelint.core.finding import Certainty, Severity
from vaelint.core.result import Request, TargetResult

run = importlib.import_module("vaelint.confirm.run")
check_target = importlib.import_module("vaelint.pipeline.check").check_target
APART = ("vae502", "vae601")  # rules of which the fixtures do not run on a GPU
NUMBERS = (
    103, 201, 207, 208, 211, 217, 301, 309, 312, 402, 405, 406, 407, 411, 501, 503, 504, 601, 606, 608, 701, 702,
)  # fmt: skip


def first_of_each_rule() -> Iterator[Fixture]:
    """One fixture for each of some rules that say something of a model that runs."""
    seen: set[str] = set()
    for fixture in fixtures("bad"):
        code = fixture.stem[:6]
        if code not in seen and int(code[3:]) in NUMBERS:
            seen.add(code)
            yield fixture


@pytest.fixture(autouse=True)
def on_a_second_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU for all user code; the strict account of who is where for the real pass."""
    confirm = run.confirm

    def strictly(*args: Any) -> None:
        with SecondDevice():
            confirm(*args)

    monkeypatch.setattr(run, "confirm", strictly)
    with told_of_a_gpu():
        yield


def check(request: Request) -> TargetResult:
    result: TargetResult = check_target(request, lambda message: None)
    return result


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fixture", list(first_of_each_rule()), ids=lambda f: f.stem)
def test_no_experiment_mixes_two_devices(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = check(fixture.request("cuda"))
    assert complaints(fixture, result.findings) == []
    if not fixture.stem.startswith(APART):
        assert (result.confirm["device"], result.confirm["outcome"]) == ("cuda:0", "ran"), result.confirm["reason"]
    said = [f.evidence for f in result.findings if f.evidence is not None]
    assert not [e for e in said if "does not apply" in e.detail or "same device" in e.detail]


MODEL = """
import torch
import torch.nn.functional as F
from torch import nn

{before}


class VAE(nn.Module):
    def __init__(self{parameter}):
        super().__init__()
        {init}
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        eps = {eps}
        z = mu + torch.exp(0.5 * logvar) * eps
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (F.mse_loss(self.dec(z), x, reduction="sum") + kl) / x.size(0)
"""
CHOICE = 'torch.device("cuda" if torch.cuda.is_available() else "cpu")'
RIGHT = {
    "of_the_module": {"before": f"device = {CHOICE}", "eps": "torch.randn(mu.shape, device=device)"},
    "of_the_constructor": {"init": f"self.where = {CHOICE}", "eps": "torch.randn(mu.shape).to(self.where)"},
    "of_the_step": {"eps": "torch.randn(mu.shape).cuda() if torch.cuda.is_available() else torch.randn(mu.shape)"},
    "a_switch": {"before": "cuda = torch.cuda.is_available()", "eps": "torch.randn(mu.shape).cuda() if cuda else torch.randn(mu.shape)"},
    "of_the_caller": {"parameter": ', where="cuda"', "init": "self.where = where", "eps": "torch.randn(mu.shape, device=self.where)"},
    "a_generator": {
        "before": f"device = {CHOICE}",
        "init": "self.source = torch.Generator(device)",
        "eps": "torch.randn(mu.shape, device=device, generator=self.source)",
    },
}


def written(folder: Path, **slots: str) -> Request:
    (folder / "model.py").write_text(MODEL.format(**{"before": "", "parameter": "", "init": "pass", **slots}))
    return Request("model.py:VAE", ("5x12:float32[0,1]",), step="loss = model(x)", device="cuda")


@pytest.mark.parametrize("slots", RIGHT.values(), ids=RIGHT)
def test_a_choice_of_the_device_runs_on_it(slots: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = check(written(tmp_path, **slots))
    assert result.findings == []
    assert (result.confirm["device"], result.confirm["outcome"], result.confirm["reason"]) == ("cuda:0", "ran", None)


def test_a_choice_of_the_device_is_no_fault_on_the_cpu_beside_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = written(tmp_path, **RIGHT["of_the_constructor"])
    result = check(Request(request.target, request.inputs, step=request.step, device="cpu"))
    assert result.findings == [] and (result.confirm["device"], result.confirm["outcome"]) == ("cpu", "ran")


HARD = {
    "in_the_step": ({"eps": "torch.randn(mu.shape).cuda()"}, 17),
    "in_the_constructor": ({"init": "self.one = torch.ones(4).cuda()", "eps": "torch.randn_like(mu) * self.one"}, 12),
}


@pytest.mark.parametrize(("slots", "line"), HARD.values(), ids=HARD)
def test_a_gpu_by_name_is_measured_where_there_is_one(
    slots: dict[str, str], line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = check(written(tmp_path, **slots))
    assert [(f.code, f.span.line, f.certainty) for f in result.findings] == [("VAE602", line, Certainty.CONFIRMED)]
    assert result.findings[0].evidence is not None and "No CUDA GPUs are available" in result.findings[0].evidence.measured
    assert result.confirm["device"] == "cuda:0"


def test_each_tensor_left_behind_is_proved_though_the_first_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = check(written(tmp_path, init="self.one = torch.ones(4)", eps="torch.randn(mu.shape).mul(1.0)\n        mu = mu * self.one"))
    found = {(f.code, f.certainty): f for f in result.findings}
    assert list(found) == [("VAE601", Certainty.CONFIRMED)] and len(result.findings) == 2
    told = {f.evidence.detail for f in result.findings if f.evidence is not None}
    assert told == {"on a CUDA device", "real tensors, model and inputs counted as moved to another device"}
    assert result.confirm["device"] == "cpu" and "repeated on the CPU" in result.confirm["reason"]


@pytest.mark.parametrize(("device", "severity"), [("cpu", Severity.INFO), ("cuda", Severity.WARNING)])
def test_code_that_names_no_device_is_warned_of_where_one_was_asked_for(
    device: str, severity: Severity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (finding,) = check(fixture_of("ok_on_the_cpu_alone").request(device)).findings
    assert (finding.code, finding.span.line, finding.severity) == ("VAE601", 18, severity)


def test_products_are_of_float32_during_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []
    steps = "[seen.append((b.cudnn.allow_tf32, b.cuda.matmul.allow_tf32, b.cudnn.deterministic)) for b in (torch.backends,)]"
    monkeypatch.setattr(torch, "seen_switches", seen, raising=False)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.deterministic
    result = check(written(tmp_path, before="seen = torch.seen_switches", eps=f"torch.randn_like(mu)\n        {steps}"))
    assert result.confirm["outcome"] == "ran" and seen[-1] == (False, False, True)
    after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.deterministic
    assert before == after == (True, False, False)
