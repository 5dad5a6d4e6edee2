"""All laws."""

from vaelint.laws import (
    addends,
    cancelled_gradients,
    capacity,
    columns,
    conditions,
    divergence,
    generation,
    gumbel,
    head_columns,
    knowledge,
    masks,
    own_gradients,
    priors,
    relaxations,
    repeated,
    separate_samples,
    taught,
    unread_inputs,
    weight_of_all,
)
from vaelint.laws.densities import family
from vaelint.laws.places import code_places, patch_places
from vaelint.laws.sequences import attention_masks, computed_steps, own_step, padding_inert
from vaelint.laws.training import turns_family

__all__ = [
    "addends",
    "attention_masks",
    "cancelled_gradients",
    "capacity",
    "code_places",
    "columns",
    "computed_steps",
    "conditions",
    "divergence",
    "family",
    "generation",
    "gumbel",
    "head_columns",
    "knowledge",
    "masks",
    "own_gradients",
    "own_step",
    "padding_inert",
    "patch_places",
    "priors",
    "relaxations",
    "repeated",
    "separate_samples",
    "taught",
    "turns_family",
    "unread_inputs",
    "weight_of_all",
]
