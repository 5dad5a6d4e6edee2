"""What a step's turns say of a critic and of the network that is to fool it: who owns what, and which output each wants.

A critic is told by its turns alone: its own loss wants one output for the values that the other network makes and another output for a
second class, and the other network's loss is differentiated through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.core.reach import reachable
from vaelint.experiment.trial import Trial
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.record.record import BackwardCall, shape

_OUTPUTS = 8  # of a critic's last layer
_SCORES = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0)  # nearest to 0 first: of those alike the first is taken
_ALIKE = 1e-6


@dataclass(frozen=True)
class Match:
    """A call of the critic in the other network's turn, with the outputs that the critic wants for it and for the other class."""

    critic: BackwardCall
    opponent: BackwardCall
    own: frozenset[int]  # ids of the critic's parameters
    others: frozenset[int]  # ids of the opponent's
    made: fx.Node  # the critic's output for the opponent's samples, in the critic's turn
    judged: fx.Node  # the same, in the opponent's turn
    wanted: torch.Tensor  # for the opponent's samples
    elsewhere: torch.Tensor  # for the other class


def matches(bench: Bench, run: Trial) -> Iterator[Match]:
    """Every pair of turns in which one network judges what the other one makes. `run` is one in which the optimizers step."""
    record = bench.model.record
    groups = list(dict.fromkeys(u.of for u in record.uses if u.kind == "stepped"))
    for own, held in permutations(groups, 2):
        others = held - own  # an optimizer of all parameters holds the critic too
        if not others or (own & held and not own < held):
            continue
        for critic, opponent in permutations(record.backwards, 2):
            if own <= critic.moved and others & opponent.moved:
                yield from _calls(bench, run, critic, opponent, (own, others))


def _calls(
    bench: Bench, run: Trial, critic: BackwardCall, opponent: BackwardCall, groups: tuple[frozenset[int], frozenset[int]]
) -> Iterator[Match]:
    own, others = groups
    judged_here, made_here = _last_layers(bench, opponent.node, own), _last_layers(bench, critic.node, own)
    for judged in judged_here:
        if not _is_led_to(bench, judged, others) or _turns_gradients(run, judged) or _sees_data(bench, judged, own, others):
            continue
        outputs = [m for m in made_here if _layer(m) == _layer(judged)]  # features that are matched are none of the critic's outputs
        same = [m for m in outputs if _fed(bench, m, own, others) & _fed(bench, judged, own, others)]
        rest = [m for m in outputs if m not in same and not _is_climbed(bench, m)]
        if not same or not rest:
            continue
        wanted = _wanted(run, critic.node, same[0])
        elsewhere = next((w for m in rest if (w := _wanted(run, critic.node, m)) is not None and not _same(w, wanted)), None)
        if wanted is not None and elsewhere is not None:
            yield Match(critic, opponent, own, others, same[0], judged, wanted, elsewhere)


def _last_layers(bench: Bench, loss: fx.Node, own: frozenset[int]) -> list[fx.Node]:
    """The outputs of a network on the way to a loss that none of its layers reads, and no other network: a critic has the last word."""
    flow = bench.model.flow
    way = flow.ancestors(loss)
    layers = {n for n in way if n.op == "call_function" and not _is_parameter(n) and _reads(n, own)}
    last = [n for n in layers if not any(m is not n and m in way and _learns(m) for m in flow.descendants(n))]
    return [n for n in flow.sorted(set(last)) if shape(n) and bench.is_real(n)]


def _learns(node: fx.Node) -> bool:
    return not _is_parameter(node) and any(_is_parameter(i) for i in node.all_input_nodes)


def _is_parameter(node: fx.Node) -> bool:
    """Whether a node is a parameter: one that the model had, or one that the step made and has filled by itself."""
    return bool(node.meta.get("parameter")) or isinstance(node.meta.get("val"), torch.nn.Parameter)


def _layer(output: fx.Node) -> set[int]:
    """The parameters that make an output: the layer, whichever call of it."""
    return {id(i.meta.get("val")) for i in output.all_input_nodes if i.op == "get_attr" or _is_parameter(i)}


def _is_climbed(bench: Bench, output: fx.Node) -> bool:
    """Whether what is judged was made by asking the same network before, as samples of an energy are: it is no class of its own."""
    return any(n is not output and n.op == "call_function" and _layer(n) == _layer(output) for n in bench.model.flow.ancestors(output))


def _is_led_to(bench: Bench, node: fx.Node, owned: frozenset[int]) -> bool:
    """Whether a gradient of the node arrives at a parameter of a group."""
    live = gradients_of(bench.model).reach(node)
    return any(id(n.meta.get("val")) in owned for n in live)


def _turns_gradients(run: Trial, judged: fx.Node) -> bool:
    """Whether a gradient on its way from the critic goes through a function or a hook of the user's own: one that reverses it makes an
    opponent of any term."""
    if any(getattr(n.meta.get("val"), "_backward_hooks", None) for n in run.record.nodes if isinstance(n.meta.get("val"), torch.Tensor)):
        return True
    ways = reachable([run.value(judged).grad_fn], lambda f: [n for n, _ in f.next_functions if n is not None] if f is not None else [])
    return any(isinstance(f, torch.autograd.function.BackwardCFunction) for f in ways)


def _sees_data(bench: Bench, judged: fx.Node, own: frozenset[int], others: frozenset[int]) -> bool:
    """Whether data reaches the critic past what the opponent makes: it judges pairs, and both may be after one information."""
    flow = bench.model.flow
    made = {n for n in flow.ancestors(judged) if _reads(n, others)}
    return bool(flow.ancestors(judged, stop=made) & set(bench.model.record.inputs.values()))


def _reads(node: fx.Node, owned: frozenset[int]) -> bool:
    return any(id(i.meta.get("val")) in owned for i in node.all_input_nodes)


def _fed(bench: Bench, output: fx.Node, own: frozenset[int], others: frozenset[int]) -> set[object]:
    """What the critic was given, as the operations and weights that made it: the same for one value and for two calls of one network. Of
    values that were joined, each where the opponent made them all."""
    flow = bench.model.flow
    inside = {n for n in flow.ancestors(output) if not _is_parameter(n) and any(_reads(m, own) for m in flow.ancestors(n))}
    fed = {i for n in inside for i in n.all_input_nodes if i not in inside and i.op != "get_attr" and not _is_parameter(i)}
    joined = {f for f in fed if ops.op(f) in ops.JOIN and all(_is_made(bench, i, others) for i in ops.value_inputs(f))}
    fed = (fed - joined) | {i for f in joined for i in ops.value_inputs(f)}
    return {
        frozenset(_made_by(n) for n in flow.ancestors(f) if n.op == "placeholder" or (n.op == "call_function" and _counts(n))) for f in fed
    }


def _is_made(bench: Bench, node: fx.Node, others: frozenset[int]) -> bool:
    """Whether a network of the opponent's makes a value."""
    return any(_reads(n, others) for n in bench.model.flow.ancestors(node))


def _made_by(node: fx.Node) -> tuple[str, frozenset[int]]:
    return ops.raw_name(node), frozenset(id(i.meta.get("val")) for i in node.all_input_nodes if i.op == "get_attr" or _is_parameter(i))


def _counts(node: fx.Node) -> bool:
    return ops.op(node) not in ops.SHAPE | ops.CAST | {"detach", "data", "effect"}


def _wanted(run: Trial, loss: fx.Node, output: fx.Node) -> torch.Tensor | None:
    """The output at which a loss is least, among a few; None where it does not depend on it."""
    costs = [(cost_at(run, loss, output, c), c) for c in _candidates(run.value(output))]
    least, most = min(c for c, _ in costs), max(c for c, _ in costs)
    size = _ALIKE * max(abs(least), abs(most), 1.0)
    return next(c for cost, c in costs if cost <= least + size) if most - least > size else None


def cost_at(run: Trial, loss: fx.Node, output: fx.Node, score: torch.Tensor) -> float:
    """A loss with one output of the critic at a score, for all samples alike."""
    put = score.to(run.value(output)).expand_as(run.value(output))
    return float(run.recompute([loss], {output: put.clone()})[loss].detach())


def _candidates(output: torch.Tensor) -> list[torch.Tensor]:
    """Scores to try: of each class of the last layer, or of its one number."""
    axis = -1 if output.dim() < 3 else 1
    count = output.shape[axis] if output.dim() > 1 else 1
    if count > _OUTPUTS:
        return [torch.zeros(())]
    size = [1] * output.dim()
    found = []
    for score in _SCORES:
        for column in range(count):
            row = torch.zeros(count)
            row[column] = score
            if output.dim() > 1:
                size[axis] = count
            found.append(row.reshape(size))
    return found


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)
