"""Whether the reconstruction, its target and its likelihood go together."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.objective import ReconFact
from vaelint.anatomy.ranges import Range, declared_range, value_range
from vaelint.anatomy.recon import FAMILIES, Pair, fits_family, recon_gradient
from vaelint.anatomy.replay import ReplayError
from vaelint.anatomy.sites import frontier, sample_axes
from vaelint.anatomy.terms import layered_nodes
from vaelint.finding import Span
from vaelint.graph import shape, span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def broadcast(model: Model, pair: Pair) -> str | None:
    """What the comparison of reconstruction and target stretches, or None when their shapes agree.

    One extra leading axis (several samples per input) is how importance-weighted bounds are written, and agrees.
    """
    if (
        pair.target is None
        or not isinstance(pair.target.meta.get("val"), torch.Tensor)
        or ops.op(pair.meet) in ("cross_entropy", "nll_loss")
    ):
        return None
    r, t = shape(pair.recon), shape(pair.target)
    if not r or not t or r == t:
        return None
    texts_r, texts_t = model.dims(pair.recon), model.dims(pair.target)
    drawn = {shape(s.z)[d] for s in model.sites for d in sample_axes(s)}
    for back in range(1, min(len(r), len(t)) + 1):
        a, b = r[-back], t[-back]
        if a != b and 1 in (a, b) and a not in drawn:
            return f"{texts_r[-back]} meets {texts_t[-back]}"
    if len(t) > len(r) or (len(r) > len(t) and "B" in texts_r[: len(r) - len(t)]):
        return f"{len(r)} dimensions meet {len(t)}"
    return None


def activation(node: fx.Node) -> fx.Node | None:
    """The activation that a value comes out of, through changes of shape."""
    while True:
        if ops.op(node) in ops.SHAPE | ops.CAST | {"effect"} and ops.value_inputs(node):
            node = ops.value_inputs(node)[0]
        else:
            return node if ops.op(node) in ops.FUNCTIONS | {"softmax", "log_softmax"} else None


@dataclass(frozen=True)
class Mismatch:
    """Declared data that the reconstruction cannot reach."""

    low: float
    high: float
    reach: Range


def output_mismatch(model: Model, fact: ReconFact) -> Mismatch | None:
    """Data outside of what the last activation can put out; only where the user declared a range."""
    data = target_range(model, fact.pair)
    reach = value_range(model, fact.pair.recon)
    if data is None or reach is None or not all(math.isfinite(x) for x in data):
        return None
    width = data[1] - data[0]
    if width <= 0:
        return None
    if data[0] < reach.low - 0.02 * width or data[1] > reach.high + 0.02 * width:
        return Mismatch(data[0], data[1], reach)
    return None


def target_range(model: Model, pair: Pair) -> tuple[float, float] | None:
    """The range of the target, by running what is done to the inputs over their declared ranges."""
    if pair.target is None:
        return None
    ancestors = model.flow.ancestors(pair.target)
    sources = [n for n in ancestors if n.op == "placeholder"]
    if not sources or any(declared_range(model, n) is None for n in sources) or pair.target in model.flow.learned:
        return None
    if pair.target.op == "placeholder":
        return declared_range(model, pair.target)
    reach = value_range(model, pair.target)
    if reach is None:
        return None
    return (
        (reach.low, reach.high)
        if math.isfinite(reach.low) and math.isfinite(reach.high)
        else declared_range(model, sources[0])
        if not _rescaled(model, pair.target, sources[0])
        else None
    )


def _rescaled(model: Model, target: fx.Node, source: fx.Node) -> bool:
    between = model.flow.ancestors(target, stop={source}) - {source}
    return any(ops.op(n) not in ops.SHAPE | ops.CAST | ops.SELECT | {"effect"} for n in between)


def swapped(pair: Pair, model: Model) -> bool:
    """Whether a loss that is not symmetric gets the data as its prediction and the reconstruction as its target."""
    if ops.op(pair.meet) not in (
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "kl_div",
        "poisson_nll_loss",
        "gaussian_nll_loss",
        "nll_loss",
    ):
        return _exact_when_exchanged(pair, model)
    operands = ops.tensors(pair.meet.args)[:2]
    named = [pair.meet.kwargs.get("input"), pair.meet.kwargs.get("target")]
    first = named[0] if isinstance(named[0], fx.Node) else operands[0] if operands else None
    return first is pair.target and pair.target is not None and pair.target not in model.decoded


def _exact_when_exchanged(pair: Pair, model: Model) -> bool:
    """Whether a likelihood written out is none of the reconstruction, and exact as one of the data given the reconstruction."""
    term = next((t for t in model.terms if pair.leaf in t.leaves), None)
    fact = next((r for r in model.recons if r.pair is pair), None)
    if term is None or fact is None or model.record.loss is None or pair.target is None or not pair.target.meta["val"].is_floating_point():
        return False
    data = frontier([pair.target], model.flow)
    if fact.probe.kernel not in ("other", "negative_log_probability") or len(data) != 1 or shape(data[0]) != shape(pair.recon):
        return False
    exchanged = replace(pair, recon=data[0], target=pair.recon)
    try:
        r, t, g = recon_gradient(exchanged, term, model.record.loss, model.replay, {**model.symbols, "B": 3}, {}, apart=False)
    except ReplayError:
        return False
    if t is None or g is None or t.shape != r.shape:
        return False
    return any(fits_family(g, FAMILIES[name](r, t)) for name in ("bce", "bce_with_logits", "poisson", "poisson_log"))


@dataclass(frozen=True)
class Corruption:
    """A target that is not the clean data."""

    node: fx.Node
    draw: fx.Node | None
    what: str


def wrong_target(model: Model, fact: ReconFact) -> Corruption | None:
    """A target with noise added that the model was also given: a denoising model that learns the noise."""
    target = fact.pair.target
    if target is None or target not in model.flow.noisy:
        return None
    above = model.flow.ancestors(target)
    draws = [n for n in above if (ops.is_random(n) and "normal" in ops.op(n)) or (ops.op(n) in ("randn", "randn_like") and n in above)]
    added = [n for n in above if ops.op(n) in ops.ADD and any(i in model.flow.pure_noise for i in ops.value_inputs(n))]
    if not draws or not added or target in model.decoded:
        return None
    if not any(a in model.flow.ancestors(*fact.pair.raw) for a in added):
        return None
    return Corruption(target, draws[0], "the target is the corrupted input")


def self_targets(model: Model) -> list[Corruption]:
    """Terms that compare the reconstruction with something of the model's own making, where none compares it with the data."""
    if model.recons or any(t.role in ("reconstruction", "mixed") for t in model.terms):
        return []
    encoded = model.flow.ancestors(*[h for s in model.sites for h in s.heads]) - set(model.record.inputs.values())
    own = model.decoded | model.flow.descendants(*(s.z for s in model.sites))
    found = []
    for leaf in model.leaves:
        if not any(f in model.decoded for f in leaf.frontier) or leaf.role in ("kl", "discrepancy", "vq"):
            continue
        node = _comparison(leaf.node, model)
        if node is None:
            continue
        operands = (ops.tensors(node.args) + ops.tensors(dict(node.kwargs)))[:2]
        if leaf.role == "prior" and not _decoded_beside_latent(model, operands) and not _decoded_by_product(model, operands):
            continue
        if any(n in model.flow.data and n not in own and n not in encoded for n in operands):
            continue  # features of the data, as a discriminator or a perceptual loss makes them
        other = next((n for n in operands if not requires(n)), operands[-1] if operands else None)
        what = "a constant" if other is not None and other not in model.flow.data else "the model's own output"
        if other is not None and other in {s.z for s in model.sites}:
            what = "z"
        found.append(Corruption(node, other, f"the target is {what}"))
    return found


def _decoded_beside_latent(model: Model, operands: list[fx.Node]) -> bool:
    """Whether one of two operands is z itself and the other was made of z by layers: `decoder(z) - z`."""
    z = {s.z for s in model.sites}
    made = layered_nodes(model.flow, model.sites)
    return any(o in z for o in operands) and any(o in made for o in operands)


def _decoded_by_product(model: Model, operands: list[fx.Node]) -> bool:
    """Whether an operand is made of products of z with itself: a decoder without layers, as `z @ z.t()` is that of a graph."""
    z = {s.z for s in model.sites}
    below = model.flow.descendants(*z)
    products = {n for n in below if ops.op(n) in ops.PRODUCT and all(i in below for i in ops.value_inputs(n))}
    return any(model.flow.ancestors(o, stop=z) & products for o in operands)


def requires(node: fx.Node) -> bool:
    """Whether gradients flow into a value."""
    return bool(node.meta.get("grad"))


def _comparison(node: fx.Node, model: Model) -> fx.Node | None:
    """The operation inside an addend that compares two values: a loss function, or the difference that is squared."""
    if ops.op(node) in ops.LOSSES:
        return node
    if ops.op(node) in ("pow", "square", "abs", "mul"):
        inner = [n for n in ops.value_inputs(node) if ops.op(n) in ("sub", "rsub")]
        return inner[0] if inner else None
    return None


def padded(model: Model, fact: ReconFact) -> fx.Node | None:
    """The embedding with a padding index whose tokens are the target of a cross-entropy that does not know it."""
    pair = fact.pair
    if fact.probe.kernel not in ("cross_entropy", "nll") or pair.target is None or pair.leaf.factors or fact.probe.reason:
        return None
    ignore = pair.meet.kwargs.get("ignore_index", -100)
    if ops.op(pair.meet) not in ("cross_entropy", "nll_loss") or ignore != -100 or pair.meet.kwargs.get("weight") is not None:
        return None
    if _masked(pair, model):
        return None
    tokens = model.flow.ancestors(pair.target)
    for node in model.record.nodes:
        if ops.op(node) != "embedding":
            continue
        index = node.kwargs.get("padding_idx", node.args[2] if len(node.args) > 2 else None)
        if index is None or (isinstance(index, int) and index < 0):
            continue
        fed = model.flow.ancestors(*[n for n in node.all_input_nodes if n.op != "get_attr"])
        if {n for n in fed if n.op == "placeholder"} & tokens:
            return node
    return None


def _masked(pair: Pair, model: Model) -> bool:
    """Whether something selects or weighs tokens between the loss and the sum."""
    weighed = any(
        ops.op(n) in ops.MUL | {"where", "masked_select", "masked_fill", "gather", "index_select"}
        and n in model.flow.data
        and any(i in model.flow.data and i not in model.flow.learned for i in ops.value_inputs(n))
        for n in pair.leaf.chain
    )
    above = model.flow.ancestors(pair.target) if pair.target is not None else set()
    return weighed or any(ops.op(n) in ("masked_select", "getitem") and len(n.all_input_nodes) > 1 for n in above)


def squashed_elsewhere(model: Model, fact: ReconFact) -> ast.Call | None:
    """A sigmoid that another method of the class puts on the decoder's output: the loss then sees logits."""
    if fact.probe.kernel not in ("squared_error", "absolute_error") or activation(fact.pair.recon) is not None:
        return None
    data = target_range(model, fact.pair)
    if data is None or data[0] < 0 or data[1] > 1:
        return None
    reach = value_range(model, fact.pair.recon)
    if reach is None or (reach.bounded_below or reach.bounded_above):
        return None
    decoders = {c.path.split(".")[0] for c in model.record.calls if c.path} | {"decode", "decoder"}
    place = span(fact.pair.raw[0]) if fact.pair.raw else None
    if place is None:
        return None
    for function in model.source.file(place.file).functions():
        bound: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _calls(node.value, decoders):
                bound |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sigmoid":
                inner = node.args[0] if node.args else node.func.value
                if (isinstance(inner, ast.Call) and _calls(inner, decoders)) or (isinstance(inner, ast.Name) and inner.id in bound):
                    return node
    return None


def _calls(node: ast.Call, names: set[str]) -> bool:
    return (
        isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
        and ("decod" in node.func.attr or node.func.attr in names & {"decode", "decoder"})
    )


def crossed_terms(model: Model) -> list[fx.Node]:
    """Sums and products of per-sample terms on the way up to the loss that pair every sample with every other."""
    found = []
    seen: set[fx.Node] = set()
    for leaf in model.leaves:
        for node in leaf.chain:
            if node in seen or ops.op(node) not in ops.ADD | ops.MUL | ops.DIV:
                continue
            seen.add(node)
            texts = model.dims(node)
            inputs = [n for n in ops.value_inputs(node) if isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].dim() > 0]
            own = [sum("B" in t for t in model.dims(n)) for n in inputs]
            if sum("B" in t for t in texts) > max(own, default=0) and len(inputs) == 2 and len({n.meta["val"].dim() for n in inputs}) == 2:
                found.append(node)
    return found


def chosen_at(model: Model, fact: ReconFact) -> Span | None:
    """Where the target was chosen: the assignment that names the compared value, else the comparison."""
    place = span(fact.pair.meet)
    if place is None or fact.pair.target is None:
        return place
    expression = model.source.file(place.file).at(place)
    names = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)} if expression is not None else set()
    for function in model.source.file(place.file).functions():
        if not function.lineno <= place.line <= (function.end_lineno or function.lineno):
            continue
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Assign)
                and node.lineno < place.line
                and isinstance(node.value, ast.Name)
                and any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
            ):
                return Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return place


def unused_reconstruction(model: Model) -> fx.Node | None:
    """The last decoded value of the run that has an input's shape, when the loss depends on nothing decoded."""
    if model.recons or model.likelihood.self_targets or any(t.role in ("reconstruction", "mixed") for t in model.terms):
        return None
    made = layered_nodes(model.flow, model.sites + model.idle_sites)
    if any(f in made for leaf in model.leaves for f in leaf.frontier):
        return None
    layers = [n for n in model.flow.sorted(made) if ops.uses_parameter(n) and isinstance(n.meta.get("val"), torch.Tensor)]
    return layers[-1] if layers else None
