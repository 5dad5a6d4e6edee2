"""A semi-supervised VAE whose class is summed over (Kingma et al. 2014, M2), all batches without labels."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate
from pyro.optim import Adam
from torch import nn


class M2(nn.Module):
    def __init__(self, d=64, h=32, z=8, k=10):
        super().__init__()
        self.z, self.k = z, k
        self.classify = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k))
        self.encode = nn.Sequential(nn.Linear(d + k, h), nn.ReLU())
        self.loc, self.log_scale = nn.Linear(h, z), nn.Linear(h, z)
        self.decode = nn.Sequential(nn.Linear(z + k, h), nn.ReLU(), nn.Linear(h, d))

    def model(self, x):
        pyro.module("m2", self)
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(x.shape[0], self.k)))
            z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], self.z), 1.0).to_event(1))
            both = torch.cat([z.expand(*y.shape[:-1], -1), y], -1)
            pyro.sample("x", dist.Bernoulli(logits=self.decode(both)).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.classify(x)))
            h = self.encode(torch.cat([x.expand(*y.shape[:-1], -1), y], -1))
            pyro.sample("z", dist.Normal(self.loc(h), torch.exp(self.log_scale(h))).to_event(1))


m2 = M2()
svi = SVI(m2.model, config_enumerate(m2.guide, "parallel", expand=True), Adam({"lr": 1e-3}), TraceEnum_ELBO(max_plate_nesting=1))
loader = torch.utils.data.DataLoader((torch.rand(512, 64) > 0.5).float(), batch_size=32)
for _ in range(2):
    for x in loader:
        svi.step(x)
