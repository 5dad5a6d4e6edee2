"""All laws."""

from vaelint.laws import (
    absent_targets,
    addends,
    blends,
    cancelled_gradients,
    columns,
    divergence,
    gumbel,
    head_columns,
    knowledge,
    masks,
    nearest_codes,
    own_gradients,
    priors,
    relaxations,
    repeated,
    separate_samples,
    straight_through,
    taught,
    unread_inputs,
    written_batch,
)
from vaelint.laws.decoding import column_order, compared_draws, conditions, generated_spread, generation, past_the_draw
from vaelint.laws.densities import family
from vaelint.laws.likelihoods import own_scale
from vaelint.laws.moments import prior_mass, symmetric
from vaelint.laws.places import code_places, nearest_points, patch_places, residual_stages
from vaelint.laws.products import absent_experts, borrowed_spreads, certain_priors, experts, sticks
from vaelint.laws.sequences import attention_masks, computed_steps, own_step, padding_inert
from vaelint.laws.training import fresh_draws, turns_family
from vaelint.laws.weights import capacity, weight_of_all, weight_twice

__all__ = [
    "absent_experts",
    "absent_targets",
    "addends",
    "attention_masks",
    "blends",
    "borrowed_spreads",
    "cancelled_gradients",
    "capacity",
    "certain_priors",
    "code_places",
    "column_order",
    "columns",
    "compared_draws",
    "computed_steps",
    "conditions",
    "divergence",
    "experts",
    "family",
    "fresh_draws",
    "generated_spread",
    "generation",
    "gumbel",
    "head_columns",
    "knowledge",
    "masks",
    "nearest_codes",
    "nearest_points",
    "own_gradients",
    "own_scale",
    "own_step",
    "padding_inert",
    "past_the_draw",
    "patch_places",
    "prior_mass",
    "priors",
    "relaxations",
    "repeated",
    "residual_stages",
    "separate_samples",
    "sticks",
    "straight_through",
    "symmetric",
    "taught",
    "turns_family",
    "unread_inputs",
    "weight_of_all",
    "weight_twice",
    "written_batch",
]
