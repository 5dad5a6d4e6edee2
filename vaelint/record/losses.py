"""What tells one differentiated loss of a step from another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import name_of

_DRAWS = frozenset({"randn", "randn_like", "normal", "rand", "rand_like", "uniform", "standard_gamma", "bernoulli", "multinomial"})


def behind(node: fx.Node) -> set[fx.Node]:
    """What a value was computed from; sizes are not followed, as they hold nothing of the data."""
    return reachable([node], lambda n: [m for m in n.all_input_nodes if not m.meta.get("scalar") or m.meta.get("read")])


def made_alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether two losses are the results of the same operations."""
    first, second = (Counter(name_of(n.target) for n in behind(loss) if n.meta.get("grad") and not _is_weight(n)) for loss in (one, other))
    return first == second


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
