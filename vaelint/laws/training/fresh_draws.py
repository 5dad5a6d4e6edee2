"""Law A1, for noise: two steps of training draw different noise.

Intervention: one model takes the step twice, from different states of torch's generators; a generator of its own goes on by itself. Noise
that is the same both times was seeded by the step itself; a seed in the text that was typed as `--step` is the check's own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import generators
from vaelint.record.record import route
from vaelint.rule import Found
from vaelint.step.step import Step

_SEEDING = frozenset({"manual_seed", "seed_all", "manual_seed_all", "seed_everything", "set_seed", "set_rng_state"})


@law("draws-are-fresh", "two steps draw different noise", covered=("VAE20",), cost="all")
def draws_are_fresh(bench: Bench) -> Iterator[Broken]:
    """The noise of every posterior that is drawn from."""
    noises = list(dict.fromkeys(n for s in bench.model.sites for n in s.noise if bench.knows(n) and n in bench.model.flow.random))
    if not noises:
        return
    if _is_seeded_by_the_check(bench):
        raise CannotMeasureError("the step as it was typed seeds the generator: leave that out, and the noise of two steps is compared")
    if (repeated := next((n for n in noises if generators.is_set_anew(n)), None)) is not None:
        yield _repeated(bench, repeated, "two iterations of the training draw from the same state of the generator")
        return
    runs = bench.base.twice()
    if any(run.record.failure is not None for run in runs):
        raise CannotMeasureError("the step does not run again")
    for noise in noises:
        if not all(run.has(noise) for run in runs):
            continue
        one, other = (run.value(noise) for run in runs)
        if one.numel() > 1 and one.is_floating_point() and torch.equal(one, other):
            yield _repeated(bench, noise, "two steps from different seeds draw the same numbers to the last bit")
            return


def _is_seeded_by_the_check(bench: Bench) -> bool:
    """Whether the step that was typed for the check seeds the generator: training may do without."""
    step = bench.model.step
    return isinstance(step, Step) and not step.place and any(f"{name}(" in step.code for name in _SEEDING)


def _repeated(bench: Bench, noise: fx.Node, seen: str) -> Broken:
    model = bench.model
    seeded = _seeding(bench, noise)
    found = Found(
        seeded or model.where(noise),
        label="seeds the generator before the noise is drawn" if seeded else "the same noise in every step",
        labels=model.labels((noise, "drawn here")),
        why="every step moves the codes in the same way: the expectation over z is never taken, and the decoder learns one noise by heart",
        help="seed once, before training; give evaluation a generator of its own",
    )
    return Broken("frozen-noise", found, "two steps draw different noise", seen)


def _seeding(bench: Bench, noise: fx.Node) -> Span | None:
    """The call that seeds a generator, in a function on the way to the noise."""
    for place in route(noise):
        function, file = bench.model.source.function(place), bench.model.source.file(place.file)
        for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)) if function is not None else ():
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
            if name in _SEEDING:
                return file.place(place.file, call)
    return None
