"""Graphs as data, and what is done to their edges, as the documentation of PyTorch Geometric defines it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

Pair = tuple[torch.Tensor, torch.Tensor | None]


class Data:
    """A graph: `x` (nodes, features), `edge_index` (2, edges), and what else is given by name."""

    x: Any
    edge_index: Any

    def __init__(self, x: Any = None, edge_index: Any = None, edge_attr: Any = None, y: Any = None, pos: Any = None, **more: Any) -> None:
        vars(self).update(x=x, edge_index=edge_index, edge_attr=edge_attr, y=y, pos=pos, **more)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in ("train_mask", "val_mask", "test_mask", "batch", "edge_weight"):
            raise AttributeError(name)
        return None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([(k, self[k]) for k in self.keys()])

    def keys(self) -> list[str]:
        """What it holds."""
        return [k for k, v in vars(self).items() if v is not None and not k.startswith("_")]

    @property
    def num_nodes(self) -> int:
        """How many nodes it has."""
        known = self.x if self.x is not None else self.pos
        return len(known) if known is not None else vars(self).get("_nodes", 0) or (int(self.edge_index.max()) + 1)

    @num_nodes.setter
    def num_nodes(self, count: int) -> None:
        vars(self)["_nodes"] = count

    num_edges = property(lambda self: self.edge_index.shape[1])
    num_features = num_node_features = property(lambda self: 0 if self.x is None else self.x.shape[1] if self.x.dim() > 1 else 1)
    num_edge_features = property(lambda self: 0 if self.edge_attr is None else self.edge_attr.shape[1])

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Data:
        """The graph, with each tensor changed."""
        for name in [*self.keys()]:
            if isinstance(self[name], torch.Tensor):
                self[name] = change(self[name])
        return self

    def to(self, *args: Any, **kwargs: Any) -> Data:
        """The graph, on a device."""
        return self.apply(lambda t: t.to(*args, **kwargs))

    def cuda(self, *args: Any) -> Data:
        """The graph, on a GPU."""
        return self.apply(lambda t: t.cuda(*args))

    def cpu(self) -> Data:
        """The graph, on the CPU."""
        return self.apply(lambda t: t.cpu())

    def clone(self) -> Data:
        """Another graph of the same."""
        return copy.copy(self).apply(torch.clone)

    def is_undirected(self) -> bool:
        """Whether each edge is there both ways."""
        return {*map(tuple, self.edge_index.T.tolist())} == {*map(tuple, self.edge_index.flip(0).T.tolist())}


class Batch(Data):
    """Several graphs as one: their nodes one after another, `batch` says to which graph each belongs."""

    @staticmethod
    def from_data_list(graphs: Sequence[Data]) -> Batch:
        """The graphs, joined."""
        first, counts = graphs[0], torch.tensor([g.num_nodes for g in graphs])
        starts = torch.cumsum(counts, 0) - counts
        joined: dict[str, Any] = {}
        for name in [k for k, _ in first]:
            parts = [g[name] for g in graphs]
            if not isinstance(parts[0], torch.Tensor):
                joined[name] = parts
            elif "index" in name:
                joined[name] = torch.cat([p + n for p, n in zip(parts, starts.tolist(), strict=True)], dim=1)
            else:
                joined[name] = torch.cat([p.view(1) if p.dim() == 0 else p for p in parts])
        made = Batch(**joined, batch=torch.repeat_interleave(torch.arange(len(graphs)), counts))
        vars(made).update(_graphs=len(graphs), ptr=torch.cat([starts, counts.sum()[None]]))
        return made

    num_graphs = property(lambda self: vars(self)["_graphs"])


class Graphs(torch.utils.data.Dataset[Any]):
    """A data set of graphs."""

    num_features = num_node_features = property(lambda self: self[0].num_features)
    num_edge_features = property(lambda self: self[0].num_edge_features)
    num_classes = property(lambda self: int(max(int(g.y.max()) for g in self._graphs[:64])) + 1)

    def __init__(self, graphs: Sequence[Data], transform: Any = None) -> None:
        self._graphs, self._transform = list(graphs), transform

    data = property(lambda self: self._graphs[0])

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            graph = copy.copy(self._graphs[index])
            return graph if self._transform is None else self._transform(graph)
        places = range(len(self))[index] if isinstance(index, slice) else torch.as_tensor(index).nonzero().flatten().tolist() if getattr(
            index, "dtype", None
        ) == torch.bool else [int(i) for i in index]  # fmt: skip
        return Graphs([self._graphs[i] for i in places], self._transform)

    def shuffle(self) -> Graphs:
        """The graphs in another order."""
        return self[torch.randperm(len(self)).tolist()]  # type: ignore[no-any-return]


class DataLoader(torch.utils.data.DataLoader[Any]):
    """Batches of graphs."""

    def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *_: Any, **kwargs: Any) -> None:
        kwargs = {k: v for k, v in kwargs.items() if k not in ("collate_fn", "follow_batch", "exclude_keys")}
        super().__init__(dataset, batch_size, shuffle, collate_fn=Batch.from_data_list, **kwargs)


# --- edges -------------------------------------------------------------------------------------------------------------


def count_of(edge_index: torch.Tensor, nodes: int | None = None) -> int:
    """How many nodes there are."""
    return nodes if nodes is not None else int(edge_index.max()) + 1 if edge_index.numel() else 0


def degree(index: torch.Tensor, num_nodes: int | None = None, dtype: Any = None) -> torch.Tensor:
    """How often each node comes."""
    ones = torch.ones(index.shape[0], dtype=dtype or torch.get_default_dtype(), device=index.device)
    return torch.zeros(count_of(index, num_nodes), dtype=ones.dtype, device=index.device).index_add(0, index, ones)


def remove_self_loops(edge_index: torch.Tensor, edge_attr: torch.Tensor | None = None) -> Pair:
    """Without edges that join a node to itself."""
    kept = edge_index[0] != edge_index[1]
    return edge_index[:, kept], None if edge_attr is None else edge_attr[kept]


def add_self_loops(
    edge_index: torch.Tensor, edge_attr: torch.Tensor | None = None, fill_value: float | None = None, num_nodes: int | None = None
) -> Any:
    """With an edge from each node to itself."""
    nodes = torch.arange(count_of(edge_index, num_nodes), device=edge_index.device)
    more = None if edge_attr is None else edge_attr.new_full((len(nodes), *edge_attr.shape[1:]), 1.0 if fill_value is None else fill_value)
    attr = None if edge_attr is None or more is None else torch.cat([edge_attr, more])
    return torch.cat([edge_index, nodes.repeat(2, 1)], dim=1), attr


def to_undirected(edge_index: torch.Tensor, *_: Any, **__: Any) -> Any:
    """With each edge both ways, once."""
    return torch.unique(torch.cat([edge_index, edge_index.flip(0)], dim=1), dim=1)


def negative_sampling(
    edge_index: torch.Tensor, num_nodes: int | None = None, num_neg_samples: int | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """So many pairs of nodes that no edge joins."""
    nodes = count_of(edge_index, num_nodes)
    wanted = edge_index.shape[1] if num_neg_samples is None else num_neg_samples
    there = edge_index[0] * nodes + edge_index[1]
    drawn = torch.randint(nodes * nodes, (2 * wanted + 16,), device=edge_index.device)
    free = drawn[~torch.isin(drawn, there)][:wanted]
    return torch.stack([free // nodes, free % nodes])


def to_dense_adj(edge_index: torch.Tensor, batch: torch.Tensor | None = None, *_: Any, max_num_nodes: int | None = None, **__: Any) -> Any:
    """The matrix of each graph (graphs, nodes, nodes): how many edges join two nodes."""
    nodes = count_of(edge_index) if batch is None else len(batch)
    at = torch.zeros(nodes, dtype=torch.long, device=edge_index.device) if batch is None else batch
    counts = torch.bincount(at)
    size = max_num_nodes or int(counts.max())
    start = (torch.cumsum(counts, 0) - counts)[at]
    place = torch.arange(nodes, device=edge_index.device) - start
    made = torch.zeros(len(counts), size, size, device=edge_index.device)
    made.index_put_((at[edge_index[0]], place[edge_index[0]], place[edge_index[1]]), torch.ones(()), accumulate=True)
    return made


def train_test_split_edges(data: Data, val_ratio: float = 0.05, test_ratio: float = 0.1) -> Data:
    """The graph with its edges in three parts, and as many pairs without an edge for the last two."""
    row, col = data.edge_index
    one_way = data.edge_index[:, row < col]
    one_way = one_way[:, torch.randperm(one_way.shape[1])]
    n_val, n_test = (math.floor(ratio * one_way.shape[1]) for ratio in (val_ratio, test_ratio))
    free = negative_sampling(data.edge_index, data.num_nodes, n_val + n_test)
    vars(data).update(
        val_pos_edge_index=one_way[:, :n_val],
        test_pos_edge_index=one_way[:, n_val : n_val + n_test],
        train_pos_edge_index=to_undirected(one_way[:, n_val + n_test :]),
        val_neg_edge_index=free[:, :n_val],
        test_neg_edge_index=free[:, n_val:],
        edge_index=None,
        edge_attr=None,
    )
    return data


_FUNCTIONS = (
    degree, remove_self_loops, add_self_loops, to_undirected, negative_sampling, to_dense_adj, train_test_split_edges,
)  # fmt: skip
EDGES: dict[str, Any] = {f.__name__: f for f in _FUNCTIONS}
