"""Layers on graphs, as the documentation of PyTorch Geometric defines them: https://pytorch-geometric.readthedocs.io."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vaelint.observe.data.graphs.graph_parts import add_self_loops, degree, remove_self_loops

Edges = torch.Tensor


def gathered(x: torch.Tensor, edge_index: Edges, nodes: int, weight: torch.Tensor | None = None) -> torch.Tensor:
    """To each node the sum of its neighbours: sum over edges j -> i of w_ji x_j."""
    sent = x[edge_index[0]] if weight is None else x[edge_index[0]] * weight.view(-1, *[1] * (x.dim() - 1))
    return x.new_zeros(nodes, *x.shape[1:]).index_add(0, edge_index[1], sent)


def _counts(edge_index: Edges, nodes: int, like: torch.Tensor) -> torch.Tensor:
    return degree(edge_index[1], nodes, like.dtype).clamp(min=1)[:, None]


def _uniform(*shape: int, size: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).uniform_(-1 / math.sqrt(size), 1 / math.sqrt(size)))


def reset(value: Any) -> None:
    """Draws the weights of a module anew; of one that cannot, those of its parts."""
    if callable(again := getattr(value, "reset_parameters", None)):
        again()
    else:
        for part in value.children() if isinstance(value, nn.Module) else ():
            reset(part)


class Conv(nn.Module):
    """What the layers have in common."""

    def __init__(self, in_channels: Any, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        for part in self.children():
            reset(part)


class GCNConv(Conv):
    """x' = D^-1/2 (A + I) D^-1/2 x W + b (Kipf & Welling, arXiv:1609.02907)."""

    def __init__(self, in_channels: int, out_channels: int, improved: bool = False, cached: bool = False, add_self_loops: Any = None,
                 normalize: bool = True, bias: bool = True, **_: Any) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels)
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self._own, self._loops, self._normal = 2.0 if improved else 1.0, normalize if add_self_loops is None else add_self_loops, normalize
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: torch.Tensor, edge_index: Edges, edge_weight: torch.Tensor | None = None) -> torch.Tensor:
        """Of (nodes, features)."""
        nodes = x.shape[0]
        weight = x.new_ones(edge_index.shape[1]) if edge_weight is None else edge_weight
        if self._loops:
            loops = edge_index[0] == edge_index[1]  # those that are there keep their weight
            own = x.new_full((nodes,), self._own).index_put((edge_index[0][loops],), weight[loops])
            edge_index = add_self_loops(edge_index[:, ~loops], num_nodes=nodes)[0]
            weight = torch.cat([weight[~loops], own])
        if self._normal:
            sums = x.new_zeros(nodes).index_add(0, edge_index[1], weight)
            inverse = torch.where(sums > 0, sums.clamp(min=1e-12).pow(-0.5), 0.0)  # of a node that no edge enters it is 0
            weight = inverse[edge_index[0]] * weight * inverse[edge_index[1]]
        out = gathered(self.lin(x), edge_index, nodes, weight)
        return out if self.bias is None else out + self.bias


class SAGEConv(Conv):
    """x'_i = W1 x_i + W2 mean of its neighbours (arXiv:1706.02216)."""

    def __init__(self, in_channels: Any, out_channels: int, aggr: str = "mean", bias: bool = True, **_: Any) -> None:
        super().__init__(in_channels, out_channels)
        near, own = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        self.lin_l, self.lin_r = nn.Linear(near, out_channels, bias=bias), nn.Linear(own, out_channels, bias=False)
        self._mean = aggr == "mean"

    def forward(self, x: torch.Tensor, edge_index: Edges) -> torch.Tensor:
        """Of (nodes, features)."""
        near = gathered(x, edge_index, x.shape[0])
        return self.lin_l(near / _counts(edge_index, x.shape[0], x) if self._mean else near) + self.lin_r(x)  # type: ignore[no-any-return]


class GraphConv(Conv):
    """x'_i = W1 x_i + W2 sum of its neighbours (arXiv:1810.02244)."""

    def __init__(self, in_channels: int, out_channels: int, aggr: str = "add", bias: bool = True, **_: Any) -> None:
        super().__init__(in_channels, out_channels)
        self.lin_rel, self.lin_root = nn.Linear(in_channels, out_channels, bias=bias), nn.Linear(in_channels, out_channels, bias=False)
        self._mean = aggr == "mean"

    def forward(self, x: torch.Tensor, edge_index: Edges, edge_weight: torch.Tensor | None = None) -> torch.Tensor:
        """Of (nodes, features)."""
        near = gathered(x, edge_index, x.shape[0], edge_weight)
        near = near / _counts(edge_index, x.shape[0], x) if self._mean else near
        return self.lin_rel(near) + self.lin_root(x)  # type: ignore[no-any-return]


class GINConv(nn.Module):
    """x'_i = h((1 + eps) x_i + sum of its neighbours) (arXiv:1810.00826)."""

    def __init__(self, nn: nn.Module, eps: float = 0.0, train_eps: bool = False, **_: Any) -> None:
        super().__init__()
        self.nn = nn
        self.eps = torch.nn.Parameter(torch.tensor([eps])) if train_eps else eps

    def forward(self, x: torch.Tensor, edge_index: Edges) -> torch.Tensor:
        """Of (nodes, features)."""
        return self.nn((1 + self.eps) * x + gathered(x, edge_index, x.shape[0]))  # type: ignore[no-any-return]


class GATConv(Conv):
    """Neighbours weighed by a softmax of LeakyReLU(a [W x_i, W x_j]) (arXiv:1710.10903)."""

    def __init__(self, in_channels: int, out_channels: int, heads: int = 1, concat: bool = True, negative_slope: float = 0.2,
                 dropout: float = 0.0, add_self_loops: bool = True, bias: bool = True, **_: Any) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels)
        self.heads, self.concat, self.negative_slope, self.dropout, self._loops = heads, concat, negative_slope, dropout, add_self_loops
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src, self.att_dst = (_uniform(1, heads, out_channels, size=out_channels) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(heads * out_channels if concat else out_channels)) if bias else None

    def forward(self, x: torch.Tensor, edge_index: Edges, *_: Any) -> torch.Tensor:
        """Of (nodes, features)."""
        nodes = x.shape[0]
        if self._loops:
            edge_index = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=nodes)[0]
        h = self.lin(x).view(nodes, self.heads, self.out_channels)
        score = (h * self.att_src).sum(-1)[edge_index[0]] + (h * self.att_dst).sum(-1)[edge_index[1]]
        score = nn.functional.leaky_relu(score, self.negative_slope).exp()
        share = score / gathered_rows(score, edge_index[1], nodes)[edge_index[1]].clamp(min=1e-16)
        share = nn.functional.dropout(share, self.dropout, self.training)
        out = x.new_zeros(nodes, self.heads, self.out_channels).index_add(0, edge_index[1], h[edge_index[0]] * share[..., None])
        out = out.flatten(1) if self.concat else out.mean(1)
        return out if self.bias is None else out + self.bias


def gathered_rows(values: torch.Tensor, at: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of rows that belong together."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, at, values)


def _graphs(batch: torch.Tensor | None, x: torch.Tensor, size: int | None) -> tuple[torch.Tensor, int]:
    batch = torch.zeros(x.shape[0], dtype=torch.long, device=x.device) if batch is None else batch
    return batch, size or (int(batch.max()) + 1 if len(batch) else 1)


def global_add_pool(x: torch.Tensor, batch: torch.Tensor | None, size: int | None = None) -> torch.Tensor:
    """The sum over the nodes of each graph."""
    return gathered_rows(x, *_graphs(batch, x, size))


def global_mean_pool(x: torch.Tensor, batch: torch.Tensor | None, size: int | None = None) -> torch.Tensor:
    """The mean over the nodes of each graph."""
    at, count = _graphs(batch, x, size)
    return gathered_rows(x, at, count) / degree(at, count, x.dtype).clamp(min=1)[:, None]


def global_max_pool(x: torch.Tensor, batch: torch.Tensor | None, size: int | None = None) -> torch.Tensor:
    """The largest over the nodes of each graph."""
    at, count = _graphs(batch, x, size)
    return x.new_zeros(count, x.shape[1]).scatter_reduce(0, at[:, None].expand_as(x), x, "amax", include_self=False)


LAYERS: dict[str, Any] = {
    "GCNConv": GCNConv, "SAGEConv": SAGEConv, "GraphConv": GraphConv, "GINConv": GINConv, "GATConv": GATConv, "Linear": nn.Linear,
    "BatchNorm": nn.BatchNorm1d, "global_add_pool": global_add_pool, "global_mean_pool": global_mean_pool,
    "global_max_pool": global_max_pool,
}  # fmt: skip
