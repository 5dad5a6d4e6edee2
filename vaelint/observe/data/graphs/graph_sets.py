"""Data sets of PyTorch Geometric that have to be downloaded, made up: sizes as the tables of its documentation give them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vaelint.observe.data.after_import import Change
from vaelint.observe.data.stood_in import instead_of, where_absent

Note = Callable[[str], None]

_PLANETOID = {"cora": (2708, 1433, 5278, 7), "citeseer": (3327, 3703, 4552, 6), "pubmed": (19717, 500, 44324, 3)}
_ONE: Mapping[str, Mapping[str, tuple[int, int, int, int]]] = {
    "Amazon": {"computers": (13752, 767, 245861, 10), "photo": (7650, 745, 119081, 8)},
    "Coauthor": {"cs": (18333, 6805, 81894, 15), "physics": (34493, 8415, 247962, 5)},
    "CitationFull": {
        "cora": (19793, 8710, 63421, 70), "cora_ml": (2995, 2879, 8158, 7), "citeseer": (4230, 602, 5337, 6),
        "dblp": (17716, 1639, 52867, 4), "pubmed": (19717, 500, 44324, 3),
    },
    "WebKB": {"cornell": (183, 1703, 149, 5), "texas": (183, 1703, 162, 5), "wisconsin": (251, 1703, 257, 5)},
}  # fmt: skip
"""Sets of one graph: nodes, features, edges each counted once, classes."""
_MANY = {
    "mutag": (188, 18, 7, 2),
    "proteins": (1113, 39, 3, 2),
    "enzymes": (600, 33, 3, 6),
    "qm9": (1000, 18, 11, 19),
    "zinc": (1000, 23, 1, 1),
}


def _edges(nodes: int, count: int, seed: int) -> torch.Tensor:
    """Undirected edges: each is there both ways, none joins a node to itself."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(nodes, (count,), generator=generator)
    end = (start + torch.randint(1, max(nodes, 2), (count,), generator=generator)) % nodes
    return torch.stack([torch.cat([start, end]), torch.cat([end, start])])


Held = Callable[[list[Any], Any], Any]
"""Makes a data set of graphs, with what transforms them."""


def _held(graphs: list[Any], transform: Any) -> Any:
    base: Any = importlib.import_module("torch_geometric.data").InMemoryDataset

    class MadeUp(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(None, transform)
            self.data, self.slices = self.collate(graphs)

    return MadeUp()


def _one(note: Note, name: str, sizes: tuple[int, int, int, int], kind: Any, *, split: bool = False) -> list[Any]:
    nodes, features, edges, classes = sizes
    note(instead_of(name, f"{nodes} nodes with {features} features, {2 * edges} edges"))
    x = (torch.rand(nodes, features, generator=torch.Generator().manual_seed(nodes)) < 0.013).float()
    place = torch.arange(nodes)
    masks = {
        "train_mask": place < 20 * classes,
        "val_mask": (place >= 20 * classes) & (place < 20 * classes + 500),
        "test_mask": place >= nodes - 1000,
    }
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    return [kind(x=x, edge_index=_edges(nodes, edges, nodes), y=place % classes, **(masks if split else {}))]


def _many(note: Note, name: str, kind: Any) -> list[Any]:
    count, nodes, features, classes = _MANY[name.lower()]
    note(instead_of(name, f"{count} graphs of about {nodes} nodes with {features} features"))
    sizes = [max(3, nodes - 5 + i % 11) for i in range(count)]
    ones = [torch.eye(features)[torch.arange(n) % features] for n in sizes]
    return [
        kind(x=x, edge_index=_edges(n, n + 1, i), y=torch.tensor([i % classes])) for i, (n, x) in enumerate(zip(sizes, ones, strict=True))
    ]


def made_up_sets(note: Note, kind: Any, held: Held) -> dict[str, Callable[..., Any]]:
    """The data sets by name: `kind` makes a graph."""

    def planetoid(root: Any = "", name: str = "Cora", *_: Any, transform: Any = None, **__: Any) -> Any:
        return held(_one(note, name, _PLANETOID[name.lower()], kind, split=True), transform)

    def single(family: str) -> Callable[..., Any]:
        def made(root: Any = "", name: str = "", transform: Any = None, *_: Any, **__: Any) -> Any:
            return held(_one(note, f"{family} {name}", _ONE[family][name.lower()], kind), transform)

        return made

    return {
        "Planetoid": planetoid,
        "TUDataset": lambda root="", name="", transform=None, *_, **__: held(_many(note, name, kind), transform),
        "QM9": lambda root="", transform=None, *_, **__: held(_many(note, "QM9", kind), transform),
        "ZINC": lambda root="", subset=False, split="train", transform=None, *_, **__: held(_many(note, "ZINC", kind), transform),
        **{family: single(family) for family in _ONE},
    }


def graph_sets(note: Note, data: str) -> dict[str, Change]:
    """What changes the data sets of the library when it is imported."""

    def graph(**parts: Any) -> Any:
        return importlib.import_module("torch_geometric.data").Data(**parts)

    def changed(module: Any) -> None:
        for name, substitute in made_up_sets(note, graph, _held).items():
            setattr(module, name, where_absent(getattr(module, name), substitute, data))

    return {"torch_geometric.datasets": changed}
