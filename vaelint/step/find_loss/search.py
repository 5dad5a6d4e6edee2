"""Finds the loss of a model: in its own file, in training code, in the files beside it. What is found elsewhere counts if it runs."""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.paths import relative
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.loading.imports import import_part, parsed
from vaelint.loading.other_files import in_file, named
from vaelint.repository.dataflow import needed_of
from vaelint.repository.objects import Unknown
from vaelint.repository.scopes import Scope
from vaelint.source.blame import one_line, span_of
from vaelint.source.target import Expression
from vaelint.step.candidates import Candidate
from vaelint.step.find_loss import seek
from vaelint.step.find_loss.cut import MAY_TRAIN_BUT, TRAINS_BUT, Slice
from vaelint.step.find_loss.factors import NUMBERS
from vaelint.step.find_loss.keras_loss import keras_step
from vaelint.step.find_loss.neighbours import callers_of, imports_target, losses_elsewhere, neighbours, shown
from vaelint.step.find_loss.training import slices_elsewhere, training_slices
from vaelint.step.find_loss.whole_training import Whole, whole_trainings
from vaelint.step.step import Step
from vaelint.step.unnamed import ways
from vaelint.step.whole import pick_loss

_OWN = (RuntimeError, ValueError, ArithmeticError, IndexError)
"""What a step raises by the user's own mistake; other errors speak of a name or an attribute that the cut did not bring along."""


_SHOWN = 80  # characters of a value in a note

_Look = Callable[[str | None, Sequence[Candidate] | None], seek.Found]
"""Looks for the loss that was told, or for one among some candidates."""


@dataclass(frozen=True)
class Measured:
    """The loss of a step on real tensors: its value, whether it moves the model, and how many parameters beside the model's it moves."""

    value: float
    moves_model: bool
    others: int


@dataclass(frozen=True)
class Trials:
    """How a step is tried: `fails` runs it and gives what it raises, None for nothing; `measure` is its loss, with the same weights,
    inputs and draws for all steps, None where it does not run on real tensors or is no number; `parts` is what its loss is made of, None
    where it compares nothing with an input; `most` is how many steps may be taken apart so."""

    fails: Callable[[Step], BaseException | None]
    measure: Callable[[Step], Measured | None]
    parts: Callable[[Step], Parts | None]
    most: int = 24


@dataclass(frozen=True)
class Parts:
    """Whether a loss has a divergence of the posterior beside its reconstruction, and how many parts get their arguments exchanged."""

    divergence: bool
    exchanged: int


def find_loss(
    loaded: Loaded,
    model: nn.Module,
    step: Step,
    names: Sequence[str],
    output: object,
    role_of: Callable[[torch.Tensor], str | None],
    told: str | None,
    trials: Trials,
    elsewhere: bool = False,
) -> Step | None:
    """The forward step extended by the loss, None where none was found or more than one is as good.

    `told` is what the user gave as `--loss`. `output` is what `step` returned, `role_of` what the trace knows of its tensors: "mu",
    "logvar", "std", "z", "recon", "input:x". When None is returned, `step.notes` says why and which `--step` would do. Raises
    TargetError VAE004 when the loss that was told does not exist or cannot be called.
    """
    look: _Look = partial(seek.seek_loss, loaded, model, step.call, step.code, names, output, role_of, step.input_shapes)
    if told is not None:
        found = look(told, None)
        step.notes += [] if found.code else found.notes
        return _extended(loaded, step, found) if found.code else None
    if elsewhere:
        notes: list[str] = []
        one = _from_training(loaded, step, names, trials, notes) or _from_neighbours(loaded, model, step, look, trials, notes)
        step.notes += [] if one is not None else notes
        return one
    if (keras := keras_step(loaded, model, step, names)) is not None:
        if not keras.partly or trials.parts(keras) is not None:
            return keras
        step.notes.append("what add_loss gets is a part of the loss, and no file was found that compiles the model: --loss names the whole")
        return None
    return _from_own_file(loaded, model, step, names, output, look, trials)


def _from_own_file(
    loaded: Loaded, model: nn.Module, step: Step, names: Sequence[str], output: object, look: _Look, trials: Trials
) -> Step | None:
    """The loss of the model's own file; where it has none, that of training code, of what a function measures, of the files beside it."""
    called = _Tier(trials)
    called.add(_called(loaded, step, whole) for whole in whole_trainings(loaded, model, names))
    if (one := called.one()) is not None:
        return one
    own = _Tier(trials)
    left = list[str]()
    own.add(_trained(loaded, step, cut, extra) for cut, extra in training_slices(loaded, names, left, step.tokens))
    if (one := own.one()) is not None:
        return one
    found = look(None, None)
    if found.otherwise is not None and (found.code is None or trials.fails(_extended(loaded, step, found)) is not None):
        found = found.otherwise
    if found.code is not None:
        one = _extended(loaded, step, found)
        one.doubted = bool(left)
        return one
    alike = _Tier(trials)
    alike.add(_extended(loaded, step, way) for way in found.equal if way.code)
    if (one := alike.one()) is not None:
        return one
    if len(own.raised) == 1 and not own.ran and isinstance(own.raised[0][1], _OWN) and not own.raised[0][0].made_up:
        return own.raised[0][0]  # the file's own training code, as it stands: what it raises is a finding
    notes = list(found.notes)
    _say_of(loaded, own, left, notes)
    one = _from_training(loaded, step, names, trials, notes)
    if one is None and not found.equal:
        one = _measured(loaded, model, step, names, output, trials, notes) or _of_classes(loaded, model, step, output, trials, notes)
    one = one or _from_neighbours(loaded, model, step, look, trials, notes)
    if one is None:
        step.notes += notes
    return one


class _Tier:
    """Steps that are as good as each other: which of them run, and how many losses they are."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self.ran: list[Step] = []
        self.raised: list[tuple[Step, BaseException]] = []

    def add(self, steps: Iterable[Step]) -> None:
        """Tries each."""
        for step in steps:
            error = self._trials.fails(step)
            if error is None:
                self.ran.append(step)
            else:
                self.raised.append((step, error))

    def one(self) -> Step | None:
        """The step, if all that run give one loss."""
        if len(self.ran) < 2:
            return self.ran[0] if self.ran else None
        measured = [(step, self._trials.measure(step)) for step in self.ran]
        trains = [(step, m) for step, m in measured if m is None or m.moves_model]
        alone = [(step, m) for step, m in trains if m is not None and not m.others]  # a discriminator, say, trains along in the rest
        return next((some[0][0] for some in (trains, alone) if _alike([m for _, m in some])), None)


def _alike(measured: Sequence[Measured | None]) -> bool:
    """Whether there is just one loss among these."""
    first = measured[0] if measured else None
    return first is not None and all(m is not None and math.isclose(m.value, first.value, rel_tol=1e-5, abs_tol=1e-7) for m in measured)


def _from_training(loaded: Loaded, step: Step, names: Sequence[str], trials: Trials, notes: list[str]) -> Step | None:
    """The step of the training code in other files, if it runs and there is one."""
    left, before, said_before = list[str](), len(notes), False
    cuts = slices_elsewhere(loaded, names, left, step.tokens)
    for sure in (True, False):
        tier = _Tier(trials)
        said: list[str] = []
        for cut in (c for c in cuts if c.sure is sure):
            extra = _names_for(loaded, cut, said)
            if extra is not None:
                tier.add([_trained(loaded, step, cut, extra)])
        if (one := tier.one()) is not None:
            return one
        if sure or not said_before:
            _say_of(loaded, tier, [*said, *(line for line in left if (MAY_TRAIN_BUT not in line) is sure)], notes, sure)
        said_before = len(notes) > before
    return None


def _say_of(loaded: Loaded, tier: _Tier, left: Sequence[str], notes: list[str], sure: bool = True) -> None:
    """Why none of the places that train the model gives the step."""
    notes += left[:3]
    if tier.ran:
        ways = " or ".join(f'--step "{s.code}"' for s in tier.ran[:3])
        notes.append(f"the training code of other files computes more than one loss; say which: {ways}")
    for step, error in tier.raised[:2]:
        span = span_of(error.__traceback__, loaded.is_user)
        where = f" at {span.file}:{span.line}" if span is not None and f"{span.file}:{span.line}" != step.place else ""
        notes.append(f"{step.place} {TRAINS_BUT if sure else MAY_TRAIN_BUT} does not run by itself: {one_line(error)}{where}")


def _measured(
    loaded: Loaded, model: nn.Module, step: Step, names: Sequence[str], output: object, trials: Trials, notes: list[str]
) -> Step | None:
    """A function of the file whose names say nothing, where what it returns is measured to be an objective.

    The call that exchanges the fewest arguments, of two alike the one with the data as the model returns them; one without a divergence
    only where it gets all outputs, and no call has one.
    """
    tried: list[tuple[tuple[bool, int, bool], Step]] = []
    for way in ways(loaded, model, step.code, names, output, trials.most):
        note = f"{way.name} is used as the loss because of what it computes; no name says so"
        made = _extended(loaded, step, seek.Found(way.code, [note]))
        parts = trials.parts(made)
        if parts is not None and (parts.divergence or way.gets_all):
            tried.append(((not parts.divergence, parts.exchanged, not way.ready), made))
    tier = _Tier(trials)
    tier.ran = [s for odd, s in tried if odd == min(o for o, _ in tried)]
    one = tier.one()
    if one is None and tier.ran:
        notes.append("more than one call may be the loss; say which: " + " or ".join(f'--step "{s.code}"' for s in tier.ran[:3]))
    return one


def _of_classes(loaded: Loaded, model: nn.Module, step: Step, output: object, trials: Trials, notes: list[str]) -> Step | None:
    """The same, for a loss that takes the numbers of classes where the model takes zeros and ones, as `nll_loss` does."""
    for name in sorted(step.bits):
        classes = f"{name}.argmax(-1)"
        ready = f"{name} = torch.nn.functional.one_hot({classes}, {name}.shape[-1]).to({name}.dtype)"
        before = Step(f"{ready}; {step.code}", loaded, has_loss=False, notes=[*step.notes, f"{name} is read as one class at each place"])
        if (one := _measured(loaded, model, before, [classes], output, trials, notes)) is not None:
            one.made_up = {**one.made_up, name: "one class at each place"}
            return one
    return None


def _from_neighbours(loaded: Loaded, model: nn.Module, step: Step, look: _Look, trials: Trials, notes: list[str]) -> Step | None:
    """A loss function of another file, if the outputs can be bound to it and it runs; of several, the one that trains the model."""
    found: list[tuple[Step, str]] = []
    for candidate, extra in neighbours(loaded, model):
        said = look(None, [candidate])
        for way in said.equal or ((said,) if said.code else ()):
            where = relative(candidate.function.__code__.co_filename)
            note = f"{candidate.name} is that of {where}:{candidate.function.__code__.co_firstlineno}"
            made = replace(way, notes=[*way.notes, note], extra={**way.extra, **extra})
            found.append((_extended(loaded, step, made), candidate.name))
    tier = _Tier(trials)
    tier.add(s for s, _ in found)
    trained = _Tier(trials)
    trained.ran = [s for s, name in found if s in tier.ran and callers_of(loaded, name)]
    elsewhere = losses_elsewhere(loaded)
    if (one := tier.one() or trained.one()) is not None:
        name = next(n for s, n in found if s is one)
        if not any(imports_target(loaded, file) for file in callers_of(loaded, name)):
            one.rivals = tuple(f"{relative(str(file))}:{n}" for file, n in elsewhere if n != name)
        return one
    if elsewhere:
        notes.append("other files define losses: " + " or ".join(f"--loss {shown(*there)}" for there in elsewhere[:3]))
    return None


def _extended(loaded: Loaded, step: Step, found: seek.Found) -> Step:
    """The step of the code that was found."""
    extended = Step(found.code or "", loaded, has_loss=True, call=step.call, notes=[*step.notes, *found.notes], extra=found.extra)
    extended.output_part, extended.made_up = pick_loss, found.made_up
    return extended


def _chosen(made_up: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}={value} was chosen: the training code gets it from elsewhere" for name, value in made_up]


def _called(loaded: Loaded, step: Step, whole: Whole) -> Step:
    """The step that calls training code of the target's file."""
    place = f"{relative(loaded.file)}:{whole.line}"
    notes = [*step.notes, f"the step is that of the training code at {place}", *_chosen(whole.made_up.items())]
    called = Step(whole.code, loaded, has_loss=True, call=step.call, notes=notes)
    called.output_part, called.made_up, called.place = pick_loss, whole.made_up, place
    called.unknown_weights = tuple(name for name, value in whole.made_up.items() if value in NUMBERS)
    return called


def _trained(loaded: Loaded, step: Step, cut: Slice, extra: Mapping[str, Any]) -> Step:
    """The step that is cut out of training code."""
    chosen = _chosen(cut.made_up) + [f"{name} = {_cut(value)} was read from the repository" for name, value in cut.told]
    place = f"{relative(cut.file)}:{cut.line}"
    sure = "" if cut.sure else "; that it trains this model, only names say"
    notes = [*step.notes, f"the step is that of the training code at {place}{sure}", *chosen]
    names = {k: _same_options(loaded, v) for k, v in extra.items()} | named(loaded, Expression("", cut.names))
    trained = Step(cut.code, loaded, has_loss=True, call=step.call, notes=notes, extra=names, tree=cut.tree, file=cut.file)
    trained.made_up, trained.place = dict((*cut.made_up, *cut.told)), place
    trained.told = frozenset(name for name, _ in cut.told)
    trained.unknown_weights = tuple(name for name, value in cut.made_up if value in NUMBERS)
    return trained


def _same_options(loaded: Loaded, value: Any) -> Any:
    """Options, with the sizes of the input where the model was built with such: it is one object there."""
    for other in loaded.arguments.values():
        if isinstance(value, argparse.Namespace) and isinstance(other, argparse.Namespace) and vars(other).keys() <= vars(value).keys():
            return argparse.Namespace(**{**vars(value), **vars(other)})
    return value


def _names_for(loaded: Loaded, cut: Slice, notes: list[str]) -> dict[str, Any] | None:
    """What the training code of another file needs of that file's top level; None where that part cannot be run."""
    path = Path(cut.file)
    try:
        named(loaded, Expression("", cut.names))
        try:
            module = import_part(path, needed_of(parsed(path), set(cut.needs)), notes)
        except TargetError:
            return _one_by_one(loaded, path, cut)
    except (TargetError, ImportError, AttributeError) as error:
        notes.append(f"{relative(cut.file)}:{cut.line} {TRAINS_BUT} cannot be read: {one_line(error)}")
        return None
    return {name: vars(module)[name] for name in cut.needs if name in vars(module)}


def _one_by_one(loaded: Loaded, path: Path, cut: Slice) -> dict[str, Any]:
    """The names that a step needs of a file whose top level does not run: values as its code tells them, definitions alone.

    Raises TargetError VAE001, ImportError or AttributeError for one that cannot be had.
    """
    file = loaded.repository.file(path)
    found: dict[str, Any] = {}
    for name in cut.needs if file is not None else ():
        try:
            value = loaded.reader.read(ast.Name(name, ast.Load()), Scope(file))  # type: ignore[arg-type]
        except Unknown:
            value = in_file(loaded, path, name)
        found[name] = loaded.evaluated(name, value)
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
