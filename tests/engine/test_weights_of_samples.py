"""What counts as a likelihood whose samples have weights of their own."""

from __future__ import annotations

import pytest
import torch

from vaelint.anatomy.reconstruction.recon import FAMILIES, _weighted


@pytest.mark.parametrize(("values", "found"), [(1, False), (4, True)])
def test_weights_of_samples_are_seen_where_a_sample_has_several_values(values: int, found: bool) -> None:
    """With one value a sample there is a weight for any gradient: a condition that picks a head was taken for its target."""
    generator = torch.Generator().manual_seed(0)
    r, t, weight = (torch.rand(3, n, generator=generator, dtype=torch.float64) for n in (values, values, 1))
    probe = _weighted(r, t, weight * FAMILIES["squared_error"](r, t))
    assert (probe is not None) is found and (probe is None or probe.kernel == "squared_error")
