"""A deep Markov model of short pieces of uneven length, whose KL is annealed; one latent of each piece says whether it is played at all."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.nn.functional import softplus


class Tune(nn.Module):
    def __init__(self, keys: int = 12, latent: int = 3, wide: int = 10) -> None:
        super().__init__()
        self.latent = latent
        self.step, self.emit = nn.Linear(latent, 2 * latent), nn.Linear(latent, keys)
        self.read, self.guess = nn.GRU(keys, wide, batch_first=True), nn.Linear(wide + latent, 2 * latent)
        self.there = nn.Linear(wide, 1)

    def model(self, x: torch.Tensor, mask: torch.Tensor, weight: float) -> None:
        pyro.module("tune", self)
        with pyro.plate("pieces"):
            played = pyro.sample("played", dist.Bernoulli(x.new_full((len(x), 1), 0.5)).to_event(1))
            z = x.new_zeros(len(x), self.latent)
            for t in range(x.shape[1]):
                where, how = self.step(z).chunk(2, -1)
                with poutine.scale(scale=weight):
                    z = pyro.sample(f"z_{t}", dist.Normal(where, softplus(how)).mask(mask[:, t : t + 1]).to_event(1))
                loud = dist.Bernoulli(logits=self.emit(z) * played - 2, validate_args=False)
                pyro.sample(f"x_{t}", loud.mask(mask[:, t : t + 1]).to_event(1), obs=x[:, t])

    def guide(self, x: torch.Tensor, mask: torch.Tensor, weight: float) -> None:
        pyro.module("tune", self)
        h = self.read(x)[0]
        with pyro.plate("pieces"):
            pyro.sample("played", dist.Bernoulli(logits=self.there(h[:, -1])).to_event(1))
            z = x.new_zeros(len(x), self.latent)
            for t in range(x.shape[1]):
                where, how = self.guess(torch.cat([h[:, t], z], -1)).chunk(2, -1)
                with poutine.scale(scale=weight):
                    z = pyro.sample(f"z_{t}", dist.Normal(where, softplus(how)).mask(mask[:, t : t + 1]).to_event(1))


torch.manual_seed(0)
pieces, lengths = (torch.rand(60, 4, 12) < 0.2).float(), torch.randint(2, 5, (60, 1))
masks = torch.arange(4) < lengths
tune = Tune()
svi = SVI(tune.model, tune.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
for _ in range(60):
    rows = torch.randperm(60)[:20]
    svi.step(pieces[rows], masks[rows], 0.5)
