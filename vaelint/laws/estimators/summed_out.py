"""Law C3, for classes that are summed out: the posterior over them is charged with its entropy.

A semi-supervised bound of unlabelled data is sum_c q(c|x) (L_c + log q(c|x)), with L_c the bound (to be minimised) of class c. It is linear
in q but for the entropy. Intervention: the class scores of one sample are put so that q is at two places, and halfway between them. The
linear part falls out of the difference; what is left over is the weight of sum_c q log q. Prediction: it is above 0. At 0 the entropy is
missing, and below 0 it has the wrong sign: q ends at one class, whatever the others cost.

Exempt: classifiers that no given label trains (gates, experts, clusters that are to be certain), losses that are not linear in q but for
its entropy (relaxed draws, softened classes), and weights that are held (responsibilities of an EM step, which another step finds).

Source: Kingma et al. 2014, Semi-supervised learning with deep generative models, eq. 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import Operation, ReplayError, gradients
from vaelint.rule import Found

_NORMALISED = frozenset({"softmax", "log_softmax", "logsumexp"})
_PICKS = frozenset({"cross_entropy", "nll_loss", "gather", "getitem", "take_along_dim"})  # by the number of a class
_TURNS = {**dict.fromkeys(("add", "iadd"), torch.sub), **dict.fromkeys(("sub", "isub", "subtract"), torch.add)}
_MOST_CLASSES, _ROWS = 40, 3
_LITTLE = 1e-6
_ALIKE = 0.02
_SHORT = 1e-4
_PREDICTED = "the weight of the entropy of what is summed out is above 0"


@law("classes-keep-their-entropy", _PREDICTED, covered=("VAE407", "VAE419", "VAE430"), cost="replay")
def classes_keep_their_entropy(bench: Bench) -> Iterator[Broken]:
    """Class scores of a classifier that labels train as well."""
    if not bench.model.has_loss:
        return
    reasons: list[str] = []
    for scores in _scores(bench):
        try:
            weight = _weight(bench, scores)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if weight is not None and weight <= 0:
            yield _broken(bench, scores, weight)
            return
    if reasons:
        raise CannotMeasureError(f"the bound does not run by itself: {reasons[0]}")


def _scores(bench: Bench) -> list[fx.Node]:
    """Scores of classes, one row a sample, of a classifier that is trained on labels elsewhere and is asked here once."""
    model, flow = bench.model, bench.model.flow
    found = []
    for node in flow.sorted(
        {n.args[0] for n in model.reaching_loss if ops.op(n) in _NORMALISED and n.args and isinstance(n.args[0], fx.Node)}
    ):
        size = shape(node)
        if len(size) != 2 or not 2 <= size[1] <= _MOST_CLASSES or not bench.is_real(node) or node not in flow.learned & flow.data:
            continue
        if _is_trained_on_labels(bench, node) and any(s.z in flow.ancestors(*_beside(bench, node)) for s in model.sites):
            found.append(node)
    return found


def _beside(bench: Bench, scores: fx.Node) -> list[fx.Node]:
    """What is no value of the classes' own, and meets one on the way to the loss."""
    own = bench.model.flow.descendants(scores) | {scores}
    return [i for n in own & bench.model.reaching_loss for i in n.all_input_nodes if i not in own]


def _is_trained_on_labels(bench: Bench, scores: fx.Node) -> bool:
    """Whether the layer that makes the scores is called for other samples too, and what it says of them is held against given labels."""
    model, flow = bench.model, bench.model.flow
    layer = next((n for n in reversed(flow.sorted({*flow.ancestors(scores), scores})) if ops.uses_parameter(n)), None)
    if layer is None:
        return False
    weights = {i.target for i in layer.all_input_nodes if ops.is_parameter(i)}
    others = {n for n in flow.order if n is not layer and weights & {i.target for i in n.all_input_nodes if ops.is_parameter(i)}}
    drawn = {s.z for s in model.sites}
    judged = (flow.descendants(*others) - flow.descendants(scores)) & model.reaching_loss if others else set()
    return any(_is_held_to_a_label(bench, n, shape(scores)[1]) and not drawn & flow.ancestors(n) for n in judged)


def _is_held_to_a_label(bench: Bench, node: fx.Node, classes: int) -> bool:
    """Whether a given class picks from scores of all classes, by its number or as a row with a one."""
    flow, inputs = bench.model.flow, ops.value_inputs(node)
    given = [n for n in inputs if n in flow.data and n not in flow.learned]
    if not given or not any(n in flow.learned and shape(n)[-1:] == (classes,) for n in inputs):
        return False
    whole = [n for n in given if isinstance(val := n.meta.get("val"), torch.Tensor) and not val.is_floating_point()]
    if ops.op(node) in _PICKS:
        return bool(whole) or ops.op(node) == "cross_entropy"
    return ops.op(node) in ops.MUL and any(_is_of_ones(bench, n, classes) for n in given)


def _is_of_ones(bench: Bench, node: fx.Node, classes: int) -> bool:
    if shape(node)[-1:] != (classes,) or not bench.is_real(node):
        return False
    value = bench.model.replay([node], {}, dict(bench.model.record.sizes))[node]
    return bool(((value == 0) | (value == 1)).all() and (value.sum(-1) == 1).all())


def _weight(bench: Bench, scores: fx.Node) -> float | None:
    """The weight of sum_c q log q in the loss; None where the loss is not linear in q but for that."""
    rows, classes = bench.model.replay.shape_of(scores, dict(bench.model.record.sizes))
    generator = torch.Generator().manual_seed(11)
    start = torch.randn((rows, classes), dtype=torch.float64, generator=generator)
    for row in range(min(rows, _ROWS)):
        found: list[tuple[float, float]] = []
        for _ in range(2):
            ends = torch.softmax(1.5 * torch.randn((2, classes), dtype=torch.float64, generator=generator), 1)
            if not _is_followed(bench, scores, start, row):
                break
            found.append(_along(bench, scores, start, row, ends))
        if len(found) < 2:
            continue
        (one, linear), (other, _) = found
        size = max(abs(linear), _LITTLE)
        if abs(linear) < _LITTLE or abs(one - other) > _ALIKE * max(abs(one), abs(other)) + _LITTLE * size:
            continue
        return 0.0 if abs(one) < 1e-4 * size else one
    return None


def _along(bench: Bench, scores: fx.Node, start: torch.Tensor, row: int, ends: torch.Tensor) -> tuple[float, float]:
    """The weight of the entropy's part between two places of q, and how far the linear part moves there."""
    model, loss = bench.model, bench.model.record.loss
    assert loss is not None
    values, parts = [], []
    for q in (ends[0], ends[1], (ends[0] + ends[1]) / 2):
        put = start.clone()
        put[row] = q.log()
        values.append(float(model.replay([loss], {scores: put}, dict(model.record.sizes), seed=3)[loss]))
        parts.append(float((q * q.log()).sum()))
    bend, entropy = values[0] + values[1] - 2 * values[2], parts[0] + parts[1] - 2 * parts[2]
    weight = bend / entropy
    return weight, values[0] - values[1] - weight * (parts[0] - parts[1])


def _is_followed(bench: Bench, scores: fx.Node, start: torch.Tensor, row: int) -> bool:
    """Whether the gradient says how the loss moves with the scores of a row: no part of q is held on the way."""
    model, loss = bench.model, bench.model.record.loss
    assert loss is not None
    sizes, leaf = dict(model.record.sizes), start.clone().requires_grad_()
    out = model.replay([loss], {scores: leaf * 1}, sizes, seed=3)[loss]
    (slope,) = gradients(out, [leaf]) if out.requires_grad else [None]
    if slope is None:
        return False
    by = torch.zeros_like(start)
    by[row] = _SHORT * torch.linspace(-1, 1, start.shape[1], dtype=torch.float64)
    up, down = (float(model.replay([loss], {scores: start + way}, sizes, seed=3)[loss]) for way in (by, -by))
    moved, told = (up - down) / 2, float((slope * by).sum())
    return abs(moved - told) <= _ALIKE * abs(moved)


def _turned(bench: Bench, scores: fx.Node) -> fx.Node | None:
    """The sum or difference of which the entropy has its sign: with the other one, its weight is above 0."""
    model = bench.model
    between = (model.flow.descendants(scores) & model.reaching_loss) - {scores}
    for node in model.flow.sorted(between):
        name, operands = ops.op(node), node.args[:2]
        if name not in _TURNS or len(operands) != 2 or not all(isinstance(o, fx.Node) for o in operands) or not bench.is_real(node):
            continue
        with model.replay.exchanged({node: _exchanged(_TURNS[name], operands[0], operands[1])}):
            try:
                weight = _weight(bench, scores)
            except ReplayError:
                continue
        if weight is not None and weight > 0:
            return node
    return None


def _exchanged(operation: Callable[..., torch.Tensor], one: object, other: object) -> Operation:
    return lambda value: operation(value(one), value(other))


def _broken(bench: Bench, scores: fx.Node, weight: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    own = flow.descendants(scores) | {scores}
    drawn = {s.z for s in model.sites}
    met = next(
        (n for n in flow.sorted(own & model.reaching_loss) if any(i not in own and drawn & flow.ancestors(i) for i in n.all_input_nodes)),
        scores,
    )
    missing = weight == 0
    place = met if missing else _turned(bench, scores) or met
    found = Found(
        model.where(place),
        label="weighs the bounds of the classes, without the entropy of the weights" if missing else "takes the entropy for a cost",
        labels=model.labels((scores, "the scores of the classes")),
        shapes=(model.row(scores),),
        why="with nothing for its entropy, q(y|x) goes to the one class that is cheapest now, and stays there: the loss bounds nothing",
        help="unlabelled data is charged sum_c q(c) * (L_c + log q(c)), with L_c the loss of class c",
    )
    rule = "posterior-without-kl" if missing else "kl-sign"
    return Broken(rule, found, _PREDICTED, "it is 0" if missing else f"it is {weight:.3g}")
