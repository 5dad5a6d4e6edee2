"""`torch_geometric` where it is not installed: its modules, by name. What has no stand-in says so once it is used."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vaelint.observe.data.graphs.graph_layers import LAYERS, reset
from vaelint.observe.data.graphs.graph_models import MODELS, TRANSFORMS
from vaelint.observe.data.graphs.graph_parts import EDGES, Batch, Data, DataLoader, Graphs
from vaelint.observe.data.graphs.graph_sets import made_up_sets
from vaelint.observe.data.stand_ins import lending

_INITS = {"glorot": nn.init.xavier_uniform_, "zeros": nn.init.zeros_, "ones": nn.init.ones_, "reset": reset}


def graph_modules(note: Callable[[str], None]) -> dict[str, ModuleType]:
    """All modules of the stand-in."""
    sets = made_up_sets(note, Data, Graphs)
    held: dict[str, dict[str, Any]] = {
        "data": {"Data": Data, "Batch": Batch, "DataLoader": DataLoader, "Dataset": Graphs, "InMemoryDataset": Graphs},
        "loader": {"DataLoader": DataLoader},
        "datasets": sets,
        "transforms": TRANSFORMS,
        "utils": EDGES,
        "nn": {**LAYERS, **MODELS},
        "nn.conv": {k: v for k, v in LAYERS.items() if k.endswith("Conv")},
        "nn.models": MODELS,
        "nn.models.autoencoder": MODELS,
        "nn.pool": {k: v for k, v in LAYERS.items() if k.endswith("pool")},
        "nn.inits": _INITS,
        "nn.dense.linear": {"Linear": nn.Linear},
    }
    made = {name: lending(f"torch_geometric.{name}", dict(names)) for name, names in held.items()}
    for name, module in made.items():
        above, _, last = name.rpartition(".")
        if above in made:
            setattr(made[above], last, module)
    whole = lending("torch_geometric", {n: m for n, m in made.items() if "." not in n} | {"__version__": "2.0"})
    whole.__dict__["seed_everything"] = torch.manual_seed
    return {m.__name__: m for m in (whole, *made.values())}
