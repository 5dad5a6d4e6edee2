"""Losses that are called by names alone: what `forward` returns and takes has the names of their parameters."""

from __future__ import annotations

import textwrap

import pytest
from usermodels import FORWARD, HEAD, Make, methods

NAMED = """
import torch
import torch.nn.functional as F
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, past, future):
        loc, rho = self.enc(past + future).chunk(2, -1)
        q = torch.distributions.Normal(loc, rho.exp())
        paths = self.dec(q.rsample())
        return {returned}

def {loss}(paths, q, future{more}):
    prior = torch.distributions.Normal(0.0, 1.0)
    return (paths - future).square().sum(-1).mean() + torch.distributions.kl_divergence(q, prior).sum(-1).mean()
"""


@pytest.mark.parametrize(
    ("returned", "more", "code"),
    [
        ("paths, q", "", "paths, q = model(past, future); loss = loss_fn(paths, q, future)"),
        ("paths, q", ", weight=1.0", "paths, q = model(past, future); loss = loss_fn(paths, q, future)"),
        ("self.dec(q.rsample()), q", "", "recon, q = model(past, future); loss = loss_fn(recon, q, future)"),
        ("q, paths", "", "q, paths = model(past, future); loss = loss_fn(paths, q, future)"),
    ],
)
def test_names_that_agree_one_for_one_say_how_it_is_called(make: Make, returned: str, more: str, code: str) -> None:
    text = NAMED.replace("{returned}", returned).replace("{loss}", "loss_fn").replace("{more}", more)
    assert make(text, "past=6x12", "future=6x12").code() == code


def test_log_weights_go_to_the_loss_of_one_parameter(make: Make) -> None:
    text = textwrap.dedent("""
        import torch
        from torch import nn

        class VAE(nn.Module):
            def __init__(self):
                super().__init__()
                self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

            def forward(self, x):
                loc, rho = self.enc(x).chunk(2, -1)
                q, p = torch.distributions.Normal(loc, rho.exp()), torch.distributions.Normal(0.0, 1.0)
                z = q.rsample((5,))
                like = torch.distributions.Normal(self.dec(z), 1.0).log_prob(x).sum(-1)
                return like + p.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)

        def bound_loss(log_w):
            return -torch.logsumexp(log_w, 0).mean()
    """)
    assert make(text, "x=6x12").code() == "out = model(x); loss = bound_loss(out)"


def test_a_temperature_is_chosen_and_said(make: Make) -> None:
    body = """
        def objective(self, x, tau):
            mu, logvar = self.encode(x)
            z = self.reparameterize(mu / tau, logvar)
            return (self.decoded(z) - x).square().sum(-1).mean()
    """
    step, names = make(methods(body).replace("def decode", "def decoded")).forward()
    assert (step.code, names, step.made_up) == ("loss = model.objective(x, tau=1.0)", ["x"], {"tau": "1.0"})
    assert any("tau=1.0 was chosen" in note for note in step.notes)


def test_what_is_called_model_is_the_model(make: Make) -> None:
    text = (
        HEAD
        + FORWARD
        + """
def vae_loss(model, x):
    recon, mu, logvar = model(x)
    weight = model.decode.__self__.dec.weight
    return F.mse_loss(recon, x) + 0.0 * weight.sum() - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
"""
    )
    assert make(text).code() == "loss = vae_loss(model, x)"
