"""What is said of an objective: the kernel of its divergence, the reduction over each dimension, and the name of the whole."""

from __future__ import annotations

import pytest
from expectations import FIXTURES, read_fixture

from vaelint.check import check_target

SAID = {
    "ok_laplace_manual": ("Laplace KL to Laplace(0, 1)", "mean over B, sum over L"),
    "ok_laplace_prior_of_other_scale": ("Laplace KL to a prior of scale 2", "mean over B, sum over L"),
    "ok_relaxed_bernoulli": ("Bernoulli KL", "mean over B, sum over L"),
    "ok_concrete_bernoulli": ("Bernoulli KL", "mean over B, sum over L"),
    "ok_multivariate_normal": ("Gaussian KL to N(0, 1), full covariance", None),
    "ok_independent_normal": ("Gaussian KL to N(0, 1)", "mean over B, sum over L"),
    "ok_total_correlation_naive": ("KL taken apart over the minibatch: mutual information, total correlation, dimension-wise KL", ""),
    "ok_mixture_prior": ("Monte Carlo KL to a mixture prior", ""),
}


@pytest.mark.parametrize("name", SAID)
def test_a_divergence_is_named_with_its_reduction(name: str) -> None:
    result = check_target(read_fixture(FIXTURES / "good" / f"{name}.py").request("none"), lambda _: None)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    kernel, reduction = SAID[name]
    assert term["kernel"] == kernel
    assert reduction is None or term["reduction"] == reduction


def test_a_bound_on_importance_samples_says_how_many() -> None:
    result = check_target(read_fixture(FIXTURES / "good" / "ok_iwae.py").request("none"), lambda _: None)
    assert result.loss["objective"] == "a bound on importance-weighted samples (IWAE), K = 7"


def test_the_weight_of_a_drawn_kl_is_told_from_the_variance_of_a_learned_prior() -> None:
    result = check_target(read_fixture(FIXTURES / "good" / "ok_drawn_kl_learned_prior.py").request("none"), lambda _: None)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    assert (term["weight"], result.loss["beta"]["expression"]) == ("1/B", "1")
