"""PyTorch Geometric where it is not installed: the stand-in does what it documents, and a script that needs it is observed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import commandline
import pytest
import torch
from torch import nn

from vaelint.observe.data.graphs.graph_layers import GATConv, GCNConv, SAGEConv, global_mean_pool
from vaelint.observe.data.graphs.graph_models import VGAE, RandomLinkSplit
from vaelint.observe.data.graphs.graph_parts import Batch, Data, negative_sampling, to_dense_adj, to_undirected, train_test_split_edges

EDGES = torch.tensor([[0, 1, 1, 2, 3, 3], [1, 0, 2, 1, 3, 0]])  # with a loop at 3
TRAIN = """
import torch
from torch_geometric.datasets import Planetoid
from torch_geometric.nn import GCNConv, VGAE
from torch_geometric.utils import train_test_split_edges
import torch_geometric.transforms as T

class Encoder(torch.nn.Module):
    def __init__(self, features, codes):
        super().__init__()
        self.near, self.mu, self.logstd = GCNConv(features, 32), GCNConv(32, codes), GCNConv(32, codes)

    def forward(self, x, edge_index):
        h = self.near(x, edge_index).relu()
        return self.mu(h, edge_index), self.logstd(h, edge_index)

data = train_test_split_edges(Planetoid("data", "Cora", transform=T.NormalizeFeatures())[0])
model = VGAE(Encoder(data.num_features, 16))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(20):
    optimizer.zero_grad()
    z = model.encode(data.x, data.train_pos_edge_index)
    loss = model.recon_loss(z, data.train_pos_edge_index) + model.kl_loss() / data.num_nodes
    loss.backward()
    optimizer.step()
    auc, ap = model.test(z, data.test_pos_edge_index, data.test_neg_edge_index)
"""


def test_a_convolution_is_the_normalised_sum_of_neighbours() -> None:
    x, layer = torch.randn(4, 5), GCNConv(5, 3)
    links = to_dense_adj(EDGES, torch.zeros(4, dtype=torch.long))[0].T + torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0]))
    scale = links.sum(1).pow(-0.5)
    assert torch.allclose(layer(x, EDGES), scale[:, None] * (links @ (scale[:, None] * layer.lin(x))), atol=1e-6)
    bare = GCNConv(5, 3, add_self_loops=False)  # of a node that no edge enters the scale is 0, not infinite
    assert torch.equal(bare(x, torch.tensor([[0], [1]])), torch.zeros(4, 3))
    whole, before = VGAE(layer), layer.lin.weight.clone()
    whole.reset_parameters()
    assert not torch.equal(layer.lin.weight, before)
    near = SAGEConv(5, 3)
    rows = torch.stack([(x[1] + x[3]) / 2, (x[0] + x[2]) / 2, x[1], x[3]])
    assert torch.allclose(near(x, EDGES), near.lin_l(rows) + near.lin_r(x), atol=1e-6)
    assert GATConv(5, 3, heads=2)(x, EDGES).shape == (4, 6)


def test_graphs_are_joined_and_their_edges_split() -> None:
    both = Batch.from_data_list(
        [Data(torch.ones(3, 2), EDGES[:, :4], y=torch.tensor(0)), Data(2 * torch.ones(4, 2), EDGES, y=torch.tensor(1))]
    )
    assert (both.num_graphs, both.num_nodes, both.edge_index[:, 4].tolist()) == (2, 7, [3, 4])
    assert global_mean_pool(both.x, both.batch).tolist() == [[1, 1], [2, 2]]
    ring = torch.stack([torch.arange(200), (torch.arange(200) + 1) % 200])
    graph = Data(torch.randn(200, 3), to_undirected(ring))
    train, val, test = RandomLinkSplit(0.1, 0.2, is_undirected=True)(graph)
    assert [p.edge_label.sum().item() for p in (train, val, test)] == [140, 20, 40] and train.edge_index.shape == (2, 280)
    there = {*map(tuple, graph.edge_index.T.tolist())}
    assert not there & {*map(tuple, negative_sampling(graph.edge_index, 200).T.tolist())}
    assert train_test_split_edges(graph).train_pos_edge_index.shape[1] == 2 * (200 - 10 - 20)


def test_the_divergence_is_that_of_normals() -> None:
    mu, logstd = torch.randn(6, 3), torch.randn(6, 3)
    q, p = torch.distributions.Normal(mu, logstd.exp()), torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(q, p).sum(1).mean()
    assert torch.allclose(VGAE(nn.Linear(1, 1)).kl_loss(mu, logstd), wanted, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("torch_geometric") is not None, reason="it is installed here")
def test_a_script_is_observed_without_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    done = commandline.vaelint("run", "--output-format", "json", "train.py", cwd=tmp_path)
    (result,) = json.loads(done.stdout)["targets"]
    assert [f["code"] for f in result["findings"] if f["severity"] != "info"] == []
    assert [t["role"] for t in result["loss"]["terms"]] == ["reconstruction", "reconstruction", "kl"]
    said = " ".join(result["notes"])
    assert "torch_geometric is not installed, and is stood in for (train.py:3)" in said and "made-up data instead of Cora" in said


@pytest.mark.skipif(importlib.util.find_spec("torch_geometric") is not None, reason="it is installed here")
def test_what_has_no_stand_in_is_to_be_installed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN.replace("GCNConv, VGAE", "PNAConv as GCNConv, VGAE"))
    said = " ".join(commandline.vaelint("run", "train.py", cwd=tmp_path).stdout.split())
    assert "the script needs torch_geometric: torch_geometric.nn.PNAConv is not stood in for" in said, said
    assert "help: pip install torch_geometric" in said
