"""Short pieces of music from a guess that is not trained any more; the loader of Pyro's examples is told where its tensors go."""

import pyro
import pyro.distributions as dist
import torch
from pyro.contrib.examples.polyphonic_data_loader import get_mini_batch
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader


class Bars(nn.Module):
    def __init__(self, keys: int = 88, steps: int = 6, width: int = 5) -> None:
        super().__init__()
        self.width, flat = width, keys * steps
        self.guess, self.prior = nn.Linear(flat, width), nn.Linear(width, width)
        self.enc, self.dec = nn.Linear(flat, 2 * width), nn.Linear(width, flat)

    def model(self, x: torch.Tensor, mask: torch.Tensor) -> None:
        pyro.module("bars", self)
        with torch.no_grad():
            guess = self.guess(x.flatten(1))
        with pyro.plate("pieces", len(x)):
            z = pyro.sample("z", dist.Normal(self.prior(guess), torch.ones_like(guess)).to_event(1))
            played = self.dec(z).view_as(x) * mask[..., None]
            pyro.sample("x", dist.Bernoulli(logits=played, validate_args=False).to_event(2), obs=x)

    def guide(self, x: torch.Tensor, mask: torch.Tensor) -> None:
        with pyro.plate("pieces", len(x)):
            where, wide = self.enc((x * mask[..., None]).flatten(1)).chunk(2, 1)
            pyro.sample("z", dist.Normal(where, softplus(wide) + 1e-3).to_event(1))


torch.manual_seed(0)
pieces, lengths = (torch.rand(60, 6, 88) < 0.1).float(), torch.full((60,), 6)
bars = Bars()
svi = SVI(bars.model, bars.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
for _ in range(20):
    for rows in DataLoader(range(60), batch_size=20, shuffle=True):
        x, _, mask, _ = get_mini_batch(rows, pieces, lengths, cuda=False)
        svi.step(x, mask)
