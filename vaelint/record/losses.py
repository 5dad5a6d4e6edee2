"""What tells one differentiated loss of a step from another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import BackwardCall, name_of

_DRAWS = frozenset({"randn", "randn_like", "normal", "rand", "rand_like", "uniform", "standard_gamma", "bernoulli", "multinomial"})


def behind(node: fx.Node) -> set[fx.Node]:
    """What a value was computed from; sizes are not followed, as they hold nothing of the data."""
    return reachable([node], lambda n: [m for m in n.all_input_nodes if not m.meta.get("scalar") or m.meta.get("read")])


def made_alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether two losses are the results of the same operations."""
    first, second = (Counter(name_of(n.target) for n in behind(loss) if n.meta.get("grad") and not _is_weight(n)) for loss in (one, other))
    return first == second


def without_turns(calls: Sequence[BackwardCall], passes: Sequence[int]) -> tuple[int, ...]:
    """Of some passes, those that are no further turns of a loop: a turn runs the networks anew, and differentiates at the same place.

    What was made of one run of them at several losses (`for loss in (rec, kl): loss.backward()`) are several.
    """
    kept: dict[object, list[int]] = {}
    made: dict[int, set[fx.Node]] = {}
    for i in passes:
        alike = kept.setdefault((calls[i].stack, calls[i].leaves), [])
        if alike:
            made.update({j: _live_behind(calls[j].node) for j in (*alike, i) if j not in made})
        if not alike or any(made[i] & made[j] for j in alike):
            alike.append(i)
    return tuple(sorted(i for alike in kept.values() for i in alike))


def _live_behind(node: fx.Node) -> set[fx.Node]:
    """What the gradient of a loss goes through, but for the weights where it ends."""
    live = reachable([node], lambda n: [m for m in n.all_input_nodes if m.meta.get("grad")])
    return {n for n in live if n.op == "call_function" and not ops.is_parameter(n)}


def _is_weight(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.nn.Parameter)


def compares(losses: Sequence[fx.Node]) -> bool:
    """Whether some losses read an input as it is, through no weight: a reconstruction does, a critic's judgement does not."""

    def beside_weights(node: fx.Node) -> list[fx.Node]:
        held = any(_is_weight(m) for m in node.all_input_nodes if m.op == "get_attr")
        return [] if held else ops.value_inputs(node)

    return any(m.op == "placeholder" for m in reachable(losses, beside_weights))


def draws(losses: Sequence[fx.Node]) -> bool:
    """Whether the gradient of some losses goes through a value that was made with noise."""
    live = reachable(losses, lambda n: [m for m in n.all_input_nodes if m.meta.get("grad")])
    return any(m.meta.get("random") or name_of(m.target) in _DRAWS for n in live for m in (n, *n.all_input_nodes))
