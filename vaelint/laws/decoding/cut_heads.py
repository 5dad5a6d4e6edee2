"""Law B1, for the heads of a decoder: what is compared with the data learns from it.

Observed on the record: layers of the decoder whose values are in the loss and get no gradient, where other layers of it do: their way is
cut (`detach`, `.data`), or the likelihood compares a value with a copy of itself, and the data that it is of is compared with nothing.

Exempt: a decoder that is cut as a whole, which a step of a critic alone does on purpose, and layers that another pass of the step trains.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.faults.gradients.unreached import Unreached, left_out
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_CUTS = frozenset({"detach", "data"})


@law(
    "compared-heads-learn",
    "a layer of the decoder whose values are compared with the data has a gradient",
    covered=("VAE207", "VAE306", "VAE314", "VAE413", "VAE501", "VAE503", "VAE509"),
    cost="replay",
)
def compared_heads_learn(bench: Bench) -> Iterator[Broken]:
    """Layers that follow the draw, of which others are reached."""
    model = bench.model
    if model.record.loss is None or not model.sites:
        return
    for layer in left_out(model):
        if not layer.cut or layer.why or model.record.learned.issuperset(layer.parameters):
            continue
        nodes = [n for n in model.record.graph.nodes if n.op == "get_attr" and n.meta.get("parameter") in set(layer.parameters)]
        cut = _cut(bench, nodes)
        if cut is not None and _others_learn(bench, set(nodes)):
            yield _is_cut(bench, layer, cut)
            return


def _cut(bench: Bench, nodes: list[fx.Node]) -> fx.Node | None:
    """The one place at which all that is made of a decoder's layer leaves the gradient on its way to the loss."""
    flow, loss = bench.model.flow, bench.model.record.loss
    assert loss is not None
    made = flow.descendants(*nodes) & flow.ancestors(loss)
    layers = [u for n in nodes for u in flow.users.get(n, ()) if ops.op(u) in ops.LAYERS]
    if not any(i in bench.model.decoded or i in _draws(bench) for u in layers for i in ops.value_inputs(u)):
        return None  # no layer that follows the draw: a weight of a term, say
    cuts = [n for n in flow.sorted(made) if ops.op(n) in _CUTS and any(i.meta.get("grad") for i in ops.value_inputs(n))]
    return cuts[0] if cuts and loss not in flow.descendants(*nodes, stop=set(cuts)) else None


def _draws(bench: Bench) -> set[fx.Node]:
    return {s.z for s in bench.model.sites}


def _others_learn(bench: Bench, mine: set[fx.Node]) -> bool:
    """Whether other layers that follow a draw have a gradient."""
    model = bench.model
    layers = [n for n in model.flow.order if n in model.decoded and n in model.reaching_loss and ops.uses_parameter(n)]
    others = [n for n in layers if not set(n.all_input_nodes) & mine and n.meta.get("grad")]
    return any(_is_reached(bench, n) for n in others)


def _is_reached(bench: Bench, node: fx.Node) -> bool:
    """Whether a way leads from a value to the loss past no cut."""
    flow, loss = bench.model.flow, bench.model.record.loss
    assert loss is not None
    cuts = {n for n in flow.order if ops.op(n) in _CUTS or not n.meta.get("grad")}
    return loss in flow.descendants(node, stop=cuts - {loss})


def _is_cut(bench: Bench, layer: Unreached, cut: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(cut),
        label=f"{layer.path} is cut off from the gradient here",
        labels=model.labels((model.record.loss, "its values are in the loss")),
        why="this part of the data is compared, and the layer that decodes it keeps its random initial values",
        help="remove the detach: the likelihood trains what it compares",
    )
    text = f"{', '.join(layer.parameters[:3])} move the loss and have no gradient"
    return Broken("unreached-parameter", found, "a layer whose values are compared has a gradient", text)
