"""Laws B1 and B2, for the step as a whole: each turn's gradients are used once, each optimizer that takes part steps, and the scale of
a GradScaler leaves no trace.

The step runs as it is, with its optimizers. Repeated on one model for optimizers that do not step each time; repeated with other scales
where gradients were changed before the scale was taken out of them.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from vaelint.core.finding import Label, Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.left_gradients import left_to_the_next
from vaelint.laws.training.lone_optimizers import never_stepped
from vaelint.record.record import GradientUse, Record
from vaelint.rule import Found

_TURNS = 6  # a critic is trained up to five times as often as its generator
_SCALES = (2.0**3, 2.0**11)
_NO_LIMIT = 1e5  # a norm that is only read
_ALIKE = 0.02  # of the way that the parameters went


@law("gradients-are-used-once", "an optimizer's step uses gradients that no earlier step has used", covered=("VAE511",), cost="all")
def gradients_are_used_once(bench: Bench) -> Iterator[Broken]:
    """Within one run of the step, and from one run to the next where the step clears some gradients itself: else a caller may."""
    if not bench.model.record.objectives:
        return
    record = bench.trained
    piled = next((u for u in record.uses if u.kind == "piled"), None) or _left_over(bench, record)
    if piled is not None:
        steps = [u.place for u in record.uses if u.kind == "stepped" and u.of & piled.of and u.place is not None]
        labels = (Label(steps[-1], "steps along both together"),) if steps else ()
        yield _piled_up(piled.place, "adds to gradients that an earlier step has used", labels, len(piled.of))
    elif (left := left_to_the_next(bench, record)) is not None:
        yield _piled_up(left.place, left.label, left.labels, len(left.names))


def _piled_up(place: Span | None, label: str, labels: tuple[Label, ...], count: int) -> Broken:
    found = Found(
        place,
        label=label,
        labels=labels,
        why="nothing clears them: each step follows the sum of all batches so far, with the weights that these were computed for",
        help="clear the gradients of all that backward() fills in each turn, before it: optimizer.zero_grad(), or the network's own "
        "zero_grad() where the optimizer holds copies",
    )
    return Broken("gradients-pile-up", found, "a step uses each gradient once", f"{count} parameters keep the gradients of before")


def _left_over(bench: Bench, record: Record) -> GradientUse | None:
    """What a step leaves to the next one, where it steps itself and nothing in its file clears gradients."""
    passed = next((c for c in record.backwards if c.kind == "backward" and c.moved and c.span is not None), None)
    if bench.is_observed or passed is None or passed.span is None or not record.optimizers or any(u.kind == "cleared" for u in record.uses):
        return None
    tree = bench.model.source.file(passed.span.file).tree
    words = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    if words & {"zero_grad", "grad"} or (all(o.in_step for o in record.optimizers) and not _turns_here(tree, passed.span.line)):
        return None
    built = bench.base.runner.build()
    first = bench.base.again(built=built, as_is=True).record
    left = frozenset(id(p) for p in built.model.parameters() if p.grad is not None and bool(p.grad.any()))
    used = frozenset[int]().union(*(u.of for u in first.uses if u.kind == "stepped"))
    return GradientUse("piled", left & used, passed.span) if first.failure is None and left & used else None


def _turns_here(tree: ast.Module, line: int) -> bool:
    """Whether the function around a line is called in a loop of the same file: else a caller in another one may clear the gradients."""
    around = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While)]
    calls = {ast.unparse(c.func).rpartition(".")[2] for loop in loops for c in ast.walk(loop) if isinstance(c, ast.Call)}
    return any(f.name in calls for f in around)


@law("optimizers-step", "an optimizer whose gradients are computed and cleared steps", covered=("VAE504", "VAE511"), cost="all")
def optimizers_step(bench: Bench) -> Iterator[Broken]:
    """Optimizers of the constructor, over several steps on one model: some wait for others. Those that the step makes, in one run of it."""
    if not bench.model.record.objectives:
        return
    if (early := _before_its_pass(bench.trained)) is not None:
        yield _early(*early)
        return
    if len(bench.model.record.optimizers) < 2:
        alone = [never_stepped(bench, o) for o in bench.trained.optimizers]
        yield from (b for b in alone if b is not None)
        return
    if all(o.in_step for o in bench.model.record.optimizers):
        made = _idle_in_step(bench)
        if made is not None:
            yield _never(bench, bench.trained, made, turns=1)
        return
    built = bench.base.runner.build()
    waiting: set[int] | None = None
    for seed in range(_TURNS):
        record = bench.base.again(seed=seed, built=built, as_is=True).record
        if record.failure is not None:
            raise CannotMeasureError("the step cannot be repeated on one model")
        idle = {k for k, o in enumerate(built.optimizers) if _only_cleared(record, o.parameters)}
        waiting = idle if waiting is None else waiting & idle
        if not waiting:
            return
    index = min(waiting or (), default=None)
    if index is not None:
        yield _never(bench, record, built.optimizers[index])


def _before_its_pass(record: Record) -> tuple[GradientUse, Span | None] | None:
    """A step between the clearing of gradients and the only pass that fills them, and the place of that pass."""
    for number, use in enumerate(record.uses):
        of = use.of
        if use.kind != "empty" or use.passes or not any(u.kind == "cleared" and u.of & of for u in record.uses[:number]):
            continue
        filled = [c for c in record.backwards if c.leaves & of]
        if filled and not any(u.kind == "stepped" and u.of & of for u in record.uses[number:]):
            return use, filled[-1].span
    return None


def _early(use: GradientUse, passed: Span | None) -> Broken:
    found = Found(
        use.place,
        label="steps when the gradients have been cleared and not computed again",
        labels=(Label(passed, "computes them too late: the next turn clears them"),) if passed is not None else (),
        why="no parameter that it holds ever has a gradient when it steps: they all stay as they were made",
        help="step after backward(): zero_grad(), backward(), step()",
    )
    return Broken("optimizer-never-steps", found, "an optimizer steps after the pass that fills its gradients", "it steps before the pass")


def _idle_in_step(bench: Bench) -> Any:
    """An optimizer made by the step that it leaves idle, where no `step()` of the file was left out: one that stands below an `if` may
    wait for its turn. Where the caller of the step is not seen, another one must step at two places."""
    record = bench.trained
    idle = next((o for o in record.optimizers if _only_cleared(record, o.parameters)), None)
    places = {u.place for u in record.uses if u.kind == "stepped" and u.place is not None}
    if idle is None or (not bench.is_observed and len({u.of for u in record.uses if u.kind == "stepped"}) == len(places)):
        return None
    cleared = {u.place for u in record.uses if u.kind == "cleared" and u.of == idle.parameters}
    for file in {p.file for p in (*places, *cleared, idle.span) if p is not None}:
        calls = [n for n in ast.walk(bench.model.source.file(file).tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        lines = {p.line for p in places if p.file == file}
        if any(n.func.attr == "step" and n.lineno not in lines for n in calls if isinstance(n.func, ast.Attribute)):
            return None
    return idle


def _only_cleared(record: Record, held: frozenset[int]) -> bool:
    """Whether a step clears an optimizer's gradients, fills them, and no step moves any of its parameters, while others step."""
    cleared = any(u.kind == "cleared" and u.of == held for u in record.uses)
    filled = any(c.leaves & held for c in record.backwards)
    stepped = [u.of for u in record.uses if u.kind == "stepped"]
    return cleared and filled and bool(stepped) and not any(of & held for of in stepped)


def _never(bench: Bench, record: Record, idle: Any, turns: int = _TURNS) -> Broken:
    """Points at the step of another optimizer in its place, where one steps at two places: the one after the pass that fills the idle
    one's gradients. Else where these are cleared."""
    places: dict[frozenset[int], list[Span]] = {}
    for use in record.uses:
        if use.kind == "stepped" and use.place is not None and use.place not in places.setdefault(use.of, []):
            places[use.of].append(use.place)
    fills = [(len(c.leaves - idle.parameters), number) for number, c in enumerate(record.backwards, 1) if c.leaves & idle.parameters]
    own = min(fills, default=(0, 0))[1]  # the pass that gives others the fewest gradients
    after = {u.place for u in record.uses if u.kind == "stepped" and own and u.passes == own}
    instead = next((next((at for at in p if at in after), p[0]) for p in places.values() if len(p) > 1), None)
    cleared = next((u.place for u in record.uses if u.kind == "cleared" and u.of == idle.parameters), None)
    found = Found(
        instead or cleared or idle.span,
        label="another optimizer steps here" if instead is not None else "its gradients are cleared, and it never steps",
        labels=(Label(idle.span, f"this {idle.name} never steps"),) if idle.span is not None else (),
        why="the parameters that it holds keep their initial values, and another network is moved twice",
        help="step the optimizer of the network that the loss before it is to train",
    )
    return Broken(
        "optimizer-never-steps",
        found,
        "each optimizer steps",
        f"in {turns} {'steps on one model' if turns > 1 else 'run of the step'} it does not move its parameters",
    )


@law("scales-leave-no-trace", "the scale of a GradScaler leaves no trace in the update", covered=("VAE909",), cost="all")
def scales_leave_no_trace(bench: Bench) -> Iterator[Broken]:
    """Where gradients were changed before `unscale_`: dividing them by a number is no fault, clipping them is."""
    if not bench.model.record.objectives or (bent := _bent(bench.model.record)) is None:
        return
    if bench.is_observed:
        limit = next((u.limit for u in bench.model.record.uses if u.kind == "limited" and u.place == bent and 0 < u.limit < _NO_LIMIT), 0.0)
        text = f"the norm is limited to {limit:g} before unscale_, where the gradients are as many times larger as the scale says"
        yield from [_changed(bent, text)] if limit else []
        return
    ways = [_way(bench, scale) for scale in _SCALES]
    size = min(float(w.norm()) for w in ways)
    gap = float((ways[0] - ways[1]).norm())
    if not size or gap <= _ALIKE * size:
        return
    moved = [f"{float(w.norm()):.3g}" for w in ways]
    text = f"with a scale of {_SCALES[0]:g} the parameters move by {moved[0]}, with one of {_SCALES[1]:g} by {moved[1]}"
    yield _changed(bent, text)


def _changed(bent: Span, text: str) -> Broken:
    found = Found(
        bent,
        label="changes the gradients while the scale is still in them",
        why="a limit on the norm is held against gradients that are as many thousand times larger as the scale says: "
        "all are cut to a tiny step, and by another factor whenever the scale moves",
        help="call scaler.unscale_(optimizer) before the gradients are clipped or looked at",
    )
    return Broken("scaled-gradients-changed", found, "the update is the same for every scale", text)


def _bent(record: Record) -> Span | None:
    return next((u.place for u in record.uses if u.kind == "bent" and u.place is not None), None)


def _way(bench: Bench, scale: float) -> torch.Tensor:
    """How far one step moves all parameters, with scalers of that scale."""
    models: list[torch.nn.Module] = []
    before: list[torch.Tensor] = []

    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        models.append(model)
        before.append(_all(model))

    with _scaling(scale):
        run = bench.base.again(as_is=True, prepare=put)
    if run.record.failure is not None or not models:
        raise CannotMeasureError("the step does not run with another scale")
    return _all(models[0]) - before[0]


def _all(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten().clone() for p in model.parameters()])


@contextlib.contextmanager
def _scaling(scale: float) -> Iterator[None]:
    """While the block runs, every GradScaler that is made works, on the CPU, and begins with that scale."""
    original = torch.amp.GradScaler.__init__

    def init(self: torch.amp.GradScaler, *_: Any, **__: Any) -> None:
        original(self, "cpu", init_scale=scale)

    torch.amp.GradScaler.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.amp.GradScaler.__init__ = original  # type: ignore[method-assign]
