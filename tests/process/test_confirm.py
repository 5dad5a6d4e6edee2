"""The real pass confirms what is so and refutes what is not: each claim is measured on a wrong model and on the right one."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from injections import CASES, LOGITS, RIGHT, STATE, Build, of_site, of_weak_models, outcomes, ratio_is, table
from realpass import SLOTS, measured, traced, write
from thorough import examples

from vaelint import claims
from vaelint.confirm import budget
from vaelint.confirm.budget import estimate, plan
from vaelint.confirm.run import choose_device
from vaelint.core.finding import Certainty
from vaelint.experiment.verdict import experiments
from vaelint.rule import Claim
from vaelint.rule_packages import load_rules

CONFIRMED, REFUTED = Certainty.CONFIRMED, Certainty.REFUTED


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("slots", "shared", "build"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_so_is_confirmed(tmp_path: Path, slots: dict[str, str], shared: dict[str, str], build: Build) -> None:
    write(tmp_path, **{**shared, **slots})
    model = traced()
    result = measured(model, build(model))
    evidence = result.findings[0].evidence
    assert evidence is not None
    assert result.findings[0].certainty is CONFIRMED, evidence


REFUTABLE = [c for c in CASES if c[1]]


@pytest.mark.parametrize(("shared", "build"), [c[2:] for c in REFUTABLE], ids=[c[0] for c in REFUTABLE])
def test_what_is_not_so_is_refuted(tmp_path: Path, shared: dict[str, str], build: Build) -> None:
    write(tmp_path, **shared)
    model = traced()
    result = measured(model, build(model))
    evidence = result.findings[0].evidence
    assert evidence is not None
    assert result.findings[0].certainty is REFUTED, evidence


@pytest.mark.parametrize(("slots", "claim"), [s[1:] for s in STATE], ids=[s[0] for s in STATE])
def test_claims_about_the_state_are_refuted(tmp_path: Path, slots: dict[str, str], claim: Claim) -> None:
    write(tmp_path, **slots)
    result = measured(traced(), claim)
    assert result.findings[0].certainty is REFUTED, result.findings[0].evidence


def test_each_experiment_refutes_wrong_findings_and_confirms_none(tmp_path: Path) -> None:
    """On models that mix and draw by design, and in half and double precision. `python tests/support/injections.py` prints the table."""
    counts = outcomes([v for v in RIGHT if v != "plain"][:: examples(5, 1)], tmp_path)
    assert {name: dict(got) for name, got in counts.items() if got[CONFIRMED.value]} == {}
    assert {e.kind.in_words() for e in experiments()} == {name for name, got in counts.items() if got[REFUTED.value]}
    undecided = sum(got[Certainty.SUSPECTED.value] + got[Certainty.PROVED.value] for got in counts.values())
    assert undecided < 0.05 * sum(got[c.value] for got in counts.values() for c in Certainty)
    rows = table(counts).splitlines()
    assert len(rows) == 2 + len(experiments()) and all(row.count("|") == 8 and row.endswith("| 0 |") for row in rows[2:])


def test_no_experiment_refutes_a_right_finding_where_it_hardly_shows(tmp_path: Path) -> None:
    """On models whose weights are tiny, saturate, are zero or NaN. `tests/support/injections.py` takes each claim to each of them."""
    counts = of_weak_models(tmp_path, one_in=examples(6, 1))
    assert {name: dict(got) for name, got in counts.items() if got[REFUTED.value]} == {}
    assert counts["poison_row"][CONFIRMED.value] and counts["no_grad_from_recon"][CONFIRMED.value], "larger weights bring it to light"
    assert sum(got[CONFIRMED.value] for got in counts.values()) > 0.6 * sum(got[c.value] for got in counts.values() for c in Certainty)


def test_an_unknown_experiment_leaves_the_finding(tmp_path: Path) -> None:
    write(tmp_path)

    @dataclasses.dataclass(frozen=True)
    class NoSuchThing(Claim):
        pass

    finding = measured(traced(), NoSuchThing("something")).findings[0]
    assert finding.certainty is Certainty.SUSPECTED
    assert finding.evidence is not None and "no experiment" in finding.evidence.detail


def test_an_experiment_that_does_not_apply_leaves_the_finding_and_says_why(tmp_path: Path) -> None:
    write(tmp_path)
    model = traced()
    without = replace(model.sites[0], scale=None)
    finding = measured(model, claims.WeightStays("", name="no_such_attribute"), claims.ScaleNegative("", site=without)).findings[1]
    assert finding.certainty is Certainty.SUSPECTED
    assert finding.evidence is not None and finding.evidence.measured == "not measured" and finding.evidence.detail


def test_facts_of_the_pass(tmp_path: Path) -> None:
    write(tmp_path)
    result = measured(traced())
    facts = result.confirm
    assert (facts["device"], facts["outcome"], facts["batch"], facts["finite"], facts["grad_finite"]) == ("cpu", "ran", 8, True, True)
    assert facts["parameters"] == facts["parameters_with_gradient"] == 12 * 16 + 16 + 2 * (16 * 4 + 4) + 4 * 16 + 16 + 16 * 12 + 12
    assert math.isfinite(facts["loss"])
    assert result.confirm == measured(traced()).confirm


def test_nothing_leaks(tmp_path: Path) -> None:
    write(tmp_path, init="torch.manual_seed(5)", flat="x + 0 * torch.rand(1)")
    model = traced()
    torch.manual_seed(1)
    before = torch.get_rng_state()  # Python's own generator cannot be watched here: the run-time type checks draw from it
    with torch.no_grad():
        measured(model, of_site(claims.NoiseRepeats)(model), of_site(claims.NoiseMoments)(model))
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() is torch.float32


def test_batch_normalisation_mixes_no_rows(tmp_path: Path) -> None:
    write(tmp_path, init="self.norm = nn.BatchNorm1d(12)", flat="self.norm(x)")
    model = traced()
    claim = claims.PoisonRow("", node=model.sites[0].mu)
    assert measured(model, claim).findings[0].certainty is REFUTED


def test_functional_dropout_does_not_look_like_mixing(tmp_path: Path) -> None:
    write(tmp_path, flat="F.dropout(x, 0.5, self.training)")
    model = traced()
    claim = claims.PoisonRow("", node=model.sites[0].mu)
    assert measured(model, claim).findings[0].certainty is REFUTED


def test_inputs_without_a_range_are_brought_where_the_loss_wants_them(tmp_path: Path) -> None:
    write(tmp_path, rec="F.binary_cross_entropy(recon, x, reduction='sum')", **LOGITS)
    model = traced(("x=8x12",))
    result = measured(model, ratio_is(1.0)(model))
    assert result.confirm["outcome"] == "ran"
    assert "drawn from [0, 1]" in result.confirm["inputs"]
    assert result.confirm["reason"] is None, "it ran as it was asked to"
    assert result.findings[0].certainty is CONFIRMED


def test_what_raises_is_an_outcome_and_the_rest_is_still_measured(tmp_path: Path) -> None:
    write(tmp_path, eps="torch.randn(4)", rec="F.binary_cross_entropy(recon - 9, x)")
    model = traced()
    result = measured(model, of_site(claims.NoiseRows, equal=True)(model))
    assert result.confirm["outcome"] == "raised"
    assert "between 0 and 1" in result.confirm["reason"] and "model.py:" in result.confirm["reason"]
    assert result.findings[0].certainty is CONFIRMED


def test_a_backward_pass_that_raises_is_an_outcome(tmp_path: Path) -> None:
    write(tmp_path, z="(lambda e: (e, std.mul_(2), mu + e)[2])(std.exp() * eps + std * std)")
    result = measured(traced())
    assert result.confirm["outcome"] == "raised"
    assert "inplace" in result.confirm["reason"]


def test_a_smaller_batch_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    model = traced(("x=400x12:float32[0,1]",))
    need = estimate(model.record)
    monkeypatch.setattr(budget, "free_memory", lambda device: (need.fixed + need.moving // 2) / 0.7)
    result = measured(model, of_site(claims.NoiseRows, equal=True)(model))
    assert 50 <= result.confirm["batch"] < 105
    assert "instead of 400: not enough memory" in result.confirm["reason"]
    assert result.findings[0].certainty is REFUTED
    monkeypatch.setattr(budget, "free_memory", lambda device: need.fixed // 2)
    result = measured(model)
    assert result.confirm["outcome"] == "skipped" and "not even a small batch" in result.confirm["reason"]


def test_a_smaller_batch_where_time_is_short(tmp_path: Path) -> None:
    write(tmp_path)
    need = replace(estimate(traced().record), flops=1e15)
    assert plan(need, 64, "cpu", 1e9).batch == 64
    planned = plan(need, 1 << 20, "cpu", need.seconds("cpu") / 4)
    assert planned.batch == 1 << 18 and "time" in planned.reason


def test_a_few_rows_where_a_step_takes_longer_than_was_estimated(tmp_path: Path) -> None:
    write(tmp_path, flat="(hasattr(x, 'fake_mode') or __import__('time').sleep(0.02 * len(x)), x)[1]")
    model = traced(("x=400x12:float32[0,1]",))
    result = measured(model, of_site(claims.NoiseRows, equal=True)(model), timeout=5.0)
    assert (result.confirm["outcome"], result.confirm["batch"]) == ("ran", 4)
    assert result.confirm["reason"].startswith("B=4 instead of 400: the step was not done within")
    assert result.findings[0].certainty is REFUTED


def test_operations_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    products = 2 * 8 * (12 * 16 + 2 * 16 * 4 + 4 * 16 + 16 * 12)
    need = estimate(traced().record)
    assert need.flops == products and need.uncounted == ()
    assert need.activations < need.moving


def test_a_loss_that_is_not_finite_is_found_at_its_line(tmp_path: Path) -> None:
    rule = next(r for r in load_rules() if r.name == "non-finite")
    write(tmp_path, rec="torch.log(recon.sum(1) - recon.sum(1)).sum()")
    from vaelint.confirm.run import confirm
    from vaelint.core.result import Request, TargetResult

    result = TargetResult("model.py:VAE", quiet=[rule.code])
    confirm(traced(), Request("model.py:VAE", device="cpu"), result)
    (finding,) = result.findings
    line = next(i for i, text in enumerate((tmp_path / "model.py").read_text().splitlines(), 1) if "torch.log" in text)
    assert (finding.code, finding.span.line, finding.certainty) == (rule.code, line, CONFIRMED)
    assert result.quiet == []
    assert result.confirm["finite"] is False


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == ("cpu", "")
    assert choose_device("cuda")[0] is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == ("cuda:0", "")
    assert choose_device("cuda:0") == ("cuda:0", "")
    assert choose_device("cuda:3")[0] is None


def test_the_template_is_right(tmp_path: Path) -> None:
    write(tmp_path)
    model = traced()
    assert SLOTS["kl"] and [k.probe.verdict for k in model.kls] == ["exact"]
    assert model.betas[0].value == pytest.approx(1.0)


ADAM = """

def train(model, loader):
    optimizer = torch.optim.{name}(model.{part}parameters(), lr=0.01)
    for x in loader:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
"""


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_one_step_of_the_optimizer_that_the_file_builds(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    with (tmp_path / "model.py").open("a") as file:
        file.write(ADAM.format(name=name, part=""))
    facts = measured(traced()).confirm
    step = facts["optimizer"]
    assert (step["name"], step["finite"], step["loss_before"]) == (name, True, facts["loss"])
    assert step["moved"] == step["parameters"] == facts["parameters"]
    assert step["loss_after"] < step["loss_before"]


def test_an_optimizer_that_cannot_step_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "model.py").open("a") as file:
        file.write(ADAM.format(name="LBFGS", part="dec."))
    step = measured(traced()).confirm["optimizer"]
    assert step["name"] == "LBFGS" and "closure" in step["reason"]


def test_what_only_real_tensors_refuse_is_a_finding(tmp_path: Path) -> None:
    write(tmp_path, rec="F.binary_cross_entropy(recon.sigmoid(), x.double(), reduction='sum')")
    load_rules()
    declare = measured(traced())
    assert declare.confirm["outcome"] == "raised"
    (finding,) = declare.findings
    line = next(i for i, text in enumerate((tmp_path / "model.py").read_text().splitlines(), 1) if "x.double()" in text)
    assert (finding.code, finding.span.line, finding.certainty) == ("VAE007", line, CONFIRMED)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory", "ran out of memory: estimated"),
        (RuntimeError("CUDA error: device-side assert triggered"), "raised", "index out of range"),
        (KeyError("x"), "raised", "KeyError"),
    ],
)
def test_what_ends_a_pass_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str, words: str
) -> None:
    write(tmp_path)
    model = traced()
    kept, torch.tanh = torch.tanh, lambda *_: (_ for _ in ()).throw(error)
    try:
        facts = measured(model).confirm
    finally:
        torch.tanh = kept
    assert facts["outcome"] == outcome and words in facts["reason"]


@pytest.mark.parametrize(
    ("raised", "words", "claimed"),
    [
        ("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!", "same device", CONFIRMED),
        ("CUDA error: device-side assert triggered", "an assertion failed on the GPU", Certainty.SUSPECTED),
    ],
)
def test_what_another_device_refuses_is_repeated_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, words: str, claimed: Certainty
) -> None:
    """A device that is the CPU under another name stands in for a GPU, whose first run raises."""
    write(tmp_path, eps="torch.randn(4, device=std.device)")
    model = traced()
    monkeypatch.setattr("vaelint.confirm.run.choose_device", lambda asked: ("cpu:0", ""))
    kept, faults = torch.tanh, iter([RuntimeError(raised)])

    def fails_once(*args: torch.Tensor) -> torch.Tensor:
        for fault in faults:
            raise fault
        return kept(*args)

    monkeypatch.setattr(torch, "tanh", fails_once)
    raising = next(n for n in model.record.nodes if n.name.startswith("tanh"))
    result = measured(model, claims.DeviceError("", node=raising), of_site(claims.NoiseRows, equal=True)(model))
    facts, (of_device, of_noise) = result.confirm, result.findings
    assert (facts["device"], facts["outcome"]) == ("cpu", "ran")
    assert facts["reason"].startswith("repeated on the CPU, as on cpu:0 it raises ") and words in facts["reason"]
    assert (of_device.certainty, of_noise.certainty) == (claimed, CONFIRMED)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_under_autocast_is_measured(tmp_path: Path, dtype: str) -> None:
    write(tmp_path, eps="torch.randn(4, device=std.device)")
    model = traced(code=f"with torch.autocast(model.dec[0].weight.device.type, dtype=torch.{dtype}):\n    loss = model(x)")
    result = measured(model, claims.NoiseRows("", site=model.sites[0], equal=True))
    assert result.confirm["outcome"] == "ran" and result.confirm["grad_finite"]
    assert result.findings[0].certainty is CONFIRMED
