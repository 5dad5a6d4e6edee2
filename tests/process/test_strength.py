"""How strongly a finding is said follows from what was measured; and a target is clean only if it was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from realpass import measured, traced, write

import vaelint
from vaelint.anatomy.reconstruction.recon import fits_family
from vaelint.core.claim_and_repair import Claim
from vaelint.core.finding import Certainty, Evidence, Finding, Outcome, Severity, Span
from vaelint.core.result import Request, TargetResult
from vaelint.core.strength import as_said, weighed
from vaelint.experiment import verdict
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import NoPowerError, Verdict, seen
from vaelint.faults.bounds.averaged_components import curvatures_agree
from vaelint.pipeline.check import check_target

LOSSLESS = """
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.dec(z), mu, logvar

class Part(VAE):
    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        loss = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        recon = self.dec(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar))
        return loss, recon
"""


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(certainty: Certainty) -> Finding:
    return Finding("VAE999", "test", Severity.ERROR, "a claim", Span("model.py", 1), certainty)


S, P, M = Certainty.SUSPECTED, Certainty.PROVED, Certainty.MEASURED


@pytest.mark.parametrize(
    ("before", "outcome", "after"),
    [
        (S, "agrees", Certainty.CONFIRMED),
        (P, "disagrees", Certainty.REFUTED),
        *((before, "no power", before) for before in (S, P, M)),
        (S, "could not run", S),
        (P, "could not run", P),
        (M, "could not run", S),
    ],
)
def test_only_what_was_measured_moves_a_certainty(before: Certainty, outcome: Outcome, after: Certainty) -> None:
    assert weighed(found(before), Evidence("", "", "", "cpu", "", outcome)).certainty is after


@pytest.mark.parametrize(
    ("certainty", "outcome", "said"),
    [
        (S, "ran", "info"),
        (S, "raised", "info"),
        (S, "skipped", "warning"),
        (S, "out of memory", "warning"),
        *((c, "ran", "error") for c in (P, M, Certainty.CONFIRMED)),
    ],
)
def test_a_suspicion_is_not_said_loudly(certainty: Certainty, outcome: str, said: str) -> None:
    result = TargetResult("model.py:VAE", findings=[found(certainty)], confirm={"outcome": outcome})
    told = as_said(result)
    assert told.findings[0].severity.value == said
    assert told.status == ("clean" if said == "info" else "findings")
    assert result.findings[0].severity is Severity.ERROR, "the severity of the rule is kept for what comes after"


def test_an_effect_that_could_not_be_seen_decides_nothing() -> None:
    assert seen(1.0, 0.1, "").holds
    assert not seen(0.0, 0.1, "", least=5.0).holds
    assert seen(0.05, 0.1, "", least=0.2).holds is None
    assert seen(0.0, 0.1, "").silent
    assert seen(0.0, 0.1, "", claimed=False, least=5.0).holds
    with pytest.raises(NoPowerError):
        seen(float("nan"), 0.1, "")


@dataclass(frozen=True)
class Faulty(Claim):
    """A claim whose experiment has a fault."""


def test_an_experiment_that_raises_leaves_the_check_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(trial: Trial, claim: Claim) -> Verdict:
        raise KeyError(trial.device)

    monkeypatch.setitem(verdict._EXPERIMENTS, Faulty, verdict.Experiment(Faulty, "a fault", "exact", run))
    write(tmp_path)
    result = measured(traced(), Faulty("it raises"))
    assert result.status == "incomplete"
    assert result.findings[0].certainty is S
    assert "the experiment faulty raised KeyError" in result.incomplete[0]["reason"]


def checked(tmp_path: Path, target: str = "VAE", device: str = "none", *, allow: bool = False) -> TargetResult:
    (tmp_path / "model.py").write_text(LOSSLESS)
    request = Request(f"model.py:{target}", ("8x12",), device=device, allow_no_loss=allow)
    return check_target(request, lambda message: None)


@pytest.mark.parametrize("target", ["VAE", "Part"])
def test_a_target_without_its_loss_is_incomplete_and_says_what_to_type(tmp_path: Path, target: str) -> None:
    result = checked(tmp_path, target)
    assert result.status == "incomplete"
    ((reason, help),) = result.gaps()
    assert "no loss was found" in reason
    assert f"vaelint check model.py:{target} --input 8x12 --loss" in help
    assert "--allow-no-loss" in help


def test_a_target_that_has_no_loss_is_clean_where_that_is_said(tmp_path: Path) -> None:
    assert checked(tmp_path, allow=True).status == "clean"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_real_pass_that_was_asked_for_and_did_not_run_is_a_gap(tmp_path: Path) -> None:
    result = checked(tmp_path, device="cuda", allow=True)
    assert result.status == "incomplete"
    assert "--device none" in result.gaps()[0][1]


def test_a_report_says_whether_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(LOSSLESS)
    report = vaelint.check("model.py:VAE", input="8x12")
    assert not report.complete and not report.clean
    report = vaelint.check("model.py:VAE", input="8x12", allow_no_loss=True)
    assert report.complete and report.clean


def test_no_measurement_stops_at_complex_numbers_or_at_one_row_of_components() -> None:
    spectrum = torch.randn(4, 3, dtype=torch.complex128)
    assert not fits_family(spectrum, spectrum)
    assert not curvatures_agree(torch.ones(3, dtype=torch.float64), 0, 1e-6)
