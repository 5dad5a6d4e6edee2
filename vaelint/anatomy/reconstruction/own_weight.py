"""Likelihoods that are weighed, element by element, with what the decoder itself put out: held, so that the weight is not trained.

Source: Seitzer et al. 2022, On the pitfalls of heteroscedastic uncertainty estimation, eq. 5 (beta-NLL).
"""

from __future__ import annotations

from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import requires_grad, shape


def is_weighed_by_itself(pair: Pair, flow: Flow) -> bool:
    """Whether a factor on the way from the comparison to the loss is as large as the reconstruction, made by the model, and held."""
    for node in pair.leaf.chain:
        for factor in ops.value_inputs(node) if ops.op(node) in ops.MUL | ops.DIV else []:
            made = factor in flow.learned and factor in flow.data and shape(factor) == shape(pair.recon)
            if made and factor not in pair.leaf.chain and not requires_grad(factor):
                return True
    return False
