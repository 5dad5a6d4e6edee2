"""All laws."""

from vaelint.laws import (
    addends,
    averages,
    capacity,
    code_places,
    columns,
    counters,
    divergence,
    knowledge,
    masks,
    own_gradients,
    own_step,
    padding_inert,
    priors,
    relaxations,
    separate_samples,
    taught,
    unread_inputs,
)
from vaelint.laws.densities import family

__all__ = [
    "addends",
    "averages",
    "capacity",
    "code_places",
    "columns",
    "counters",
    "divergence",
    "family",
    "knowledge",
    "masks",
    "own_gradients",
    "own_step",
    "padding_inert",
    "priors",
    "relaxations",
    "separate_samples",
    "taught",
    "unread_inputs",
]
