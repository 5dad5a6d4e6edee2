"""What was seen of a run, as models: of each goal its loss, its networks and its anatomy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from vaelint.anatomy.loss.describe import describe_anatomy, describe_loss
from vaelint.anatomy.model import Model
from vaelint.core.assumption import told
from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.inputs import InputSet, InputSpec
from vaelint.core.messages import message_of
from vaelint.core.result import Request, TargetResult
from vaelint.observe.copies import Parts, copied
from vaelint.observe.not_replayed import NotReplayedError
from vaelint.observe.replay_tracer import ReplayTracer
from vaelint.observe.replayed import ObservedStep
from vaelint.observe.seen import Applied, Backward, Goal, Iteration, Minimised, Training
from vaelint.observe.session import Session
from vaelint.pipeline.anatomy_of import anatomy_of
from vaelint.record import generators
from vaelint.record.record import IdleStep, ancestors
from vaelint.record.walk import leaves_behind
from vaelint.source.written import Source
from vaelint.trace import keras_models
from vaelint.trace.lift import lift, lift_ends
from vaelint.trace.recorded_run import Built

Seen = tuple[TargetResult, Model, ObservedStep]


def models_of(session: Session, training: Training, request: Request) -> list[Seen]:
    """Each goal of a training that trains a posterior as a model; where there is none, the last goal."""
    first, failed = training.iterations[0], training.failed
    other = next((i for i in training.iterations[1:] if i.cut), None)
    if other is None and failed is not None and failed.cut and not failed.even:
        other = failed
    lifted = _lay(first, other)
    for kind in ("piled", "stale"):  # what the first one that was watched leaves behind
        later = [u for i in training.iterations[1:] for u in i.record.uses if u.kind == kind]
        first.record.uses += later[:1] if not any(u.kind == kind for u in first.record.uses) else []
    source = Source(str(Path.cwd()))
    found = [
        _model_of(session, request, first, other, lifted, goal, loss, source)
        for goal, loss in zip(first.goals, first.losses, strict=True)
        if loss is not None and any(goal is own for own in _of_networks(first))
    ]
    if not found:
        raise TargetError("VAE006", "the tensor that backward() is called on does not depend on anything seen in its iteration", "")
    latent = [f for f in found if _trains_posterior(f[1], f[2]) or f[1].codebooks] or found[-1:]
    for result, _, _ in latent:
        result.notes += session.said
        result.assumptions += told(session.said)
        if failed is not None and failed.cut and failed.record.failure is not None:
            place = next((f" at {s.file}:{s.line}" for s in failed.record.failure.spans[:1]), "")
            fewer = f"{failed.batch} samples" if failed.batch is not None else "fewer samples"
            result.notes.append(f"with {fewer} instead of {first.batch} the script raises{place}: one batch size only")
        if others := len(first.goals) - len(latent):
            result.notes.append(f"{others} more of the iteration's {len(first.goals)} losses train no posterior, and were not checked")
    return latent


def loss_at(session: Session, request: Request, iteration: Iteration, target: str) -> dict[str, Any]:
    """The loss of a target's model as another recorded iteration shows it, such as one with another weight; empty where it shows none."""
    source = Source(str(Path.cwd()))
    for goal, loss in zip(iteration.goals, iteration.losses, strict=True):
        if loss is not None:
            result, _, _ = _model_of(session, request, iteration, None, False, goal, loss, source)
            if result.target == target:
                return result.loss
    return {}


def _of_networks(first: Iteration) -> list[Goal]:
    """The goals whose optimizers move something of the networks, not only values that the script refines; all where none does."""
    return [g for g in first.goals if not g.optimizers or _held(first, g.optimizers)] or first.goals


def _trains_posterior(model: Model, step: ObservedStep) -> bool:
    """Whether the optimizers move a parameter that a draw on the way to the loss was made of."""
    behind = ancestors(*(site.z for site in model.sites)) if model.sites else set()
    names = {str(n.target) for n in behind if n.meta.get("parameter")}
    return bool(names & step.held) if step.held else bool(names)


def _lay(first: Iteration, other: Iteration | None) -> bool:
    """Lays two iterations side by side: what moves with the batch becomes B. Whether they took the same way."""
    if other is not None:
        generators.mark_repeated(first.record, other.record)
    if other is None or other.record.failure is not None or first.batch is None:
        return False
    if lift(first.record, other.record):
        return True
    lift_ends(first.record, other.record)
    return False


def _model_of(
    session: Session, request: Request, first: Iteration, other: Iteration | None, lifted: bool, goal: Goal, loss: Any, source: Source
) -> Seen:
    backward = first.backwards[goal.backwards[-1]]
    place = backward.span
    optimizers = goal.optimizers or [o.made for o in session.optimizers]
    frozen, own = first.frozen, _owned(first, optimizers)
    parts = [m for name, m in frozen.named_children() if name in own or not own] if isinstance(frozen, Parts) else [frozen]
    kinds = "+".join(type(m).__name__ for m in parts)
    result = TargetResult(f"{request.target}:{kinds}")
    where = f"{place.file}:{place.line}" if place is not None else "the script"
    held = frozenset(_held(first, optimizers))
    beside, own_goal = _beside(first, goal, own), Minimised(loss, held, _calls(first, goal))
    known = list({id(o): o for o in (*optimizers, *(o.made for o in session.optimizers))}.values())
    code = _made_for(backward, loss) if backward.by else f"what {where} {backward.does}"
    step = ObservedStep(
        code, first.record, first, own_goal, [(o, _place_of(o, session)) for o in known],
        _of_others(first, loss, [one.loss for one in beside]), own, other.record if other is not None else None, beside,
    )  # fmt: skip
    first.record.learned = frozenset(first.names[i] for i in session.learned if i in first.names)
    first.record.asked_for_cuda = list(dict.fromkeys(session.asked_for_cuda))
    first.record.schedules = list(session.schedules)
    first.record.used_up = list(dict.fromkeys(session.used_up))
    fed = {first.names[id(p)] for p in leaves_behind(*_differentiated(first, goal)) if id(p) in first.names}
    idle = [s for s in goal.steps if s.held and not s.moved and s.without == s.tensors and fed & _held(first, [s.optimizer])]
    first.record.idle_steps = [IdleStep(s.span, s.cleared) for s in idle]
    inputs = inputs_of(first, parts)
    tracer = ReplayTracer(first, frozen, session.spans, inputs.symbols, inputs.sizes)
    result.notes.append(f"observed: {' '.join(request.run)}; the loss is {step.code}")
    try:
        record = step.replay(Built(copied(frozen)), tracer.inputs(None), first.record.sizes, shown=True)
        faithful = _same_losses(first, step, tracer)
    except NotReplayedError as error:
        record, faithful = replace(first.record, loss=loss), False  # other goals have theirs
        result.notes.append(f"the recorded iteration cannot be run again ({message_of(error)}): experiments on it were not made")
    if record is not first.record and not faithful:
        result.notes.append("the recorded iteration gives another loss when it is run again: experiments on it were not made")
    step.faithful = faithful
    record.lifted, record.even = lifted, first.even
    result.rung, result.symbols = "real", dict(inputs.symbols)
    if other is None:
        result.notes.append("one batch size only was seen: sizes are numbers, and what moves with the batch is not known")
    model = anatomy_of(record, tracer, inputs, step, source, other.record if other is not None else None)
    result.symbols = dict(model.symbols)
    result.anatomy, result.loss = describe_anatomy(model), describe_loss(model)
    _note_step(result, step, goal, first.applied, loss.meta["val"])
    return result, model, step


def _made_for(backward: Backward, loss: fx.Node) -> str:
    """The loss that a library's own training loop minimises. The library may have divided it by a number."""
    made = loss
    while made.meta.get("stack", ())[:1] == (backward.span,) and len(made.all_input_nodes) == 1:
        made = made.all_input_nodes[0]
    place = next(iter(made.meta.get("stack", ())), backward.span)
    shown = f"{place.file}:{place.line}" if place is not None else "the script"
    return f"what {shown} makes and {backward.by} calls backward() on"


def _of_others(first: Iteration, loss: fx.Node, beside: Sequence[fx.Node]) -> set[fx.Node]:
    """The nodes that only goals of other networks need."""
    others = [n for n in first.losses if n is not None and n is not loss and n not in beside]
    return ancestors(*others) - ancestors(loss, *beside) if others else set()


def _calls(first: Iteration, goal: Goal) -> tuple[int, ...]:
    """Which calls of the iteration are passes of a goal."""
    return tuple(dict.fromkeys(first.backwards[i].call for i in goal.backwards))


def _beside(first: Iteration, goal: Goal, own: Sequence[str]) -> list[Minimised]:
    """Losses of other goals that move parameters of the same networks."""
    found = []
    for other, loss in zip(first.goals, first.losses, strict=True):
        held = frozenset(_held(first, other.optimizers))
        if other is not goal and loss is not None and any(not own or h.partition(".")[0] in own for h in held):
            found.append(Minimised(loss, held, _calls(first, other)))
    return found


def _differentiated(first: Iteration, goal: Goal) -> list[torch.Tensor]:
    """What `backward` was called on for a goal."""
    return [of for i in goal.backwards if isinstance(of := first.backwards[i].of, torch.Tensor)]


def _held(first: Iteration, optimizers: Sequence[Any]) -> set[str]:
    return {first.names[id(p)] for o in optimizers for g in o.param_groups for p in g["params"] if id(p) in first.names}


def _owned(first: Iteration, optimizers: Sequence[Any]) -> list[str]:
    """Of several networks those that these optimizers move; empty where they are not known, or for one network."""
    if not isinstance(first.frozen, Parts):
        return []
    held = _held(first, optimizers)
    return [name for name, _ in first.frozen.named_children() if any(h.startswith(f"{name}.") for h in held)]


def _place_of(optimizer: Any, session: Session) -> Span | None:
    return next((o.span for o in session.optimizers if o.made is optimizer), None)


def inputs_of(iteration: Iteration, models: Iterable[nn.Module]) -> InputSet:
    """The tensors of the batch as inputs: their sizes, types, and ranges where their values keep to a usual one."""
    specs = [_spec(name, t, iteration.batch) for name, t in iteration.inputs.items()]
    if not any(s.sizes for s in specs):
        return InputSet(tuple(specs), {}, tuple(() for _ in specs), None)
    named = InputSet.from_specs(specs)
    return named.with_channels_last() if any(keras_models.is_keras(m) for m in models) else named


def _spec(name: str, tensor: torch.Tensor, batch: int | None) -> InputSpec:
    sizes = tuple(tensor.shape)
    symbols = tuple("B" if i == 0 and n == batch else "" for i, n in enumerate(sizes))
    spec = InputSpec(name, sizes, symbols, str(tensor.dtype).removeprefix("torch."))
    if not tensor.numel() or tensor.is_complex():
        return spec
    low, high = float(tensor.min()), float(tensor.max())
    if tensor.is_floating_point():
        usual = next(((a, 1.0) for a in (0.0, -1.0) if a <= low and high <= 1.0), None)
        return replace(spec, low=usual[0], high=usual[1]) if usual is not None else spec
    return replace(spec, low=low, high=high)


_MOVED = 0.2
"""How far a loss may be from the one that was seen, relatively, where optimizers stepped earlier in the iteration."""


def _same_losses(first: Iteration, step: ObservedStep, tracer: ReplayTracer) -> bool:
    """Whether the iteration, run again with the draws it had, gives the losses that were seen."""
    with torch.random.fork_rng(devices=[], device_type="cpu"), generators.kept(first.record):
        if first.random is not None:
            torch.set_rng_state(first.random)
        again = step.values(Built(copied(first.frozen)), tracer.inputs(None), [n for n in first.losses if n is not None])
    for place, (node, value) in enumerate(again.items()):
        seen, room = node.meta["val"].detach().double(), 1e-3 if place == 0 else _MOVED
        if not torch.allclose(value.detach().double(), seen, rtol=room, equal_nan=True):
            return False
    return True


def _note_step(result: TargetResult, step: ObservedStep, goal: Goal, applied: Sequence[Applied], loss: torch.Tensor) -> None:
    """What the optimizers did, as it was seen."""
    if not goal.steps and applied:
        step.stepped = {
            "name": " and ".join(dict.fromkeys(a.name for a in applied)), "moved": sum(a.moved for a in applied),
            "parameters": sum(a.held for a in applied), "finite": all(a.finite for a in applied),
            "loss_before": float(f"{float(loss.detach().double().mean()):.6g}"),
        }  # fmt: skip
        return
    if not goal.steps:
        names = ", ".join(dict.fromkeys(type(o).__name__ for o in goal.optimizers))
        step.stepped["name"] = names or "an optimizer"
        return
    step.stepped = {
        "name": " and ".join(dict.fromkeys(type(s.optimizer).__name__ for s in goal.steps)), "moved": sum(s.moved for s in goal.steps),
        "parameters": sum(s.held for s in goal.steps), "finite": all(s.finite for s in goal.steps),
        "loss_before": float(f"{float(loss.detach().double().mean()):.6g}"),
    }  # fmt: skip
    for s in goal.steps:
        if not s.moved and s.held:
            where = f" ({s.span.file}:{s.span.line})" if s.span is not None else ""
            why = f": {s.without} of its {s.tensors} tensors have no gradient then" if s.without else ""
            said = f"{type(s.optimizer).__name__}.step(){where} moves no parameter{why}"
            result.notes += [said] if said not in result.notes else []


# --- rules and experiments -----------------------------------------------------------------------------------------------
