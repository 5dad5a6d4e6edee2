"""Law B2, for networks that take turns: a critic and the network that is to fool it want the opposite, and each follows its own loss.

Intervention: the critic's output for the other network's samples is put where the critic wants it, then where it wants that of the
other class. There the other network's loss must be lower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.opponents import Match, cost_at, matches
from vaelint.record.record import BackwardCall, Record
from vaelint.rule import Found

_NOTHING = 1e-5


@law(
    "opponents-pull-apart",
    "what is to fool a critic falls where the critic is wrong, and each network's step follows its own loss",
    covered=("VAE901", "VAE907"),
    cost="all",
)
def opponents_pull_apart(bench: Bench) -> Iterator[Broken]:
    """Only steps that show both turns. A critic of pairs, and one whose gradient is reversed on the way, are left alone."""
    record = bench.model.record
    if len(record.backwards) < 2 or any(o.made.defaults.get("maximize") for o in record.optimizers):
        return
    run = bench.trained_run
    for match in matches(bench, run):
        right = cost_at(run, match.opponent.node, match.judged, match.wanted)
        wrong = cost_at(run, match.opponent.node, match.judged, match.elsewhere)
        if wrong > right + _NOTHING * max(abs(right), abs(wrong)):
            yield _helps(bench, match, right, wrong)
            return
        if wrong < right and (match.critic.moved & match.others or match.opponent.moved & match.own):
            yield _follows_both(bench, match)
            return


def _helps(bench: Bench, match: Match, right: float, wrong: float) -> Broken:
    model = bench.model
    term, own = _term(bench, match.judged, match.opponent.node), _term(bench, match.made, match.critic.node)
    found = Found(
        model.where(term),
        label="is least where the critic is right",
        labels=model.labels((match.judged, "the critic's output"), (own, "the critic's own loss wants the same")),
        why="the term helps the critic that it is to fool: the samples move away from those of the other class",
        help="ask for the label that the critic gives to the other class, or turn the term's sign",
    )
    text = (
        f"the loss is {right:.4g} where the critic calls these samples what they are, {wrong:.4g} where it takes them for the other class"
    )
    return Broken("critic-helped", found, "the loss falls where the critic takes the samples for the other class", text)


def _follows_both(bench: Bench, match: Match) -> Broken:
    model = bench.model
    of_critic = bool(match.critic.moved & match.others)
    stray, node = (match.critic, match.made) if of_critic else (match.opponent, match.judged)
    who = "the network that is to fool the critic" if of_critic else "the critic"
    moved = match.critic.moved & match.others if of_critic else match.opponent.moved & match.own
    both = next((o for o in bench.model.record.optimizers if _holds_both(o, match)), None)
    own = f"steps {who} too, along a loss that wants the opposite" if both is not None else f"{who} is moved by the gradient of this too"
    instead = _cleared_instead(bench.model.record, stray, moved) if both is None else None
    turn = [(stray.span, "is minimised by that step")] if both is not None else [(stray.span, own)] if instead is not None else []
    found = Found(
        both.span if both is not None else instead or stray.span,
        label=own if instead is None else f"clears none of the gradients that the next step uses: not those of {who}",
        labels=(
            *(Label(place, words) for place, words in turn if place is not None),
            *model.labels((node, "through the critic's output for its samples")),
        ),
        why="nothing clears it before the other optimizer steps: that step follows two losses that contradict each other",
        help="detach the samples in the critic's turn, clear the gradients before each turn, and give each optimizer its own network",
    )
    text = f"{len(moved)} parameters are moved by the opponent's loss"
    return Broken("opponent-moved", found, "each network's step follows its own loss", text)


def _cleared_instead(record: Record, stray: BackwardCall, moved: set[int]) -> Span | None:
    """What clears the gradients of other parameters in the turn of the step that follows both losses, where nothing ever clears its own."""
    if any(u.kind == "cleared" and u.of & moved for u in record.uses):
        return None
    number = record.backwards.index(stray)
    stepped = [i for i, u in enumerate(record.uses) if u.kind == "stepped"]
    step = next((i for i in stepped if record.uses[i].of & moved and record.uses[i].passes > number + 1), None)
    if step is None:
        return None
    turn = record.uses[max((i for i in stepped if i < step), default=-1) + 1 : step]
    return next((u.place for u in turn if u.kind == "cleared" and u.place is not None), None)


def _holds_both(optimizer: Any, match: Match) -> bool:
    """Whether an optimizer was given parameters of both networks."""
    held = optimizer.parameters
    return optimizer.span is not None and bool(held & match.own) and bool(held & match.others)


def _term(bench: Bench, output: fx.Node, loss: fx.Node) -> fx.Node:
    """Where one number is made of a critic's outputs, on the way to a loss."""
    flow = bench.model.flow
    way = flow.sorted(flow.descendants(output) & flow.ancestors(loss))
    return next((n for n in way if bench.is_real(n) and not n.meta["val"].dim()), output)
