"""One operation of a formula exchanged for another: it is found where it mends, and nowhere else."""

from __future__ import annotations

import pytest
from expectations import FIXTURES, read_fixture

from vaelint.pipeline.check import check_target

SLIPS = {
    "vae408_kl_formula/bad__shift_over_scale.py": "with log_scale.exp() squared here",
    "vae408_kl_formula/bad__total_of_digammas.py": "with sum before digamma here",
    "vae424_latent_density_formula/bad__gate_for_its_log.py": "with the logarithm of gate here",
}


@pytest.mark.parametrize("name", sorted(SLIPS))
def test_the_finding_says_what_would_mend_the_formula(name: str) -> None:
    found = check_target(read_fixture(FIXTURES / name).request("none"), lambda _: None)
    assert any(SLIPS[name] in f.label for f in found.findings), [f.label for f in found.findings]
