"""Law A10, for distances: what is generated is drawn as the draws are that the codes are compared with.

Intervention: the model's own method that draws and decodes is run, and the draws that a distance (MMD) compares the codes with are made
again, many of each. Their means and spreads must agree, column by column. Where one of the two is N(0, I), the other one is at fault.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.generation import generated, generators, using
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_LEAST = 100  # draws of each
_SEEDS = 8
_OFF = 0.4
_WIDER = 1.7  # a temperature of 0.7 is common
_STANDARD = 0.15


@law(
    "generation-draws-as-compared",
    "what is generated is drawn as the draws are that the codes are compared with",
    covered=("VAE222", "VAE432"),
    cost="all",
)
def generation_draws_as_compared(bench: Bench) -> Iterator[Broken]:
    """One distance between codes and one set of draws, and a decoder whose first layer reads the codes as they are."""
    pairs = [p for term in bench.model.terms_of("discrepancy") if (p := _compared(bench, term)) is not None]
    if len(pairs) != 1:
        return
    codes, compared = pairs[0]
    flow = bench.model.flow
    first = next((n for n in flow.sorted(flow.descendants(codes)) if ops.op(n) in ops.LAYERS and n.all_input_nodes[0] is codes), None)
    trained = _moments(bench, compared)
    for name in generators(bench) if first is not None and trained is not None else ():
        record = generated(bench, name)
        entry = using(record, first) if record is not None else None
        if entry is None:
            continue
        drawn, val = entry.all_input_nodes[0], entry.all_input_nodes[0].meta.get("val")
        if not isinstance(val, torch.Tensor) or val.dim() != 2 or len(val) < _LEAST or val.shape[1] != shape(codes)[1]:
            continue
        own = val.detach().double()
        assert trained is not None
        if (text := _apart((own.mean(0), own.std(0)), trained)) is not None:
            yield _broken(bench, name, compared, drawn, text, standard=_is_standard((own.mean(0), own.std(0))))
        return


def _compared(bench: Bench, term: Term) -> tuple[fx.Node, fx.Node] | None:
    """The codes, and the draws of as many columns that a distance compares them with; None where other draws or parameters enter."""
    flow = bench.model.flow
    front = {f for leaf in term.leaves for f in leaf.frontier}
    codes = [f for f in front if f in flow.data and f in flow.learned]
    if len(codes) != 1 or len(shape(codes[0])) != 2 or term.detached is not None:
        return None
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=set(codes)) - set(codes)
    drawn = [n for n in flow.sorted(inside & flow.random) if shape(n)]
    if len(drawn) != 1 or len(shape(drawn[0])) != 2 or shape(drawn[0])[1] != shape(codes[0])[1] or not bench.is_real(drawn[0]):
        return None
    if any(n.meta.get("parameter") or n.op == "placeholder" for n in inside):
        return None
    end = drawn[0]  # draws that are moved or widened first
    while len(users := [u for u in flow.users.get(end, []) if u in inside]) == 1 and _is_mapped(users[0], end):
        end = users[0]
    used = [u for u in flow.users.get(end, []) if u in inside]
    return None if any(ops.op(u) in ("matmul", "mm", "linear", "normalize", "norm") for u in used) else (codes[0], end)


def _is_mapped(node: fx.Node, draws: fx.Node) -> bool:
    """Whether draws become draws of another place or width."""
    return ops.op(node) in ops.POINTWISE and shape(node) == shape(draws) and all(i is draws or not shape(i) for i in ops.value_inputs(node))


def _moments(bench: Bench, draws: fx.Node) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Means and spreads of the columns; None where they cannot be drawn again."""
    replay, sizes = bench.model.replay, bench.model.record.sizes
    try:
        many = torch.cat([replay([draws], {}, sizes, seed=300 + k)[draws].detach().double() for k in range(_SEEDS)])
    except ReplayError:
        return None
    return (many.mean(0), many.std(0)) if len(many) >= _LEAST else None


def _apart(own: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> str | None:
    """Words for two sets of draws of other means or spreads in most columns; None where they agree."""
    off = ((own[0] - other[0]).abs() > _OFF * other[1]) | ((own[1] / other[1]).log().abs() > torch.tensor(_WIDER).log())
    if not bool((other[1] > 0).all()) or float(off.double().mean()) <= 0.5:
        return None
    k = int(off.double().argmax())
    return (
        f"a column is generated with mean {float(own[0][k]):.2g} and spread {float(own[1][k]):.2g}, "
        f"and compared with mean {float(other[0][k]):.2g} and spread {float(other[1][k]):.2g}"
    )


def _is_standard(moments: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return bool((moments[0].abs().mean() < _STANDARD) & ((moments[1] - 1).abs().mean() < _STANDARD))


def _broken(bench: Bench, name: str, compared: fx.Node, drawn: fx.Node, text: str, *, standard: bool) -> Broken:
    model = bench.model
    found = Found(
        model.where(compared) if standard else span(drawn),
        label=f"not draws of N(0, I), which {name} decodes"
        if standard
        else f"drawn for {name}, and from another distribution than the prior",
        labels=() if standard else model.labels((compared, "the codes are compared with these draws")),
        why="the codes are held to one distribution and samples are drawn from another: the decoder was never trained where it is sampled",
        help="draw from one prior in both places",
    )
    return Broken("generation-differs", found, "the draws have the mean and the spread of those that the codes are compared with", text)
