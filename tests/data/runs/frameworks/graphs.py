"""A variational graph autoencoder with PyTorch Geometric."""

import torch
from torch_geometric.nn import GCNConv, VGAE


class Encoder(torch.nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        self.conv = GCNConv(features, 2 * latent)
        self.conv_mu = GCNConv(2 * latent, latent)
        self.conv_logstd = GCNConv(2 * latent, latent)

    def forward(self, x, edge_index):
        h = self.conv(x, edge_index).relu()
        return self.conv_mu(h, edge_index), self.conv_logstd(h, edge_index)


x, edges = torch.randn(120, 16), torch.randint(0, 120, (2, 400))
model = VGAE(Encoder(16, 8))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(10):
    optimizer.zero_grad()
    z = model.encode(x, edges)
    loss = model.recon_loss(z, edges) + model.kl_loss() / len(x)
    loss.backward()
    optimizer.step()
