"""Which sizes of the input the model takes, found by running the step at other sizes: fixed, multiples, least and largest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, name_of, shape

if TYPE_CHECKING:
    from vaelint.core.inputs import InputSet
    from vaelint.trace.ladder import Tracer

BUDGET_S = 5.0
"""Seconds that go into trying where sizes were asked for."""

FAILED_BUDGET_S = 1.5
"""Seconds for it where user code failed."""

_FAR = 192  # 2^6 * 3: steps that divide it are found by taking it apart
_STEPS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)  # others are looked for one by one
_IMAGES = (16, 28, 32, 48, 64, 96, 128, 224, 256)
_LARGEST = 512  # on real tensors, sizes up to which other sizes are tried: it takes time and memory


@dataclass(frozen=True)
class Fit:
    """What is known of one size, or of sizes that move together. With `multiple` 1 every size between the bounds fits."""

    symbols: tuple[str, ...]
    text: str
    fixed: int | None = None
    multiple: int | None = None
    minimum: int | None = None
    maximum: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"symbols": list(self.symbols)}


class _Spent(Exception):
    """The time for trying is used up."""


class _Trials:
    """Runs the step at other sizes, each once, until the time is up."""

    def __init__(self, tracer: Tracer, step: Any, start: Mapping[str, int], budget: float) -> None:
        self._tracer, self._step, self.start = tracer, step, dict(start)
        self._until = time.thread_time() + budget
        self._known: dict[tuple[tuple[str, int], ...], Record | None] = {}

    def record(self, sizes: Mapping[str, int], *, training: bool = True) -> Record | None:
        """The run at `start` with some sizes changed; None where this rung of tracing cannot say. Raises `_Spent`."""
        told = self.start | dict(sizes)
        key = (*sorted(told.items()), ("training", int(training)))
        if key not in self._known:
            if time.thread_time() > self._until:
                raise _Spent
            self._known[key] = self._tracer.attempt(self._step, told, training=training)
        return self._known[key]

    def takes(self, sizes: Mapping[str, int], *, training: bool = True) -> bool:
        """Whether the step runs."""
        record = self.record(sizes, training=training)
        return record is not None and record.failure is None


def which_fit(tracer: Tracer, step: Any, inputs: InputSet, start: Mapping[str, int], budget: float | None = None) -> list[Fit]:
    """What fits, for each size of the inputs, from sizes `start` that do. Sizes that there was no time for are named as such."""
    if tracer.real_because is not None and max(start.values(), default=0) > _LARGEST:
        return []
    trials = _Trials(tracer, step, start, BUDGET_S if budget is None else budget)
    fits: list[Fit] = []
    groups: list[tuple[str, ...]] = [(inputs.batch,)] if inputs.batch is not None and inputs.batch in start else []
    if "H" in start and start["H"] == start.get("W"):
        groups.append(("H", "W"))
    groups += [(s,) for s in start if not any(s in g for g in groups)]
    for names in groups:
        try:
            fits.append(_batch(trials, names[0]) if names[0] == inputs.batch else _size(trials, names))
        except _Spent:
            fits.append(Fit(names, f"{_names(names)}: not tried: out of time"))
    return fits


def fit_after_failure(tracer: Tracer, step: Any, inputs: InputSet, record: Record) -> tuple[dict[str, int], list[Fit]]:
    """Sizes near those that failed with which the step runs (empty: none of a few does), and what is then known to fit."""
    started = time.thread_time()
    if tracer.real_because is not None and max(inputs.symbols.values(), default=0) > _LARGEST:
        return {}, []
    trials = _Trials(tracer, step, inputs.symbols, FAILED_BUDGET_S)
    try:
        found = next((c for c in _near(inputs, record) if trials.takes(c)), None)
    except _Spent:
        found = None
    if found is None:
        return {}, []
    left = FAILED_BUDGET_S - (time.thread_time() - started)
    changed = which_fit(tracer, step, inputs, {**inputs.symbols, **found}, max(left, 0.0))
    return found, [f for f in changed if set(f.symbols) & set(found) and "out of time" not in f.text]


def _near(inputs: InputSet, record: Record) -> list[dict[str, int]]:
    """Sizes to try: images of the usual sizes, the nearest first; else what the failing layer wants; a second sample."""
    symbols = {s: n for s, n in inputs.symbols.items() if s != inputs.batch}
    trials: list[dict[str, int]] = []
    if inputs.batch is not None and inputs.symbols[inputs.batch] == 1:
        trials.append({inputs.batch: 2})
    if "H" in symbols and "W" in symbols:
        own = max(symbols["H"], symbols["W"])
        usual = sorted((n for n in {*_IMAGES, *range(8, 8 * 9, 8)} if (n, n) != (symbols["H"], symbols["W"])), key=lambda n: abs(n - own))
        common = [n for n in usual if n in _IMAGES]
        channels = [{"C": n} for n in (1, 3) if symbols.get("C", n) != n]
        images = [{"H": n, "W": n} for n in (*common[:6], *usual[:6])]
        at_once = record.failure is not None and any(n.op == "placeholder" for n in ops.tensors(record.failure.args))
        return trials + (channels + images if at_once else images + channels)
    failure = record.failure
    if failure is None:
        return trials
    operands = [n for n in ops.tensors(failure.args) if n.op != "get_attr"]
    weights = [n for n in ops.tensors(failure.args) if n.op == "get_attr"]
    if len(operands) == 1 and weights and len(shape(weights[0])) >= 2 and shape(operands[0]):
        got, wants = shape(operands[0])[-1], shape(weights[0])[1]
        trials += [{s: wants} for s, n in symbols.items() if n == got and n != wants]
    return trials


def _batch(trials: _Trials, symbol: str) -> Fit:
    """The batch: any, from 2 on in training, or the one that is baked in."""
    size = trials.start[symbol]
    if not any(trials.takes({symbol: n}) for n in (size + 1, 2 * size)):
        return Fit((symbol,), f"{symbol}: {size} only; it is baked into the code", fixed=size)
    if trials.takes({symbol: 1}):
        return Fit((symbol,), f"{symbol}: any batch size", multiple=1, minimum=1)
    if size != 2 and not trials.takes({symbol: 2}):
        return Fit((symbol,), f"{symbol}: {size} and more; 1 and 2 fail", multiple=1)
    reason = _why(trials.record({symbol: 1}))
    evaluation = "; 1 is enough in evaluation" if trials.takes({symbol: 1}, training=False) else ""
    return Fit((symbol,), f"{symbol}: at least 2 in training{reason}{evaluation}", multiple=1, minimum=2)


def _why(record: Record | None) -> str:
    """Because of which layer, where it is one."""
    if record is None or record.failure is None or not record.failure.module:
        return ""
    try:
        kind = type(record.model.get_submodule(record.failure.module)).__name__
    except AttributeError:
        return ""
    return f", because of {record.failure.module} ({kind})"


def _size(trials: _Trials, names: tuple[str, ...]) -> Fit:
    """One size, or two that move together."""
    size = trials.start[names[0]]

    def takes(n: int) -> bool:
        return n >= 1 and trials.takes(dict.fromkeys(names, n))

    said = _names(names)
    only = Fit(names, f"{said}: {size} only", fixed=size)
    if not takes(size + 1) and (_made_for(trials, names, size) or _counted(trials, names, size)):
        return only
    step = _step(takes, size)
    maximum = None
    if step is None:
        step, maximum = next((d for d in (1, *_STEPS) if takes(size - d)), None), size
    elif not takes(size + _FAR * step):
        maximum = _last(lambda k: takes(size + k * step), _FAR) * step + size
    if step is None:
        return only
    minimum = _least(takes, size, step)
    together = ""
    if len(names) > 1 and not all(trials.takes({s: size + step}) or trials.takes({s: size - step}) for s in names):
        together = f", {said} equal"
    if step == 1:
        bounds = [f"at least {minimum}" if minimum > 1 else "", f"at most {maximum}" if maximum else ""]
        told = " and ".join(b for b in bounds if b) or "any size"
    elif size % step == 0:
        told = f"multiples of {step}, at least {minimum}" + (f" and at most {maximum}" if maximum else "")
    else:
        told = f"{minimum}, {minimum + step}, {minimum + 2 * step}, ... (steps of {step})" + (f" up to {maximum}" if maximum else "")
    return Fit(names, f"{said}: {told}{together}", multiple=step, minimum=minimum, maximum=maximum)


def _made_for(trials: _Trials, names: tuple[str, ...], size: int) -> bool:
    """Whether a size next to this one fails right at a layer that is made for this one: then no other will do."""
    record = trials.record(dict.fromkeys(names, size + 1))
    failure = record.failure if record is not None else None
    if failure is None or failure.fn is None:
        return False
    operands = [n for n in ops.tensors(failure.args) if n.op != "get_attr"]
    weights = [n for n in ops.tensors(failure.args) if n.op == "get_attr"]
    return bool(operands and weights) and size + 1 in shape(operands[0]) and size in shape(weights[0])


def _counted(trials: _Trials, names: tuple[str, ...], size: int) -> bool:
    """Whether a much larger size fails at a linear layer: it counts the positions, and one less does not fit either."""
    record = trials.record(dict.fromkeys(names, size + _FAR))
    failure = record.failure if record is not None else None
    if failure is None or failure.fn is None or name_of(failure.fn) != "linear":
        return False
    return size > 1 and not trials.takes(dict.fromkeys(names, size - 1))


def _step(takes: Callable[[int], bool], size: int) -> int | None:
    """The least step upwards to another size that fits; None if none was found."""
    if takes(size + 1):
        return 1
    if not takes(size + _FAR):
        return next((d for d in _STEPS if takes(size + d)), None)
    step = _FAR
    for prime in (2, 3):
        while step % prime == 0 and takes(size + step // prime):
            step //= prime
    return step


def _least(takes: Callable[[int], bool], size: int, step: int) -> int:
    """The least size that fits, a whole number of steps below one that does; all between are taken to fit."""
    most = (size - 1) // step
    return size - step * (most if takes(size - most * step) else _last(lambda k: takes(size - k * step), most))


def _last(holds: Callable[[int], bool], fails: int) -> int:
    """The last number for which it holds, where it holds for 0, not for `fails`, and changes once between."""
    good = 0
    while fails - good > 1:
        middle = (good + fails) // 2
        if holds(middle):
            good = middle
        else:
            fails = middle
    return good


def _names(names: tuple[str, ...]) -> str:
    return " and ".join(names)
