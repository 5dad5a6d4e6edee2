"""Law C6, for the noise: a relaxed draw from a categorical posterior is made of Gumbel noise.

argmax(logits + g) follows softmax(logits) exactly where g is standard Gumbel, and softmax((logits + g) / tau) is its relaxation (Maddison
et al. 2017, section 2; Jang et al. 2017, eq. 1). The same formula without one of its two signs gives -g, whose long tail points the other
way.

Exempt: noise of another shape, which somebody has chosen (a logistic normal).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SPREAD, _SKEW = 1.2825, 1.1395  # of the standard Gumbel: pi / sqrt(6) and 12 sqrt(6) zeta(3) / pi^3
_SAME_SPREAD, _SAME_SKEW = 0.06, 0.3
_DRAWS = 40_000
_SOFTMAX = frozenset({"softmax", "log_softmax"})
_ON_THE_WAY = ops.SHAPE | ops.CAST | {"div", "true_divide", "mul", "multiply", "neg", "negative"}


@law(
    "relaxed-draws-have-gumbel-noise",
    "the noise of a relaxed draw is Gumbel, with its long tail upwards",
    covered=("VAE203",),
    cost="replay",
)
def relaxed_draws_have_gumbel_noise(bench: Bench) -> Iterator[Broken]:
    """Softmaxes of learned scores plus noise that depends on nothing learned."""
    model, flow = bench.model, bench.model.flow
    used = flow.ancestors(*(leaf.node for term in model.terms for leaf in term.leaves))
    for node in flow.sorted({n for n in used if ops.op(n) in _SOFTMAX}):
        noise = noise_of(bench, node)
        if noise is None:
            continue
        spread, skew = moments(bench, noise)
        sign = _sign(bench, node, noise) if abs(spread / _SPREAD - 1) < _SAME_SPREAD else 0
        if sign and abs(sign * skew + _SKEW) < _SAME_SKEW:
            yield _upside_down(bench, node, noise, sign * skew)
            return


def noise_of(bench: Bench, node: fx.Node) -> fx.Node | None:
    """What is added to the scores: a draw in which nothing learned takes part."""
    flow, behind = bench.model.flow, node
    while True:
        inputs = ops.value_inputs(behind)
        if ops.op(behind) in ops.ADD and len(inputs) == 2:
            free = [n for n in inputs if n not in flow.learned and flow.random & (flow.ancestors(n) | {n})]
            return free[0] if len(free) == 1 and any(n in flow.learned for n in inputs) else None
        if not inputs or (behind is not node and ops.op(behind) not in _ON_THE_WAY):
            return None
        behind = inputs[0]


def _sign(bench: Bench, node: fx.Node, noise: fx.Node) -> int:
    """Whether the softmax gets more for a class where its noise is larger; 0 where that is not the same for all."""
    model, scores = bench.model, ops.value_inputs(node)[0]
    size = model.replay.shape_of(noise, model.record.sizes)
    low, high = (model.replay([scores], {noise: torch.full(size, v, dtype=torch.float64)}, model.record.sizes)[scores] for v in (0.0, 1.0))
    moved = (high - low).sign()
    return int(moved.flatten()[0]) if bool((moved == moved.flatten()[0]).all()) else 0


def moments(bench: Bench, noise: fx.Node) -> tuple[float, float]:
    """Standard deviation and skewness of many draws. Raises CannotMeasureError where the noise does not run by itself."""
    x = many(bench, noise)
    spread = float(x.std())
    return spread, float((((x - x.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def many(bench: Bench, node: fx.Node, held: Mapping[fx.Node, float] | None = None) -> torch.Tensor:
    """Many draws of a value, in one row, with others `held` at a number. Raises CannotMeasureError where it does not run by itself."""
    model, values, drawn, sizes = bench.model, list[torch.Tensor](), 0, bench.model.record.sizes
    try:
        given = {n: torch.full(model.replay.shape_of(n, sizes), to, dtype=torch.float64) for n, to in (held or {}).items()}
        for seed in range(200):
            values.append(model.replay([node], given, sizes, seed=seed)[node].flatten().double())
            drawn += values[-1].numel()
            if drawn >= _DRAWS:
                break
    except ReplayError as error:
        raise CannotMeasureError(f"the noise does not run by itself: {message_of(error)}") from error
    return torch.cat(values)


def _upside_down(bench: Bench, node: fx.Node, noise: fx.Node, skew: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(noise),
        label="minus a Gumbel draw",
        labels=model.labels((node, "relaxed as if it were Gumbel")),
        why="with the sign turned the draw does not follow the posterior's probabilities: unlikely classes come up too often, and the "
        "KL is that of another distribution",
        help="Gumbel noise is -log(-log(u)), with both signs: F.gumbel_softmax draws it itself",
    )
    return Broken(
        "gumbel-noise-inverted", found, f"a skewness of {_SKEW:.2f}", f"a skewness of {skew:.2f}, and the spread of a Gumbel draw"
    )
