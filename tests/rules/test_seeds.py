"""The systems of the five source documents: the clean ones in silence, each variant at its line."""

from __future__ import annotations

import pytest
from expectations import ROOT, Fixture, complaints, fixtures

from vaelint.core.finding import Severity
from vaelint.core.result import TargetResult

pytestmark = pytest.mark.filterwarnings("ignore")  # what a model warns of is its own affair

SEEDS = fixtures("seeds")

WITHOUT_A_LOSS = ("doc000_mlp_stage1", "doc000_mlp_stage2")  # a step on the way to a VAE: what was not looked at is no all-clear


def check(fixture: Fixture) -> TargetResult:
    from vaelint.pipeline.check import check_target

    return check_target(fixture.request(), lambda message: None)


def seed(stem: str) -> Fixture:
    return next(f for f in SEEDS if f.stem == stem)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("fixture", SEEDS, ids=lambda f: f.stem)
def test_seed_gives_what_its_comments_say(fixture: Fixture) -> None:
    result = check(fixture)
    assert complaints(fixture, result.findings) == [], result.notes
    if not fixture.expectations:
        assert result.status == ("incomplete" if fixture.stem in WITHOUT_A_LOSS else "clean"), result.notes


def test_all_five_documents_have_their_systems() -> None:
    assert {f.stem[:6] for f in SEEDS} == {"doc000", "doc001", "doc002", "doc003", "doc004"}


def test_an_autoencoder_is_told_that_it_is_not_variational() -> None:
    findings = [f for f in check(seed("doc001_autoencoder")).findings if f.code == "VAE005"]
    assert [f.severity for f in findings] == [Severity.INFO]


@pytest.mark.parametrize("stem", WITHOUT_A_LOSS)
def test_a_model_without_a_loss_says_which_rules_did_not_run(stem: str) -> None:
    result = check(seed(stem))
    assert "VAE004" in {f.code for f in result.findings}
    assert {"VAE402", "VAE412"} <= {skipped["code"] for skipped in result.not_applicable}


@pytest.mark.parametrize(
    ("stem", "beta"),
    [
        ("doc000_mlp_stage3", 1.0),
        ("doc004_summed_terms", 1.0),
        ("doc004_mean_mean", 196 / 7),
        ("doc004_scaled_by_a_literal", 0.01),
        ("doc004_mean_mean_scaled", 0.01 * 196 / 7),
        ("doc004_sum_against_mean", 32.0 * 196),
    ],
)
def test_effective_beta_is_a_number(stem: str, beta: float) -> None:
    """Relative to summed squared error and summed KL, at 32 samples of 196 pixels and 7 latents."""
    assert check(seed(stem)).loss["beta"]["value"] == pytest.approx(beta, rel=1e-3)
