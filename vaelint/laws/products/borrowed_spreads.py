"""Law C3, for products of experts: each expert is weighed by a spread of its own.

Intervention: the same as for `experts-multiply`, the slopes of the joint mean and of its log-scale in all that the layers put out.
Prediction: where what an expert's mean was made of is read by one more layer of the same shape, which is a spread that nothing reads, the
mean is not weighed by another expert's spread in its place. Experts that share one spread have no layer that stays unread, and are exempt.

Source: Hinton 2002, Training products of experts by minimizing contrastive divergence.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.products.experts import Product
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_MOVES = 1e-2


@law(
    "experts-keep-their-spreads",
    "the mean of an expert is weighed by that expert's own spread",
    covered=("VAE205", "VAE206", "VAE212", "VAE221"),
    cost="replay",
)
def experts_keep_their_spreads(bench: Bench) -> Iterator[Broken]:
    """Gaussian draws whose mean is a sum of more means than there are spreads."""
    reasons: list[str] = []
    for site in bench.model.sites:
        if site.kind != "gaussian" or len(site.noise) != 1:
            continue
        try:
            product = Product(bench, site)
            if not product.is_one and (lent := product.borrowed(_MOVES)) is not None:
                mean, spread = lent
                if (unread := _unread(bench, mean)) is not None:
                    yield _broken(bench, product, mean, spread, unread)
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the draw does not run by itself: {reasons[0]}")


def _unread(bench: Bench, mean: fx.Node) -> fx.Node | None:
    """Another layer that reads what a mean's layer reads, as wide, and reaches no loss."""
    model = bench.model
    alike = [n for n in model.record.nodes if ops.op(n) in ops.LAYERS and _read(n) == _read(mean) and shape(n) == shape(mean)]
    return next((n for n in alike if n is not mean and n not in model.reaching_loss), None)


def _read(layer: fx.Node) -> list[fx.Node]:
    return [i for i in ops.value_inputs(layer) if not ops.is_parameter(i)]


def _broken(bench: Bench, product: Product, mean: fx.Node, spread: fx.Node, unread: fx.Node) -> Broken:
    model = bench.model
    node = _lending(bench, product, spread) or mean
    found = Found(
        model.where(node),
        label=f"{model.written(spread)} for two experts",
        labels=model.labels((spread, "the spread of one expert"), (mean, "the mean of the other"), (unread, "its own spread, never read")),
        why="one expert's certainty weighs another's mean: the joint posterior does not know how sure that expert is",
        help="weigh each mean by the precision of its own expert: exp(-logvar_i)",
    )
    text = "the weight of the mean moves with the spread of another expert, and the layer beside it is read by nothing"
    return Broken("experts-not-multiplied", found, "the weight of an expert's mean moves with that expert's spread", text)


def _lending(bench: Bench, product: Product, spread: fx.Node) -> fx.Node | None:
    """The first value that reads a spread twice; else what reads it a second time."""
    flow = bench.model.flow
    inside = flow.sorted(flow.ancestors(product.site.z) & flow.descendants(spread))
    readers = [n for n in inside if spread in ops.value_inputs(n)]
    twice = [n for n in readers if ops.value_inputs(n).count(spread) > 1 or _given(n, spread) > 1]
    return twice[0] if twice else readers[1] if len(readers) > 1 else None


def _given(node: fx.Node, value: fx.Node) -> int:
    """How often a value is among the operands: torch lists each once."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found.count(value)
