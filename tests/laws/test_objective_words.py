"""What is said of an objective: the kernel of its divergence, the reduction over each dimension, and the name of the whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from expectations import Fixture, fixture_of, fixtures

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target

SAID = {
    "ok_laplace_manual": ("Laplace KL to Laplace(0, 1)", "mean over B, sum over L"),
    "ok_laplace_prior_of_other_scale": ("Laplace KL to a prior of scale 2", "mean over B, sum over L"),
    "ok_relaxed_bernoulli": ("Bernoulli KL", "mean over B, sum over L"),
    "ok_concrete_bernoulli": ("Bernoulli KL", "mean over B, sum over L"),
    "ok_multivariate_normal": ("Gaussian KL to N(0, 1), full covariance", None),
    "ok_independent_normal": ("Gaussian KL to N(0, 1)", "mean over B, sum over L"),
    "ok_mixture_prior": ("Monte Carlo KL to a mixture prior", "mean over B, sum over L"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_divergence_is_named_with_its_reduction(name: str) -> None:
    result = check_target(fixture_of(name).request("none"), lambda _: None)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    kernel, reduction = SAID[name]
    assert term["kernel"] == kernel
    assert reduction is None or term["reduction"] == reduction


BETAS = {
    "ok_variance_that_normalises": 1.0,
    "ok_noise_added_up": 1.0,
    "ok_gait_time_first": 1.0,
    "ok_forecast_second_axis": 1.0,
    "ok_vampprior_clamped": 1.0,
    "ok_stopped_entropy": 1.0,
    "ok_residual_mean_unrolled": 1.0,
    "ok_one_expert_a_sample": 1.5,
    "ok_correlated_prior": 0.7,
    "ok_ensemble_of_decoders": 1.0,
    "ok_factored_likelihood": 1.0,
    "ok_bent_draw_estimated": 2.0,
    "ok_kumaraswamy_posterior": 0.5,
    "ok_prior_is_an_attribute": 1.0,
    "ok_largest_exponent_taken_twice": 1.0,
    "ok_mixture_over_one_channel": 1.0,
    "ok_factor_vae_halves": 1.0,
    "ok_two_draws_along_the_batch": 1.0,
    "ok_noise_of_all_steps": 1.0,
    "ok_noise_of_both_draws": 1.0,
    "ok_power_spectra": 1.0,
    "ok_rates_in_two_addends": 1.0,
    "ok_heavy_tails_of_both_draws": 1.0,
    "ok_zero_inflated_counts_of_any_dispersion": 1.0,
    "ok_decoded_under_another_batch_and_back": 1.0,
    "ok_densities_of_plain_objects": 1.0,
    "ok_points_folded_into_rows": 1.0,
    "ok_rows_of_a_fixed_picture": 1.0,
    "ok_ratios_of_spectra": 1.0,
}


@pytest.mark.parametrize("name", BETAS)
def test_the_effective_beta_is_measured(name: str) -> None:
    result = check_target(fixture_of(name).request("none"), lambda _: None)
    assert result.loss["beta"]["value"] == pytest.approx(BETAS[name], rel=1e-6)


def test_no_number_is_the_weight_of_what_another_output_shares_out() -> None:
    result = check_target(fixture_of("ok_slab_by_its_spike").request("none"), lambda _: None)
    assert result.loss["beta"] is None


@pytest.mark.parametrize("fixture", fixtures("bad", "vae310"), ids=lambda f: f.stem)
def test_a_likelihood_that_is_no_density_has_no_weight(fixture: Fixture) -> None:
    said = check_target(fixture.request("none"), lambda _: None)
    assert "VAE310" in {f.code for f in said.findings} and said.loss["beta"] is None and "beta" not in said.loss["objective"]
    assert not [t for t in said.loss["terms"] if t["role"] == "reconstruction" and t["weight"]]


def test_a_law_that_finds_no_density_takes_the_weight_as_well() -> None:
    said = check_target(fixture_of("vae331_likelihood_not_normalised__own_scale", "bad").request("none"), lambda _: None)
    (finding,) = [f for f in said.findings if f.code == "VAE331"]
    place = f"{finding.span.file}:{finding.span.line}"
    assert said.loss["beta"] is None
    assert f"effective beta: unknown, as the likelihood is not a density (VAE331 at {place})" in said.loss["notes"]


PARTS = {
    "ok_total_correlation": {"index-code mutual information": "1/B", "total correlation": "6/B", "dimension-wise KL": "1/B"},
    "ok_total_correlation_naive": {"index-code mutual information": "1/B", "total correlation": "4/B", "dimension-wise KL": "1/B"},
    "ok_dip_vae": {
        "Gaussian KL to N(0, 1)": "1/B",
        "off-diagonal covariance of the codes, squared": "5",
        "diagonal covariance of the codes against 1, squared": "20",
    },
    "ok_dip_two": {
        "Gaussian KL to N(0, 1)": "1/B",
        "off-diagonal covariance of the codes, squared": "10",
        "diagonal covariance of the codes against 1, squared": "5",
    },
    "ok_prior_that_draws_too": {"Gaussian KL to a learned prior": "1/B"},
    "ok_two_latents": {"Gaussian KL to N(0, 1)": "1/B", "Gaussian KL to a learned prior": "1/B"},
}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_of_a_divergence_are_listed_with_their_weights(name: str) -> None:
    result = check_target(fixture_of(name).request("none"), lambda _: None)
    assert {t["kernel"]: t["weight"] for t in result.loss["terms"] if t["role"] != "reconstruction"} == PARTS[name]


LIKELIHOODS = {
    "ok_negative_binomial": ("negative binomial", "an ELBO; counts as in scVI (Lopez et al. 2018)"),
    "ok_zero_inflated_counts": ("zero-inflated negative binomial", "an ELBO; counts as in scVI (Lopez et al. 2018)"),
    "ok_student_t": ("Student's t, nu = 4", "an ELBO"),
    "ok_huber": ("Huber, delta = 1", "an ELBO"),
    "ok_weights_mixed_by_sample": ("squared error", None),
    "ok_optimal_sigma": ("Gaussian with the variance that fits the batch best", None),
    "ok_gaussian_nll_loss": ("Gaussian with learned variance", None),
    "ok_discretised_logistic": ("discretised logistic, bins of width 0.00391", None),
    "ok_mixture_of_logistics": ("mixture of discretised logistics, bins of width 0.00784", None),
    "ok_continuous_bernoulli": ("continuous Bernoulli", None),
    "ok_gamma_of_shifted_data": ("a density of no known family, which adds up to one", "an ELBO"),
    "ok_weibull_of_shifted_data": ("a density of no known family, which adds up to one", "an ELBO"),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_is_named_with_its_exact_weight(name: str) -> None:
    result = check_target(fixture_of(name).request("none"), lambda _: None)
    term = next(t for t in result.loss["terms"] if t["role"] == "reconstruction")
    kernel, objective = LIKELIHOODS[name]
    assert term["kernel"] == kernel
    assert result.loss["beta"]["value"] == pytest.approx(1, abs=1e-6)
    assert result.loss["objective"].startswith("an ELBO") and objective in (None, result.loss["objective"])


OBJECTIVES: dict[str, tuple[str, dict[str, float]]] = {
    "ok_total_correlation": ("beta-TC-VAE", {"alpha": 1, "beta": 6, "gamma": 1}),
    "ok_dip_vae": ("DIP-VAE-I", {"lambda_od": 5, "lambda_d": 20}),
    "ok_dip_two": ("DIP-VAE-II", {"lambda_od": 10, "lambda_d": 5}),
    "ok_factor_vae": ("FactorVAE", {"gamma": 10}),
    "ok_info_vae": ("InfoVAE", {"alpha": 0, "lambda": 51}),
    "ok_wae_mmd": ("WAE-MMD", {"lambda": 100}),
    "ok_vq_vae": ("VQ-VAE", {"codebook": 1, "commitment": 0.25}),
    "ok_vampprior": ("VampPrior", {}),
    "ok_coupling_flow": ("normalising flow", {}),
    "ok_iwae": ("IWAE", {"K": 7}),
    "ok_beta_attribute": ("beta-VAE", {"beta": 8}),
    "ok_two_latents": ("hierarchical VAE", {}),
    "ok_joint_latents": ("JointVAE", {"beta_z": 4, "beta_c": 3}),
    "ok_sphere": ("S-VAE", {}),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_published_objective_is_named_with_its_source_and_weights(name: str) -> None:
    loss = check_target(fixture_of(name).request("none"), lambda _: None).loss
    known, weights = OBJECTIVES[name]
    (source,) = [p["source"] for p in loss["published"] if p["name"] == known]
    assert source in loss["objective"]
    assert {k: loss["weights"][k] for k in weights} == pytest.approx(weights, rel=1e-6, abs=1e-9)


def test_a_kl_of_weight_zero_is_described_as_it_would_weigh() -> None:
    loss = check_target(fixture_of("ok_annealed_by_argument").request("none"), lambda _: None).loss
    (term,) = [t for t in loss["terms"] if t["role"] == "kl"]
    assert (term["kernel"], term["weight"], term["reduction"]) == ("Gaussian KL to N(0, 1)", "0", "mean over B, sum over L")
    assert "kl_weight" in loss["objective"]


def test_a_bound_on_importance_samples_says_how_many() -> None:
    result = check_target(fixture_of("ok_iwae").request("none"), lambda _: None)
    assert result.loss["objective"] == "a bound on importance-weighted samples (IWAE, Burda et al. 2016), K = 7"


def test_the_weight_of_a_drawn_kl_is_told_from_the_variance_of_a_learned_prior() -> None:
    result = check_target(fixture_of("ok_drawn_kl_learned_prior").request("none"), lambda _: None)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    assert (term["weight"], result.loss["beta"]["expression"]) == ("1/B", "1")


@pytest.mark.parametrize(
    ("name", "sign", "weight", "beta"),
    [
        ("vae407_kl_sign", "-", "1/B", {"expression": "-1", "value": -1.0, "note": ""}),
        ("vae410_swapped_posterior", "+", "?/B", None),
        ("vae411_kl_reversed", "+", "?/B", None),
    ],
)
def test_what_is_no_kl_has_no_effective_beta(name: str, sign: str, weight: str, beta: dict[str, object] | None) -> None:
    result = check_target(fixture_of(name).request("none"), lambda _: None)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    assert (term["sign"], term["weight"], result.loss["beta"]) == (sign, weight, beta)


def told_of(tmp_path: Path, source: str, target: str, *inputs: str, step: str) -> TargetResult:
    """The result for a text."""
    (tmp_path / "model.py").write_text(source)
    return check_target(Request(f"{tmp_path}/model.py:{target}", inputs, step=step, device="none"), lambda _: None)


def test_an_exchange_says_what_settles_its_place(tmp_path: Path) -> None:
    source = fixture_of("vae410_swapped_posterior").path.read_text()
    blank = source.replace("(mu, logvar):", "(one, other):").replace(
        "1 + logvar - mu.pow(2) - logvar.exp()", "1 + other - one.pow(2) - other.exp()"
    )
    blank = re.sub(r"\bmu\b", "first", re.sub(r"\blogvar\b", "second", blank))
    for text, said in ((source, "only names say that they are exchanged here"), (blank, "exchange the two in the sampler instead")):
        result = told_of(tmp_path, text, "VaseVAE", "17x29", step="loss = model.shared_step(x)")
        (finding,) = [f for f in result.findings if f.code == "VAE410"]
        assert said in finding.notes[0]


def test_what_has_a_gradient_is_listed_once_beside_its_own_number(tmp_path: Path) -> None:
    source = fixture_of("ok_independent_normal").path.read_text()
    step = "px, qz = model(x); loss = -elbo(x, px, qz); loss = loss.item() + (loss - loss.detach())"
    result = told_of(tmp_path, source, "TidyVAE", "16x33", step=step)
    assert [t["role"] for t in result.loss["terms"]] == ["reconstruction", "kl"]


def test_a_schedule_whose_step_cannot_be_repeated_is_not_called_quiet(tmp_path: Path) -> None:
    source = fixture_of("vae416_kl_weight_stuck__restarted").path.read_text()
    once = "        assert not hasattr(self, 'ran'), 'one step a model'\n        self.ran = True\n"
    source = source.replace("        y, m, lv = self(x)\n", f"{once}        y, m, lv = self(x)\n")
    result = told_of(tmp_path, source, "VAE", "x=16x24", step="loss = model.training_step(x)")
    (row,) = [row for row in result.not_applicable if row["code"] == "VAE416"]
    assert row["reason"].endswith("was not examined, as the step cannot be repeated on one model: AssertionError: one step a model")
    assert "VAE416" not in result.quiet
