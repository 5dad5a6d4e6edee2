"""What becomes of a law that cannot be measured, and of one that fails by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from expectations import ROOT, fixture_of

from vaelint.core.result import TargetResult
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, Law
from vaelint.pipeline.check import check_target
from vaelint.report import full

pytestmark = pytest.mark.filterwarnings("ignore")


FAULTS = [
    KeyError("gone"),
    AttributeError("no such thing"),
    AssertionError("never"),
    ValueError("zip() argument 2 is shorter than argument 1"),
    TypeError("not a number"),
    RuntimeError("sizes do not fit"),
]


def raising(error: Exception) -> Callable[[Bench], Iterator[Broken]]:
    """A law that raises by itself."""

    def broken(bench: Bench) -> Iterator[Broken]:
        raise error

    return broken


def with_a_law(broken: Callable[[Bench], Iterator[Broken]], monkeypatch: pytest.MonkeyPatch) -> TargetResult:
    """The check of a correct model with one law alone."""
    monkeypatch.setattr("vaelint.laws.observe.LAWS", [Law("a-law", "it holds", (), "replay", broken)])
    monkeypatch.chdir(ROOT)
    return check_target(fixture_of("vae435_kl_constant", "good").request("none"), lambda message: None)


@pytest.mark.parametrize("error", FAULTS)
def test_a_law_that_fails_by_itself_leaves_the_check_incomplete(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    result = with_a_law(raising(error), monkeypatch)
    assert result.status == "incomplete"
    assert any("a-law" in reason and type(error).__name__ in reason for reason, _ in result.gaps())
    assert [row["outcome"] for row in result.laws] == ["not measured"]


def test_an_intervention_that_does_not_run_is_not_measured_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Bench) -> Iterator[Broken]:
        loss = bench.model.record.loss
        assert loss is not None
        inputs = {node: torch.zeros(3, 5, 7) for node in bench.model.record.inputs.values()}
        bench.model.replay([loss], inputs, bench.model.record.sizes)
        yield from ()

    result = with_a_law(broken, monkeypatch)
    assert (result.status, result.incomplete) == ("clean", [])
    assert "the intervention does not run" in result.laws[0]["reason"]


def test_a_replay_of_the_record_is_not_called_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = check_target(fixture_of("vae408_kl_formula", "bad__flow_volumes").request("none"), lambda message: None)
    shown = full.render([result])
    assert "replayed on cpu: law: " in shown
    assert "ran on" not in shown
