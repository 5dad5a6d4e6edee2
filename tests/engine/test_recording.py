"""What a record shares with others: a step gone on with is the whole step, and a mode that nobody reads is not run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from usermodels import Make

from vaelint.core.result import Request
from vaelint.loading.tensors import make_inputs
from vaelint.pipeline.check import check_target
from vaelint.record.record import Record
from vaelint.step.step import Step
from vaelint.trace.ladder import Tracer
from vaelint.trace.spans import SpanFinder

MODEL = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(6, 8), nn.Linear(4, 6)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        self.kept = mu * 2
        return self.dec(z), mu, logvar

    def loss(self, out, x):
        again, _, _ = self(x)
        recon, mu, logvar = out
        kl = (mu.pow(2) + logvar.exp() - 1 - logvar).sum() / x.size(0)
        return (recon - x).pow(2).sum() + kl + self.kept.sum() + again.mean()
"""


@pytest.mark.parametrize(
    "loss", ["out = model(x); loss = model.loss(out, x)", "recon, mu, logvar = model(x); loss = (recon - x).abs().sum()"]
)
def test_a_step_gone_on_with_is_recorded_as_the_whole_is(make: Make, tmp_path: Path, loss: str) -> None:
    case = make(MODEL)
    names: list[str] = ["x"]
    tracer = Tracer(
        lambda: case.loaded.build({}), lambda sizes: make_inputs(case.inputs, names, sizes), SpanFinder(str(tmp_path)), {"B": 5}
    )
    forward = Step("out = model(x)", case.loaded, has_loss=False, call="model(x)")
    step = Step(loss, case.loaded, has_loss=True, call="model(x)")
    assert step.continues(forward)
    tracer.construct_for_signature()
    longer, whole = tracer.extended(tracer.run(forward), step), tracer.run(step)
    assert longer is not None
    assert longer.loss is not None
    assert [_told(n) for n in longer.nodes] == [_told(n) for n in whole.nodes]
    assert [c.path for c in longer.calls] == [c.path for c in whole.calls]
    assert (longer.loss.name, longer.step) == (whole.loss.name if whole.loss else "", step)
    assert not Step("loss = model.loss(model(x), x)", case.loaded, has_loss=True, call="model(x)").continues(forward)
    raising = Step("out = model(x); loss = out.nothing", case.loaded, has_loss=True, call="model(x)")
    assert tracer.extended(tracer.run(forward), raising) is None, "a failure is looked at in a run of the whole"


def _told(node: object) -> tuple[object, ...]:
    meta = node.meta  # type: ignore[attr-defined]
    place = [s for s in meta.get("stack", ()) if s.file == "model.py"]
    shape = tuple(meta["val"].shape) if hasattr(meta.get("val"), "shape") else meta.get("val")
    return str(node), str(node.target), str(node.args), shape, meta.get("grad"), meta.get("module"), place  # type: ignore[attr-defined]


BIASED = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.mu, self.lv, self.dec = nn.Dropout(0.1), nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 6)
        MADE

    def forward(self, x):
        h = self.drop(x)
        mu, logvar = self.mu(h), self.lv(h)
        std = torch.exp(0.5 * logvar)
        z = mu + std * (torch.randn_like(std) if MODE else torch.ones_like(std))
        return self.dec(z), mu, logvar
    MORE

def loss_fn(recon, x, mu, logvar):
    return ((recon - x).pow(2).sum(1) + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()
"""


OWN_TRAIN = """def train(self, mode=True):
        self.draws = mode
        return super().train(mode)
"""


@pytest.mark.parametrize(
    ("mode", "made", "more", "found"),
    [
        ("self.training", "pass", "", True),
        ("getattr(self, 'training')", "pass", "", True),
        ("self.drop.training", "pass", "", True),
        (
            "self.draws",
            "self.draws = True",
            OWN_TRAIN,
            True,
        ),
        ("self.drop.p", "pass", "", False),
    ],
)
def test_evaluation_mode_is_looked_at_where_the_code_can_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, made: str, more: str, found: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    (tmp_path / "model.py").write_text(BIASED.replace("MODE", mode).replace("MADE", made).replace("MORE", more))
    runs: list[bool] = []
    original = Tracer.run

    def run(self: Tracer, *args: Any, **options: Any) -> Record:
        runs.append(options.get("training", True))
        return original(self, *args, **options)

    monkeypatch.setattr(Tracer, "run", run)
    result = check_target(Request("model.py:VAE", ("5x6",), device="none"), lambda message: None)
    assert ("VAE214" in [f.code for f in result.findings]) is found
    assert (False in runs) is found


@pytest.mark.parametrize(("read", "rung"), [("torch.as_tensor(mu.size(1) * 4.0)", "symbolic"), ("mu.abs().max() * 0 + 16", "real")])
def test_numbers_made_of_sizes_are_read_without_real_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str, rung: str) -> None:
    text = MODEL.replace("        self.kept = mu * 2\n", f"        assert int(torch.sqrt({read})) == 4\n        self.kept = mu * 2\n")
    (tmp_path / "model.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    request = Request("model.py:VAE", inputs=("8x6",), step="out = model(x); loss = model.loss(out, x)", device="none")
    result = check_target(request, lambda message: None)
    assert result.rung == rung
    assert any("reads the value of a tensor" in note for note in result.notes) is (rung == "real")


def test_an_environment_below_the_files_folder_is_not_the_users(tmp_path: Path) -> None:
    spans = SpanFinder(str(tmp_path))
    assert spans.is_user(str(tmp_path / "model.py")) and spans.is_user(str(tmp_path / "lib" / "parts.py"))
    assert not spans.is_user(str(tmp_path / ".venv/lib/python3.11/site-packages/einops/layers.py"))
    package = SpanFinder(str(tmp_path / "lib/python3.11/site-packages/shipped"))
    assert package.is_user(str(tmp_path / "lib/python3.11/site-packages/shipped/vae.py"))
