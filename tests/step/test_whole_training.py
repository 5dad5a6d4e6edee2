"""Training code of the target's own file that is called as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from usermodels import FORWARD, HEAD, Make

BODY = """
    recon, mu, logvar = m(x)
    loss = F.mse_loss(recon, x) - 0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
"""
DEEPER = "    "
STEPS = "    opt.zero_grad()\n    loss.backward()\n    opt.step()\n"
OURS = "torch.optim.SGD(model.parameters(), lr=0.001)"


@pytest.mark.parametrize(
    ("training", "code"),
    [
        (f"def fit_one(m, x, opt):\n    m.train(); m.enc{BODY}{STEPS}    return loss", f"loss = fit_one(model, x, {OURS})"),
        (
            f"def both(m):\n    return torch.optim.Adam(m.enc.parameters()), torch.optim.Adam(m.dec.parameters())\n"
            f"def fit_one(m, opts, x):\n    opt, other = opts{BODY}    m.enc, other.zero_grad()\n{STEPS}    return loss",
            "optimizers = both(model); loss = fit_one(model, optimizers, x)",
        ),
        (
            f"def both(m):\n    return torch.optim.Adam(m.enc.parameters()), torch.optim.Adam(m.dec.parameters())\n"
            f"def fit_one(m, opt, other, x):\n    m.enc{BODY}    other.zero_grad()\n{STEPS}    return loss",
            "optimizers = both(model); loss = fit_one(model, optimizers[0], optimizers[1], x)",
        ),
        (
            "class Keeper:\n    def __init__(self, m, lr=0.1):\n        self.m, self.opt = m, torch.optim.SGD(m.enc.parameters(), lr)\n"
            "    def go(self, x):\n        m, opt = self.m, self.opt"
            f"{BODY.replace(DEEPER, DEEPER * 2)}{STEPS.replace(DEEPER, DEEPER * 2)}        return loss",
            "trainer = Keeper(model); loss = trainer.go(x)",
        ),
    ],
)
def test_training_code_is_called_as_it_is(make: Make, training: str, code: str) -> None:
    case = make(f"{HEAD}{FORWARD}\n{training}\n")
    step = case.found()
    assert step.code == code
    lines = Path(case.loaded.file).read_text(encoding="utf-8").split("\n")
    assert lines[int(step.place.rpartition(":")[2]) - 1].strip().startswith(("def fit_one", "def go"))
    assert ("chosen" in " ".join(step.notes)) is (OURS in code)


@pytest.mark.parametrize(
    ("training", "why"),
    [
        (f"def fit(m, loader, opt):\n    m.enc\n    for x in loader:{BODY.replace(DEEPER, DEEPER * 2)}        loss.backward()", "loader"),
        (f"def fit(m, x, opt):\n    m.enc\n    for _ in range(500):{BODY.replace(DEEPER, DEEPER * 2)}        loss.backward()", "long"),
        (f"def fit(m, x, opt):\n    m.enc{BODY}{STEPS}    torch.save(m, 'model.pt')", "writes"),
        (
            f"def keep(m):\n    torch.save(m.state_dict(), 'model.pt')\n\n\ndef fit(m, x, opt):\n    m.enc{BODY}{STEPS}    keep(m)\n",
            "a function that it calls writes",
        ),
        (f"def fit(m, opt, other, x):\n    m.enc{BODY}    other.zero_grad()\n{STEPS}", "two optimizers of which nothing is known"),
        (f"def fit(m, x, opt, loader):\n    m.enc{BODY}    loader.reset()\n{STEPS}", "an argument of which nothing is known"),
    ],
)
def test_what_goes_on_or_leaves_something_is_not_called(make: Make, training: str, why: str) -> None:
    case = make(f"{HEAD}{FORWARD}\n{training}\n")
    step, _ = case.seek()
    assert step is None or "fit(" not in step.code, why
