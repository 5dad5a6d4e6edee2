"""The sample sites of a guide and a model, and what runs with them and is no bound on the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vaelint.core.finding import Label, Span
from vaelint.core.sign import Found
from vaelint.late import dataclass

_NO_LAW = ("Delta", "Unit", "_Subsample")  # what says nothing of how likely a value is


@dataclass(frozen=True)
class Site:
    """One `pyro.sample`, as it was drawn or observed."""

    name: str
    place: Span | None
    batch: tuple[int, ...]  # of the distribution: draws that are independent of each other
    event: tuple[int, ...]
    plates: tuple[tuple[str, int, int], ...]  # name, axis, size
    scale: Any
    observed: bool
    law: str  # the distribution's name
    learned: bool = False  # a gradient goes into its parameters
    declared: int = 0  # axes of the event that `.to_event` made of the distribution's own draws
    alone: bool = False  # it has no partner by intent: auxiliary, or all its values are gone through


def no_bound(guide: list[Site], model: list[Site]) -> Iterator[Found]:
    """What is wrong with a guide and a model that run."""
    yield from scales_differ(guide, model)
    yield from misplaced(guide, model)
    yield from drawn_for_data(guide, model)
    yield from without_posterior(guide, model)


def exchanged(guide: list[Site], model: list[Site], svi: Span | None) -> Iterator[Found]:
    """The guide has what is observed, and the model nothing."""
    data = [s for s in guide if s.observed and s.law not in _NO_LAW]
    if data and model and not any(s.observed for s in model):
        labels = tuple(Label(s.place, f"the guide observes '{s.name}'") for s in data if s.place is not None)
        yield Found(
            svi or data[0].place, "model and guide are exchanged", labels,
            why="the bound is that of the guide's likelihood under the model's draws: nothing is trained to explain the data",
            help="SVI(model, guide, optimizer, loss): the model has the likelihood, the guide the posterior",
        )  # fmt: skip


def scales_differ(guide: list[Site], model: list[Site]) -> Iterator[Found]:
    """A latent whose log q and log p are weighed differently: what is subtracted is no KL."""
    known = {s.name: s for s in model if not s.observed}
    for mine in guide:
        other = known.get(mine.name)
        if other is None or mine.law in _NO_LAW or other.law in _NO_LAW or _same(mine.scale, other.scale):
            continue
        labels = (Label(other.place, f"log p is weighed by {_shown(other.scale)}"),) if other.place is not None else ()
        yield Found(
            mine.place or other.place, f"'{mine.name}': log q is weighed by {_shown(mine.scale)}", labels,
            why="with two weights log q - log p is not a KL: its minimum is not at the posterior the prior",
            help="the same plate, subsampling and poutine.scale around the site in the guide and in the model",
        )  # fmt: skip


def misplaced(guide: list[Site], model: list[Site]) -> Iterator[Found]:
    """A plate that stands at another axis than its rows: each row is drawn as often as there are rows."""
    for site in (*guide, *model):
        axes = {axis for _, axis, _ in site.plates}
        for name, axis, size in site.plates:
            own = [i for i, n in zip(range(-len(site.batch), 0), site.batch, strict=True) if n == size > 1 and i not in axes]
            if own:
                yield Found(
                    site.place, f"'{site.name}': plate '{name}' is at axis {axis}, its {size} rows along axis {own[-1]}",
                    why=f"the site is repeated along the plate: {size} draws for each row, and a loss {size} times as large",
                    help=f'pyro.plate("{name}", ..., dim={own[-1]})',
                )  # fmt: skip
                return


def drawn_for_data(guide: list[Site], model: list[Site]) -> Iterator[Found]:
    """What the guide draws and the model observes: no log p holds its log q, and the value that is drawn is never the data."""
    data = {s.name: s for s in model if s.observed}
    for mine in guide:
        other = data.get(mine.name)
        if other is None or mine.observed or mine.alone or mine.law in _NO_LAW or other.law in _NO_LAW or not _counts(mine.scale):
            continue
        labels = (Label(other.place, "the model observes it"),) if other.place is not None else ()
        yield Found(
            mine.place or other.place, f"'{mine.name}': the guide draws it, and the model observes it", labels,
            why="its log q is in the loss and has no log p beside it: the guide is never told the value that was observed",
            help="do not draw it where the model has the value; what is to be learned of it takes a likelihood of its own",
        )  # fmt: skip


def without_posterior(guide: list[Site], model: list[Site]) -> Iterator[Found]:
    """A latent with a learned prior that the guide does not draw: its log p is in the loss at draws of that same prior."""
    known = {s.name for s in guide}
    for own in model:
        if own.observed or own.name in known or own.alone or not own.learned or own.law in _NO_LAW or not _counts(own.scale):
            continue
        yield Found(
            own.place, f"'{own.name}': the model draws it, and the guide does not",
            why="it is drawn from its learned prior, whose log p is in the loss with no log q: the prior is trained to be narrow",
            help="draw it in the guide too, or sum over it: TraceEnum_ELBO with config_enumerate",
        )  # fmt: skip


def _counts(scale: Any) -> bool:
    return bool((torch.as_tensor(scale) != 0).any())


def _same(a: Any, b: Any) -> bool:
    x, y = (torch.as_tensor(v, dtype=torch.float64).detach().cpu() for v in (a, b))
    return bool(((x - y).abs() <= 1e-4 * torch.maximum(x.abs(), y.abs())).all())


def _shown(scale: Any) -> str:
    return f"{float(scale):.6g}" if not isinstance(scale, torch.Tensor) or scale.numel() == 1 else f"{len(scale)} weights"
