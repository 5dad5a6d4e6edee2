"""All laws."""

from vaelint.laws import (
    addends,
    capacity,
    columns,
    computed_steps,
    conditions,
    divergence,
    generation,
    gumbel,
    head_columns,
    knowledge,
    masks,
    own_gradients,
    own_step,
    padding_inert,
    priors,
    relaxations,
    repeated,
    separate_samples,
    taught,
    unread_inputs,
)
from vaelint.laws.densities import family
from vaelint.laws.places import code_places, patch_places
from vaelint.laws.training import turns_family

__all__ = [
    "addends",
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
]
