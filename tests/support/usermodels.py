"""Small model files as users write them, and what runs them through load, build and step."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.inputs import InputSet
from vaelint.loading.build import Loaded
from vaelint.loading.tensors import make_inputs
from vaelint.step.find_loss.search import Measured, Trials, find_loss
from vaelint.step.step import Step, forward_step

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(6, 8)
        self.dec = nn.Linear(4, 6)
    def encode(self, x):
        return self.enc(x).chunk(2, dim=-1)
    def reparameterize(self, mu, logvar):
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    def decode(self, z):
        return self.dec(z)
"""
FORWARD = """
    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar
"""
LOSS = """
def {name}({parameters}):
    return F.mse_loss({recon}, {x}, reduction="sum") - 0.5 * torch.sum(1 + {logvar} - {mu}**2 - {logvar}.exp())
"""
PLAIN_LOSS = LOSS.format(name="loss_function", parameters="recon, x, mu, logvar", recon="recon", x="x", mu="mu", logvar="logvar")


@dataclass
class Case:
    """A written file, loaded and built, with its inputs."""

    loaded: Loaded
    model: nn.Module
    inputs: InputSet
    notes: list[str] = field(default_factory=list)

    def forward(self) -> tuple[Step, list[str]]:
        return forward_step(self.loaded, self.model, self.inputs)

    def run(self, step: Step, names: list[str]) -> Any:
        torch.manual_seed(1)
        outcome = step(copy.deepcopy(self.model), make_inputs(self.inputs, names))
        if outcome.fault is not None:  # a run raises it where the step runs no backward pass of its own
            raise outcome.fault
        return outcome

    def seek(self, told: str | None = None, roles: dict[str, str] | None = None) -> tuple[Step | None, Step]:
        """The found step and the forward step. `roles` gives roles by the place in the output tuple."""
        step, names = self.forward()
        x = make_inputs(self.inputs, names)
        torch.manual_seed(1)
        output: Any = step(copy.deepcopy(self.model), x).output
        known = {id(v): f"input:{k}" for k, v in x.items()}
        known |= {id(output[int(i)]): role for i, role in (roles or {}).items()}
        roles_of = lambda t: known.get(id(t))  # noqa: E731
        nothing = lambda s: None  # noqa: E731 - what a loss is made of is not measured here
        trials = Trials(lambda s: self.fails(s, names), lambda s: self.measured(s, names), nothing, 0)
        return find_loss(self.loaded, self.model, step, names, output, roles_of, told, trials), step

    def fails(self, step: Step, names: list[str]) -> BaseException | None:
        """What the step raises, None if it comes to its end."""
        try:
            self.run(step, names)
        except Exception as error:  # noqa: BLE001 - handed on
            return error
        return None

    def measured(self, step: Step, names: list[str]) -> Measured:
        """The loss, with the same draws each time."""
        loss: Any = self.run(step, names).loss
        return Measured(float(loss.detach()), True, 0)

    def found(self, told: str | None = None, roles: dict[str, str] | None = None) -> Step:
        step, forward = self.seek(told, roles)
        assert step is not None, forward.notes
        return step

    def code(self, told: str | None = None) -> str:
        """The code of the found step, after a run that proves it runs."""
        step = self.found(told)
        _, names = self.forward()
        loss = self.run(step, names).loss
        assert isinstance(loss, torch.Tensor) and loss.numel() == 1
        return step.code

    def none(self) -> str:
        """Why no loss was found; `notes` keeps all that was said."""
        step, forward = self.seek()
        assert step is None
        self.notes = forward.notes
        return " / ".join(forward.notes)


Load = Callable[..., Loaded]
Make = Callable[..., Case]


def failure(call: Callable[[], object]) -> TargetError:
    with pytest.raises(TargetError) as caught:
        call()
    return caught.value


def methods(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")
