# mypy: disable-error-code="no-untyped-call"
"""Several trainings in one run: each is seen, a sweep over seeds once, and what is left of a training is passed over."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vaelint.observe.hooks import watched
from vaelint.observe.session import Session, StopObserving
from vaelint.trace.spans import SpanFinder

Loader = DataLoader[tuple[torch.Tensor, ...]]


class Small(nn.Module):
    def __init__(self, latent: int = 2) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(6, latent), nn.Linear(latent, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.enc(x)
        out: torch.Tensor = self.dec(z + torch.randn_like(z))
        return out


class Other(Small):
    pass


def batches() -> Loader:
    return DataLoader(TensorDataset(torch.rand(64, 6)), batch_size=8)


def fit(model: nn.Module, loader: Loader, epochs: int = 40) -> int:
    """Trains; how many batches it got."""
    optimizer, got = torch.optim.SGD(model.parameters(), lr=0.01), 0
    for _ in range(epochs):
        for (x,) in loader:
            optimizer.zero_grad()
            (model(x) - x).pow(2).sum().backward()
            optimizer.step()
            got += 1
    return got


def seen(script: Callable[[], None]) -> Session:
    """A run of it, watched as that of a script."""
    session = Session(SpanFinder(str(Path(__file__).parent)), further=True)
    error: BaseException | None = None
    with watched(session):
        try:
            script()
        except StopObserving as enough:
            error = enough
        session.over(error, sys._getframe())
    return session


def trained(session: Session) -> list[str]:
    """The networks of each training."""
    return [type(t.iterations[0].frozen).__name__ for t in session.trainings]


def test_each_of_two_trainings_is_recorded_at_two_batch_sizes_and_the_rest_of_the_first_is_passed_over() -> None:
    got = []

    def script() -> None:
        loader = batches()
        got.append(fit(Small(), loader))
        got.append(fit(Other(), loader))

    session = seen(script)
    assert trained(session) == ["Small", "Other"]
    assert [[i.batch for i in t.iterations] for t in session.trainings] == [[8, 5], [8, 5]]
    assert got == [5 + 40]  # five iterations; then one batch for each epoch


def test_a_loop_over_classes_is_followed_and_one_over_sizes_is_not() -> None:
    def classes() -> None:
        for kind in (Small, Other):
            fit(kind(), batches())

    def sizes() -> None:
        for latent in range(2, 6):
            fit(Small(latent), batches())
            ran.append(latent)

    ran: list[int] = []
    assert trained(seen(classes)) == ["Small", "Other"]
    assert trained(seen(sizes)) == ["Small"]
    assert ran == [2]  # the second has shown that it is the same again


def test_loops_without_a_loader_come_one_after_another() -> None:
    def script() -> None:
        x = torch.rand(16, 6)
        for model in (Small(), Other()):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            for _ in range(30):
                optimizer.zero_grad()
                (model(x) - x).pow(2).sum().backward()
                optimizer.step()

    assert len(seen(script).trainings) == 2


def test_a_script_that_trains_nothing_more_ends_with_its_first_training() -> None:
    after: list[torch.Tensor] = []

    def script() -> None:
        model, loader = Small(), batches()
        fit(model, loader)
        with torch.no_grad():
            after.extend(model(x) for (x,) in loader)

    session = seen(script)
    assert trained(session) == ["Small"] and not after


def test_a_script_that_cannot_do_with_few_batches_keeps_its_first_training_and_says_so() -> None:
    def script() -> None:
        loader = batches()
        model = Small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for (x,) in loader:
            optimizer.zero_grad()
            loss = (model(x) - x).pow(2).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        losses[7]  # there are eight
        fit(Other(), loader)

    session = seen_though(script)
    assert trained(session) == ["Small"]
    assert "what the script trains later was not seen: it raises IndexError when its loops get one batch each" in session.said


def seen_though(script: Callable[[], None]) -> Session:
    """The same, of a script that raises."""
    session = Session(SpanFinder(str(Path(__file__).parent)), further=True)
    with watched(session), contextlib.suppress(IndexError):
        try:
            script()
        except IndexError as error:
            session.over(error, sys._getframe())
            raise
    return session
