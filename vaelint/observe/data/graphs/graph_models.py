"""Graph autoencoders (Kipf & Welling, arXiv:1611.07308) and transforms, as PyTorch Geometric has them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from vaelint.observe.data.graphs.graph_layers import reset
from vaelint.observe.data.graphs.graph_parts import Data, add_self_loops, negative_sampling, to_undirected

_LITTLE = 1e-15
_MAX_LOGSTD = 10


class InnerProductDecoder(nn.Module):
    """sigmoid(z_i . z_j) of pairs of nodes."""

    def forward(self, z: torch.Tensor, edge_index: torch.Tensor, sigmoid: bool = True) -> torch.Tensor:
        """Of the pairs that edges join."""
        value = (z[edge_index[0]] * z[edge_index[1]]).sum(dim=1)
        return torch.sigmoid(value) if sigmoid else value

    def forward_all(self, z: torch.Tensor, sigmoid: bool = True) -> torch.Tensor:
        """Of all pairs."""
        every = torch.matmul(z, z.t())
        return torch.sigmoid(every) if sigmoid else every


class GAE(nn.Module):
    """Codes of nodes, of which products tell whether an edge is there."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, InnerProductDecoder() if decoder is None else decoder

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        reset(self.encoder)
        reset(self.decoder)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the encoder says."""
        return self.encoder(*args, **kwargs)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """The codes."""
        return self.encoder(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """What the decoder says."""
        return self.decoder(*args, **kwargs)

    def recon_loss(self, z: torch.Tensor, pos_edge_index: torch.Tensor, neg_edge_index: torch.Tensor | None = None) -> torch.Tensor:
        """Minus the mean log-likelihood of edges, and of as many pairs that none joins."""
        there = -torch.log(self.decoder(z, pos_edge_index, sigmoid=True) + _LITTLE).mean()
        free = negative_sampling(pos_edge_index, z.size(0)) if neg_edge_index is None else neg_edge_index
        return there - torch.log(1 - self.decoder(z, free, sigmoid=True) + _LITTLE).mean()

    def test(self, z: torch.Tensor, pos_edge_index: torch.Tensor, neg_edge_index: torch.Tensor) -> tuple[float, float]:
        """How well pairs with an edge are told from others: the area under the curve, and the average precision."""
        with torch.no_grad():
            there, free = (self.decoder(z, e, sigmoid=True).cpu().tolist() for e in (pos_edge_index, neg_edge_index))
        ranked = sorted([*((score, 1) for score in there), *((score, 0) for score in free)], reverse=True)
        hits, above, precision = 0, 0, 0.0
        for place, (_, is_there) in enumerate(ranked, 1):
            hits += is_there
            precision += is_there * hits / place
            above += (1 - is_there) * hits
        return above / max(len(there) * len(free), 1), precision / max(len(there), 1)


class VGAE(GAE):
    """The codes are drawn: the encoder says their mean and the logarithm of their standard deviation."""

    def reparametrize(self, mu: torch.Tensor, logstd: torch.Tensor) -> torch.Tensor:
        """A draw while it is trained, the mean else."""
        return mu + torch.randn_like(logstd) * torch.exp(logstd) if self.training else mu

    def encode(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The codes."""
        mu, logstd = self.encoder(*args, **kwargs)
        self.__mu__, self.__logstd__ = mu, logstd.clamp(max=_MAX_LOGSTD)
        return self.reparametrize(self.__mu__, self.__logstd__)

    def kl_loss(self, mu: torch.Tensor | None = None, logstd: torch.Tensor | None = None) -> torch.Tensor:
        """The mean over nodes of KL(q || N(0, 1))."""
        mu = self.__mu__ if mu is None else mu
        logstd = self.__logstd__ if logstd is None else logstd.clamp(max=_MAX_LOGSTD)
        return -0.5 * torch.mean(torch.sum(1 + 2 * logstd - mu**2 - logstd.exp() ** 2, dim=1))


# --- transforms --------------------------------------------------------------------------------------------------------


class _Changed:
    """A transform that changes a copy of the graph."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def __call__(self, data: Data) -> Any:
        return self.forward(copy.copy(data))

    def forward(self, data: Data) -> Any:
        """The graph, changed."""
        return data


class NormalizeFeatures(_Changed):
    """The features of each node sum to 1."""

    def forward(self, data: Data) -> Data:
        """Of `x`."""
        x = data.x - data.x.min()
        data.x = x / x.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return data


class ToUndirected(_Changed):
    """Each edge is there both ways."""

    def forward(self, data: Data) -> Data:
        """Of `edge_index`."""
        data.edge_index = to_undirected(data.edge_index)
        return data


class AddSelfLoops(_Changed):
    """An edge from each node to itself."""

    def forward(self, data: Data) -> Data:
        """Of `edge_index`."""
        data.edge_index = add_self_loops(data.edge_index, num_nodes=data.num_nodes)[0]
        return data


class ToDevice(_Changed):
    """On a device."""

    def forward(self, data: Data) -> Data:
        """All of it."""
        return data.to(*self.args, **self.kwargs)


class RandomLinkSplit(_Changed):
    """Three graphs, of parts of the edges, with pairs to be told apart."""

    def forward(self, data: Data) -> tuple[Data, Data, Data]:
        """For training, validation and test."""
        said = {**dict(zip(("num_val", "num_test", "is_undirected"), self.args, strict=False)), **self.kwargs}
        edges = data.edge_index
        edges = edges[:, edges[0] <= edges[1]] if said.get("is_undirected") else edges
        edges = edges[:, torch.randperm(edges.shape[1])]
        parts = [said.get("num_val", 0.1), said.get("num_test", 0.2)]
        n_val, n_test = (int(p * edges.shape[1]) if isinstance(p, float) else int(p) for p in parts)
        val, test, train = edges[:, :n_val], edges[:, n_val : n_val + n_test], edges[:, n_val + n_test :]

        def both(some: torch.Tensor) -> torch.Tensor:
            return torch.cat([some, some.flip(0)], dim=1) if said.get("is_undirected") else some

        seen = [both(train), both(train), both(torch.cat([train, val], dim=1))]
        first, second, last = (self._with(data, *part, said, n) for n, part in enumerate(zip(seen, (train, val, test), strict=True)))
        return first, second, last

    def _with(self, data: Data, seen: torch.Tensor, told: torch.Tensor, said: dict[str, Any], part: int) -> Data:
        made = copy.copy(data)
        made.edge_index = seen
        wanted = int(told.shape[1] * said.get("neg_sampling_ratio", 1.0)) if part or said.get("add_negative_train_samples", True) else 0
        free = negative_sampling(data.edge_index, data.num_nodes, wanted)
        if said.get("split_labels"):
            more = {"pos_edge_label_index": told, "pos_edge_label": torch.ones(told.shape[1])}
            more |= {"neg_edge_label_index": free, "neg_edge_label": torch.zeros(free.shape[1])} if wanted else {}
        else:
            labels = torch.cat([torch.ones(told.shape[1]), torch.zeros(free.shape[1])])
            more = {"edge_label_index": torch.cat([told, free], dim=1), "edge_label": labels}
        vars(made).update(more)
        return made


class Compose(_Changed):
    """One after another."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        super().__init__()
        self.transforms = transforms

    def forward(self, data: Data) -> Any:
        """Through all of them."""
        made: Any = data
        for transform in self.transforms:
            made = tuple(map(transform, made)) if isinstance(made, tuple) else transform(made)
        return made


MODELS: dict[str, Any] = {"InnerProductDecoder": InnerProductDecoder, "GAE": GAE, "VGAE": VGAE}
TRANSFORMS: dict[str, Any] = {
    k.__name__: k for k in (NormalizeFeatures, ToUndirected, AddSelfLoops, ToDevice, RandomLinkSplit, Compose)
}  # fmt: skip
