"""A small model with places to change, and the pipeline up to the real pass: what tests of the real pass share."""

from __future__ import annotations

from pathlib import Path

from vaelint.anatomy.analyse import analyse
from vaelint.anatomy.model import Model
from vaelint.confirm.run import confirm
from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.loading.build import load_target
from vaelint.loading.tensors import make_inputs
from vaelint.rule import Claim
from vaelint.source.target import parse_target
from vaelint.source.written import Source
from vaelint.step.step import told_step
from vaelint.trace.ladder import Tracer
from vaelint.trace.lift import lift
from vaelint.trace.spans import SpanFinder

SLOTS = {
    "init": "pass",
    "method": "pass",
    "flat": "x",
    "eps": "torch.randn_like(std)",
    "std": "torch.exp(0.5 * logvar)",
    "z": "mu + std * eps",
    "code": "z",
    "out": "self.dec(code)",
    "rec": "F.mse_loss(recon, x, reduction='sum')",
    "kl": "-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()",
    "weight": "1.0",
    "loss": "(rec + weight * kl) / x.size(0)",
}
"""Each place of the model, as it is right."""

TEMPLATE = """
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(12, 16)
        self.mu, self.logvar = nn.Linear(16, 4), nn.Linear(16, 4)
        self.dec = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12))
        {init}

    def grow(self):
        {method}

    def forward(self, x):
        flat = {flat}
        h = torch.tanh(self.enc(flat))
        mu, logvar = self.mu(h), self.logvar(h)
        std = {std}
        eps = {eps}
        z = {z}
        code = {code}
        recon = {out}
        weight = {weight}
        rec = {rec}
        kl = {kl}
        loss = {loss}
        return loss
"""


def write(folder: Path, **slots: str) -> None:
    """Writes model.py with some places changed."""
    (folder / "model.py").write_text(TEMPLATE.format(**{**SLOTS, **slots}))


def traced(inputs: tuple[str, ...] = ("x=8x12:float32[0,1]",), code: str = "loss = model(x)", seed: int = 0) -> Model:
    """The model of model.py in the working directory, recorded and analysed."""
    given = InputSet.from_texts(inputs)
    loaded = load_target(parse_target("model.py:VAE"))
    names = [spec.name or "x" for spec in given.specs]
    tracer = Tracer(lambda: loaded.build({}), lambda sizes: make_inputs(given, names, sizes, seed=seed), SpanFinder("."), given.symbols)
    step = told_step(code, loaded)
    record, other = tracer.run(step), tracer.run(step, {"B": given.symbols["B"] + 3})
    assert record.failure is None, record.failure
    if other.failure is None and lift(record, other, "B"):
        record.rung = "symbolic"
    return analyse(record, tracer, given, step, Source("."), other)


def measured(model: Model, *claims: Claim, device: str = "cpu", timeout: float = 60.0) -> TargetResult:
    """One finding for each claim, after the real pass."""
    result = TargetResult("model.py:VAE")
    result.findings = [Finding("VAE999", "test", Severity.ERROR, "a claim", Span("model.py", 1), claim=claim) for claim in claims]
    request = Request("model.py:VAE", device=device, timeout=timeout)
    confirm(model, request, result)
    return result
