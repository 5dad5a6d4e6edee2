"""`vaelint run --plot`: the curves are what the training itself computed, and what was not seen is said."""

from __future__ import annotations

import ast
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import vaelint

from vaelint.source.arithmetic import NotArithmetic, value_of

RUNS = Path(__file__).parents[1] / "data" / "runs"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The curves of 14 iterations, as JSON and as a page."""
    folder = tmp_path_factory.mktemp("curves")
    (folder / "warmup.py").write_text((RUNS / "warmup.py").read_text())
    words = ("run", "--plot", "--steps", "14", "--output-format", "json:o.json", "--output-format", "html:o.html", "warmup.py")
    done = vaelint(*words, cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    (target,) = json.loads((folder / "o.json").read_text())["targets"]
    return target["curves"], (folder / "o.html").read_text()


def norm(module: torch.nn.Module, names: tuple[str, ...]) -> float:
    found = [p.grad for n, p in module.named_parameters() if n.startswith(names) and p.grad is not None]
    return math.sqrt(sum(float(g.pow(2).sum()) for g in found))


def test_terms_gradients_and_kl_are_those_of_the_training(page: tuple[dict[str, Any], str]) -> None:
    curves, seen = page[0], list[Any]()

    def note(model: torch.nn.Module, rec: torch.Tensor, kl: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> None:
        each = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(0).tolist()
        seen.append((rec.item(), kl.item(), norm(model, ("enc", "mu", "logvar")), norm(model, ("dec",)), each))

    with torch.random.fork_rng():
        runpy.run_path(str(RUNS / "warmup.py"))["train"](note)
    terms = {t["role"]: t["values"] for t in curves["terms"]}
    for at in (0, 1):  # the third runs with a smaller batch, and moves all that follow
        rec, kl, encoder, decoder, each = seen[at]
        assert [terms["reconstruction"][at], terms["kl"][at]] == pytest.approx([rec, kl], rel=1e-4)
        assert [curves["gradients"]["encoder"][at], curves["gradients"]["decoder"][at]] == pytest.approx([encoder, decoder], rel=1e-4)
        assert curves["kl"][0]["values"][at] == pytest.approx(each, rel=1e-3, abs=1e-6)
        assert curves["kl"][0]["inactive"][at] == sum(nats < 0.01 for nats in each) / 6


def test_beta_follows_a_warm_up_from_zero_to_its_end(page: tuple[dict[str, Any], str]) -> None:
    curves = page[0]
    assert curves["iterations"] == [n for n in range(1, 15) if n != 3]
    assert curves["beta"] == pytest.approx([min(1.0, (n - 1) // 2 / 5) for n in curves["iterations"]], rel=1e-3)
    kl = next(t["values"] for t in curves["terms"] if t["role"] == "kl")
    assert kl == pytest.approx([b * sum(nats) for b, nats in zip(curves["beta"], curves["kl"][0]["values"], strict=True)], rel=1e-3)


def test_beta_is_drawn_to_the_end_of_its_schedule(page: tuple[dict[str, Any], str]) -> None:
    schedule = page[0]["schedule"]
    assert (schedule["counter"], schedule["at"]) == ("step", list(range(1, 17))), "four epochs of four batches"
    assert schedule["beta"] == pytest.approx([min(1.0, (n - 1) // 2 / 5) for n in range(1, 17)])
    assert schedule["observed"] == [[n, pytest.approx(b, rel=1e-3)] for n, b in zip(page[0]["iterations"], page[0]["beta"], strict=True)]
    assert "beta = min(1.0, (step - 1) // 2 / 5) at warmup.py:34" in page[1] and "observed steps only" not in page[1]


LATE = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


class Stream(torch.utils.data.DataLoader):
    def __len__(self):
        raise NotImplementedError("a stream")


torch.manual_seed(0)
model, beta = VAE(), 0.0
optimizer = torch.optim.Adam(model.parameters())
for (x,) in Stream(torch.utils.data.TensorDataset(torch.randn(48, 12)), batch_size=8):
    y, mu, logvar = model(x)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    optimizer.zero_grad()
    ((y - x).pow(2).sum(1).mean() / 2 + beta * kl).backward()
    optimizer.step()
    if not beta:
        count = 0
    count += 1
    beta = min(1.0, count / 3)
"""


def test_a_counter_that_begins_late_and_a_loader_without_length_end_in_no_error(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    words = ("run", "--plot", "--steps", "4", "--output-format", "json:o.json", "--output-format", "html:o.html", "late.py")
    done = vaelint(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    (target,) = json.loads((tmp_path / "o.json").read_text())["targets"]
    assert target["curves"]["beta"] == pytest.approx([0.0, 1 / 3, 1.0], rel=1e-3) and target["curves"].get("schedule") is None


def test_beta_keeps_its_sign_while_the_addends_of_the_kl_grow_past_each_other(tmp_path: Path) -> None:
    """The KL is `1 + logvar - mu**2 - exp(logvar)`, whose addends have two signs; which of them is largest changes while it trains."""
    script = LATE[: LATE.index("    if not beta")].replace("model, beta = VAE(), 0.0", "model, beta = VAE(), 0.25")
    script = script.replace("0.5 * (mu**2 + logvar.exp() - 1 - logvar)", "-0.5 * (1 + logvar - mu**2 - logvar.exp())")
    (tmp_path / "still.py").write_text(script.replace("Adam(model.parameters())", "Adam(model.parameters(), 0.3)"))
    done = vaelint("run", "--plot", "--steps", "6", "--output-format", "json:o.json", "still.py", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    (target,) = json.loads((tmp_path / "o.json").read_text())["targets"]
    assert target["curves"]["beta"] == pytest.approx([0.25] * 5, rel=1e-3)


def anneal(epoch: int, warm: int = 10, top: float = 0.5) -> float:
    """A cosine."""
    if epoch >= warm:
        return top
    return top * (1 - math.cos(math.pi * epoch / warm)) / 2


class Anneal:
    """A schedule that is called."""

    def __init__(self, steps: int) -> None:
        self.steps, self.calls = steps, 0

    def __call__(self, step: int) -> float:
        share = step / self.steps
        return min(1.0, share)

    def next(self) -> float:
        """One that moves on by being called."""
        self.calls += 1
        return self.calls / self.steps


def read(code: str, **names: Any) -> Any:
    expression = ast.parse(code, mode="eval").body
    return value_of(expression, names, globals())


@pytest.mark.parametrize("epoch", [0, 3, 9, 10, 25])
def test_a_schedule_is_read_without_being_called(epoch: int) -> None:
    assert read("anneal(epoch, top=2)", epoch=epoch) == anneal(epoch, top=2)
    assert read("schedule(epoch) * 0.5 if epoch > 4 else -1", epoch=epoch, schedule=Anneal(20)) == (
        Anneal(20)(epoch) * 0.5 if epoch > 4 else -1
    )


@pytest.mark.parametrize(
    "code", ["schedule.next()", "open('x')", "10 ** 10 ** 10", "1 / epoch", "unknown", "[epoch]", "epoch.real", "print"]
)
def test_what_is_no_arithmetic_is_not_reckoned_on(code: str) -> None:
    schedule = Anneal(20)
    with pytest.raises(NotArithmetic):
        _number(read(code, epoch=0, schedule=schedule))
    assert schedule.calls == 0


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise NotArithmetic
    return float(value)


def test_dimensions_that_see_nothing_are_inactive(page: tuple[dict[str, Any], str]) -> None:
    (kl,) = page[0]["kl"]
    for each, share in zip(kl["values"], kl["inactive"], strict=True):
        assert max(each[:2]) < 0.01 < max(each) and share >= 2 / 6


def test_the_page_draws_what_was_seen_and_says_what_was_not(page: tuple[dict[str, Any], str]) -> None:
    curves, html = page
    assert html.count('class="chart"') == 6 and html.count("<script") == 1
    assert "iteration 3: it ran with a smaller batch" in html and "what comes after iteration 14" in html
    assert any("iteration 14" in m for m in curves["missing"]) and not curves["ended"]


def test_curves_without_a_page_say_what_to_add() -> None:
    done = vaelint("run", "--plot", "warmup.py", cwd=RUNS)
    assert done.returncode == 2 and "--output-format html:run.html" in done.stderr
