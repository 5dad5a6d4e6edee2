"""Statements about objectives that were once wrong for a correct public model, and hold however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from expectations import fixture_of

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.replay import traced


def told_of(tmp_path: Path, name: str, *changes: tuple[str, str]) -> TargetResult:
    """The result for a fixture with some of its text exchanged."""
    request = fixture_of(name).request("none")
    source = fixture_of(name).path.read_text()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    (tmp_path / "model.py").write_text(source)
    target = f"{tmp_path}/model.py:{request.target.rpartition(':')[2]}"
    return check_target(Request(target, request.inputs, step=request.step, device="none"), lambda _: None)


def test_a_size_that_the_layout_of_rows_excludes_does_not_move_the_weight() -> None:
    loss = check_target(fixture_of("ok_rows_of_a_fixed_picture").request("none"), lambda _: None).loss
    assert (loss["beta"]["expression"], loss["objective"]) == ("1", "an ELBO")


def test_the_weight_of_a_commitment_is_of_its_mean_whatever_takes_the_mean(tmp_path: Path) -> None:
    by_hand = (
        ("F.mse_loss(picked, z.detach())", "(picked - z.detach()).pow(2).mean()"),
        ("F.mse_loss(picked.detach(), z)", "torch.mean((picked.detach() - z) ** 2)"),
    )
    for changes in ((), by_hand):
        loss = told_of(tmp_path, "ok_vq_vae", *changes).loss
        assert loss["objective"].endswith(("codebook 1, commitment 0.25", "commitment 0.25, codebook 1"))


def test_a_balanced_kl_has_no_beta_below_its_free_bits(tmp_path: Path) -> None:
    floor = ("self.balance * towards + (1 - self.balance) * back", "self.balance * towards.clamp_min(2.0) + 0.2 * back.clamp_min(2.0)")
    result = told_of(tmp_path, "ok_kl_balancing", floor)
    assert result.loss["beta"] is None
    assert any("one weight for the posterior and another for the prior" in note for note in result.loss["notes"])


def test_the_prior_of_a_large_model_has_its_own_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "SMALL", 10)
    result = told_of(tmp_path, "ok_prior_is_an_attribute", ("Normal(0, 1)", "Normal(torch.zeros(latent), torch.ones(latent))"))
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    assert term["kernel"] == "Gaussian KL to N(0, 1)"


def test_a_weight_for_each_sample_is_said_to_be_one(tmp_path: Path) -> None:
    each = ("kl_divergence(posterior, self.prior).sum(1).mean()", "(kl_divergence(posterior, self.prior).sum(1) * x[:, 0].exp()).mean()")
    result = told_of(tmp_path, "ok_prior_is_an_attribute", each)
    (term,) = [t for t in result.loss["terms"] if t["role"] == "kl"]
    assert "not that of a Gaussian KL" not in term["note"]


def test_points_in_rows_are_no_correlated_dimensions() -> None:
    loss = check_target(fixture_of("ok_points_folded_into_rows").request("none"), lambda _: None).loss
    (term,) = [t for t in loss["terms"] if t["role"] == "reconstruction"]
    assert term["kernel"] == "Gaussian with learned variance"


def test_a_distance_of_sorted_codes_is_no_mmd(tmp_path: Path) -> None:
    source = """
import torch
from torch import nn


class LimpetAe(nn.Module):
    def __init__(self, size=20, latent=4):
        super().__init__()
        self.enc, self.dec = nn.Linear(size, latent), nn.Linear(latent, size)

    def forward(self, x):
        z = self.enc(x)
        ways = nn.functional.normalize(torch.randn(z.size(1), 16), dim=0)
        apart = ((z @ ways).sort(0).values - (torch.randn_like(z) @ ways).sort(0).values).pow(2).mean()
        return (self.dec(z) - x).pow(2).sum(1).mean() + 10.0 * apart
"""
    (tmp_path / "model.py").write_text(source)
    result = check_target(Request(f"{tmp_path}/model.py:LimpetAe", ("x=16x20",), step="loss = model(x)", device="none"), lambda _: None)
    assert "draws of the prior" in result.loss["objective"] and "MMD" not in result.loss["objective"]


def test_a_likelihood_with_no_value_beyond_the_data_is_not_known(tmp_path: Path) -> None:
    logs = ("ratio - torch.log(ratio) - 1", "ratio * torch.log1p(-x / 3)")
    result = told_of(tmp_path, "ok_ratios_of_spectra", logs)
    assert not [f for f in result.findings if f.code == "VAE006"]
    assert result.loss["beta"] is None
