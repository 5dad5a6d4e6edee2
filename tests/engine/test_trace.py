"""`vaelint trace`: the way from input to loss, what each step costs, and where it ends when user code fails."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import commandline
import jsonschema
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.report import tree
from vaelint.report.parts.view import View
from vaelint.trace.ladder import Tracer

DATA = Path(__file__).parents[1] / "data"
SCHEMA = json.loads((Path(__file__).parents[2] / "vaelint" / "report" / "schema.json").read_text())
BUGGY = (DATA / "vae_three_bugs.py").read_text()

CONV = """
import torch
import torch.nn.functional as F
from torch import nn


class ConvVAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(),
        )
        self.heads = nn.Linear(32 * 7 * 7, 2 * latent)
        self.lift = nn.Linear(latent, 32 * 7 * 7)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid()
        )

    def forward(self, x):
        mu, logvar = self.heads(self.encoder(x)).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        recon = self.decoder(self.lift(z).view(-1, 32, 7, 7))
        loss = F.binary_cross_entropy(recon, x, reduction="sum") / len(x)
        return loss - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
"""
FAILING = BUGGY.replace("nn.Linear(latent_dim, hidden_dim), nn.ReLU()", "nn.Linear(latent_dim, 64), nn.ReLU()")


def traced(folder: Path, text: str, target: str, *inputs: str, monkeypatch: pytest.MonkeyPatch, fits: bool = False) -> TargetResult:
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    (folder / "model.py").write_text(text)
    return check_target(Request(f"model.py:{target}", inputs, device="none", trail="only", fits=fits), lambda message: None)


def cli(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint("trace", *args, cwd=folder, env={"COLUMNS": "100"})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_way_is_folded_and_costs_are_told(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BUGGY)
    done = cli(tmp_path, "model.py:VAE", "--input", "32x784")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(x.split()) for x in done.stdout.splitlines()]
    for expected in (
        "sizes: B=32, D=784, L=20; all values float32 on cpu",
        "├── encoder (B, 128) 100,480 6.42 M 16 KiB",
        "│ ├── eps = torch.randn(self.latent_dim, device=mu.dev... (20) 80 B",
        "│ └── z: mu + eps * std (B, L) 2.5 KiB",
        "│ └── reconstruction: recon = self.dec(z).unsqueeze(1) (B, 1, D)",
    ):
        assert expected in lines, done.stdout
    assert "enc.0" not in done.stdout


def test_depth_and_all_unfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = traced(tmp_path, BUGGY, "VAE", "32x784", monkeypatch=monkeypatch)
    assert "enc  Sequential" not in tree.render([result], View(depth=0))
    assert "enc.0" in tree.render([result], View(depth=2))
    assert "relu" in tree.render([result], View(everything=True))


def test_json_follows_the_schema_also_where_user_code_fails(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(FAILING)
    done = cli(tmp_path, "model.py:VAE", "--input", "32x784", "--output-format", "json")
    assert done.returncode == 1
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    trail = document["targets"][0]["trail"]
    failed = trail["failed"]
    assert (failed["stage"], failed["operation"], failed["module"]) == ("decoder", "linear", "dec.2")
    value, weight, _ = failed["operands"]
    assert (value["shape"], value["kind"], value["born"]["line"]) == (["B", "64"], "value", 26)
    assert (weight["shape"], weight["kind"], weight["born"]["line"]) == (["784", "128"], "parameter", 15)
    assert trail["steps"][-1]["id"] == value["step"]
    text = cli(tmp_path, "model.py:VAE", "--input", "32x784").stdout
    assert "FAILS: self.dec(z)" in text
    assert "constructed at model.py:15: nn.Linear(hidden_dim, input_dim)" in " ".join(text.split())


def test_a_file_that_cannot_be_imported_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import nothing_of_that_name\n")
    done = cli(tmp_path, "model.py:VAE", "--input", "32x784")
    assert done.returncode == 2
    assert "VAE001" in done.stdout


def test_depth_and_all_contradict_each_other(tmp_path: Path) -> None:
    done = cli(tmp_path, "model.py:VAE", "--input", "32x784", "--depth", "2", "--all")
    assert (done.returncode, "contradict" in done.stderr) == (2, True)


@pytest.mark.parametrize(("text", "target", "shape"), [(BUGGY, "VAE", (6, 784)), (CONV, "ConvVAE", (6, 1, 28, 28))])
def test_costs_are_those_of_a_real_step(
    text: str, target: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = traced(tmp_path, text, target, "x".join(map(str, shape)), monkeypatch=monkeypatch)
    assert result.trail is not None
    space: dict[str, Any] = {}
    exec(compile(text, "model.py", "exec"), space)
    model, x = space[target](), torch.rand(shape)
    kept: dict[int, int] = {}
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), x)}
    alive = []  # storages must not be freed and their numbers used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with warnings.catch_warnings(), FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(x)
        warnings.simplefilter("ignore")  # one of the bugs
        if not isinstance(out, torch.Tensor):
            space["loss_fn"](out[0], x, *out[1:])
    totals = result.trail["totals"]
    assert totals["flops"] == counter.get_total_flops()
    assert totals["parameters"] == sum(p.numel() for p in model.parameters())
    # Scalars of the formula and 4-byte factors may be kept in another type on fake tensors: a few bytes.
    assert abs(totals["activation_bytes"] - sum(kept.values())) <= 64


def test_stages_of_a_convolutional_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = traced(tmp_path, CONV, "ConvVAE", "6x1x28x28", monkeypatch=monkeypatch)
    assert result.trail is not None
    stages = {s["operation"]: s["stage"] for s in result.trail["steps"]}
    assert stages["conv2d"] == "encoder"
    assert stages["randn_like"] == "reparameterization"
    assert stages["conv_transpose2d"] == "decoder"
    assert stages["binary_cross_entropy"] == "loss"
    roles = {s["role"] for s in result.trail["steps"]}
    assert {"mu", "logvar", "std", "eps", "z", "reconstruction", "loss"} <= roles


def test_wide_and_hostile_names_keep_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        BUGGY.replace("rec = F", "复原误差的值 = F")
        .replace("rec + kl", "复原误差的值 + kl")
        .replace("torch.exp(0.5", "(lambda s='\x1b[31m': s) and torch.exp(0.5")
    )
    result = traced(tmp_path, text, "VAE", "8x784", monkeypatch=monkeypatch)
    shown = tree.render([result], View(width=80))
    assert "复原误差的值 = F.mse_loss" in shown
    assert "\x1b" not in shown


STRIDED = """
import torch
import torch.nn.functional as F
from torch import nn


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        down = [(3, 8), (8, 8), (8, 8), (8, 8)]
        self.enc = nn.Sequential(*[layer for a, b in down for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())])
        self.head, self.lift = nn.Conv2d(8, 8, 2, 1), nn.ConvTranspose2d(4, 8, 2)
        self.dec = nn.Sequential(*[layer for a, b in down[::-1] for layer in (nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1))])

    def forward(self, x):
        mu, logvar = self.head(self.enc(x)).chunk(2, 1)
        recon = self.dec(self.lift(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)))
        return F.mse_loss(recon, x, reduction="sum") / len(x) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum((1, 2, 3)).mean()
"""

PLACES = """
import torch
import torch.nn.functional as F
from torch import nn


class Places(nn.Module):
    def __init__(self):
        super().__init__()
        self.place, self.enc, self.norm = nn.Embedding(24, 16), nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.heads, self.lift, self.out = nn.Linear(16, 8), nn.Linear(4, 16), nn.Linear(16, 8)

    def forward(self, x):
        place = self.place.weight[: x.size(1)]
        mu, logvar = self.heads(self.norm((self.enc(x) + place).mean(1))).chunk(2, -1)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        recon = self.out(torch.relu(self.lift(z)[:, None] + place))
        return F.mse_loss(recon, x, reduction="sum") / len(x) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
"""


@pytest.mark.parametrize(
    ("text", "target", "shape", "expected"),
    [
        (STRIDED, "Strided", "4x3x64x64", ["B: any batch size", "H and W: multiples of 16, at least 32", "C: 3 only"]),
        (CONV, "ConvVAE", "4x1x28x28", ["B: any batch size", "H and W: 28 only", "C: 1 only"]),
        (
            PLACES,
            "Places",
            "4x10x8",
            ["B: at least 2 in training, because of norm (BatchNorm1d); 1 is enough in evaluation", "T: at most 24", "F: 8 only"],
        ),
    ],
)
def test_which_inputs_fit(text: str, target: str, shape: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelint.diagnose.fits.BUDGET_S", 60.0)
    result = traced(tmp_path, text, target, shape, monkeypatch=monkeypatch, fits=True)
    assert [f["text"] for f in result.fits] == expected


def test_a_shape_error_names_an_image_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelint.diagnose.fits.FAILED_BUDGET_S", 60.0)
    result = traced(tmp_path, STRIDED, "Strided", "4x3x28x28", monkeypatch=monkeypatch)
    finding = result.findings[0]
    assert finding.code == "VAE101"
    assert "a 28x28 image gives 1x1 here; 32x32 would fit" in finding.help
    assert finding.why == "the map is 1x1 here, and the kernel 2x2"
    assert [f["text"] for f in result.fits] == ["H and W: multiples of 16, at least 32"]


def test_sizes_without_time_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelint.diagnose.fits.BUDGET_S", 0.0)
    result = traced(tmp_path, STRIDED, "Strided", "4x3x64x64", monkeypatch=monkeypatch, fits=True)
    assert result.fits
    assert all("out of time" in f["text"] for f in result.fits)


def test_a_trail_up_to_an_exception_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BUGGY.replace("        return recon, mu, logvar", "        raise KeyError('mine')")
    result = traced(tmp_path, text, "VAE", "6x784", monkeypatch=monkeypatch)
    assert result.status == "failed"
    assert result.trail is not None
    assert result.trail["failed"]["error"] == "KeyError: 'mine'"
    assert result.trail["steps"][-1]["shape"] == ["B", "1", "784"]
    assert result.symbols["L"] == 20


TWO_SIZES = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.m, self.l, self.d = nn.Linear(63, 4), nn.Linear(63, 4), nn.Linear(4, 63)
    def forward(self, x):
        h = x.flatten(1)
        mu, logvar = self.m(h), self.l(h)
        return self.d(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)).view(-1, 7, 9), mu, logvar

def loss_fn(recon, x, mu, logvar):
    kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)
    return (recon - x).pow(2).sum((1, 2)).mean() / 7 / 9 + kl.mean() / 63
"""


def test_a_run_at_other_sizes_serves_all_symbols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight that hides its size has the model run at others: once each, whichever symbol asks. A video model takes seconds a run."""
    original, asked = Tracer.attempt, []

    def attempt(self: Tracer, step: Any, sizes: Any, *rest: Any, **more: Any) -> Any:
        asked.append(tuple(sorted(sizes.items())))
        return original(self, step, sizes, *rest, **more)

    monkeypatch.setattr(Tracer, "attempt", attempt)
    traced(tmp_path, TWO_SIZES, "VAE", "5x7x9", monkeypatch=monkeypatch)
    assert sorted(asked) == [(("B", 5), ("F", 9), ("T", 13)), (("B", 5), ("F", 17), ("T", 7))]
