"""Decoders that are shown what they are to predict.

Runs the decoder twice with one token, or one value of a step, changed and z held: the prediction of that very element must not move.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Span
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.replay.replay import ReplayError
from vaelint.replay.value_places import places_of, places_to_ask

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def leaked_tokens(model: Model, fact: ReconFact) -> fx.Node | None:
    """The token input whose element reaches its own prediction past z; None where none does, or where the slice does not run."""
    pair = fact.pair
    if fact.probe.kernel not in ("cross_entropy", "nll") or pair.target is None or fact.probe.axis is None:
        return None
    cut = {s.z for s in model.sites}
    if not cut:
        return None
    direct = model.flow.ancestors(pair.recon, stop=cut)
    tokens = [
        n
        for n in direct & model.flow.ancestors(pair.target)
        if n.op == "placeholder" and not n.meta["val"].is_floating_point() and len(shape(n)) >= 2
    ]
    for node in tokens:
        if _leaks(model, fact, node, cut):
            return node
    return None


def where_it_enters(model: Model, fact: ReconFact, tokens: fx.Node) -> fx.Node | None:
    """The first operation after which a place moves with the token that is to be predicted there: an attention without its mask.

    Where the decoder is handed that very token nothing in between is to blame: what was cut from the tokens for it; None where it is
    handed the input as it is.
    """
    pair, sizes = fact.pair, dict(model.record.sizes)
    cut = {s.z for s in model.sites}
    way = model.flow.descendants(tokens) & model.flow.ancestors(pair.recon, stop=cut)
    target = _by_place(pair.target) if pair.target is not None else None
    if target is None:
        return None
    steps, length = 1, shape(target)[1]
    nodes = [n for n in model.flow.sorted(way) if shape(n)[1:].count(length) == 1 and n.meta["val"].is_floating_point()]
    held = {z: torch.zeros(shape(z), dtype=torch.float64) for z in cut if shape(z)}
    base = model.tracer.inputs(None)[str(tokens.meta["input"])].clone()
    try:
        place = int(places_of(lambda v: model.replay([target], {tokens: v}, sizes)[target], base).movedim(steps, 0)[1].flatten()[0])
        if place < 0:
            return None
        changed = base.clone()
        changed.view(-1)[place] = (int(changed.view(-1)[place]) + 1) % (int(base.max()) + 1)
        before, after = (model.replay(nodes, {**held, tokens: v}, sizes, seed=4) for v in (base, changed))
    except (ReplayError, RuntimeError):
        return None
    moved = {
        n: not torch.equal(before[n].select(axis, 1), after[n].select(axis, 1)) for n in nodes for axis in (shape(n).index(length, 1),)
    }
    clean = {n for n in nodes if not moved[n] and not torch.equal(before[n], after[n])}  # the token is at another place of it
    first = next((n for n in nodes if n in clean), None)
    if first is not None and not torch.equal(*(v[first].select(shape(first).index(length, 1), 0) for v in (before, after))):
        return _cut_from(model, tokens, first)  # it comes a place too early: what reads it is not to blame
    enters = next((n for n in nodes if moved[n] and clean & model.flow.ancestors(n)), None)
    if enters is None:  # no place was ever without its token: it is handed over
        return _cut_from(model, tokens, nodes[0]) if nodes and moved[nodes[0]] else None
    return _wrong_mask(model, enters) or enters


def _by_place(target: fx.Node) -> fx.Node | None:
    """A target before its samples and places were put in one row."""
    while len(shape(target)) < 2 and ops.op(target) in ops.SHAPE and target.all_input_nodes:
        target = target.all_input_nodes[0]
    return target if len(shape(target)) > 1 else None


def _cut_from(model: Model, tokens: fx.Node, read: fx.Node) -> fx.Node | None:
    """The whole numbers that the decoder's first layer reads, where something was done to make them of the input."""
    behind = model.flow.ancestors(read) & model.flow.descendants(tokens)
    tensors = [n for n in (*behind, read) if isinstance(n.meta.get("val"), torch.Tensor)]
    real = {n for n in tensors if n.meta["val"].is_floating_point()}
    given = [n for n in tensors if n not in real and n is not tokens and shape(n) and real & set(model.flow.users.get(n, ()))]
    return given[0] if len(given) == 1 else None


def where_it_is_handed(model: Model, fact: ReconFact, tokens: fx.Node) -> Span | None:
    """Where the decoder gets its own target as it is: the assignment that gives its input another name, else what reads it or calls the
    reader in the function that draws; None where neither is known."""
    cut = {s.z for s in model.sites}
    way = model.flow.descendants(tokens) & model.flow.ancestors(fact.pair.recon, stop=cut)
    return _handed(model, next((n for n in model.flow.sorted(way) if ops.op(n) == "embedding"), None), cut)


def _handed(model: Model, read: fx.Node | None, cut: set[fx.Node]) -> Span | None:
    frames = route(read) if read is not None else ()
    if (renamed := _renamed(model, frames[0]) if frames else None) is not None:
        return renamed
    drawing = {id(f) for z in cut for place in route(z) if (f := model.source.function(place)) is not None}
    return next((place for place in frames if id(model.source.function(place)) in drawing), None)


def _renamed(model: Model, read: Span) -> Span | None:
    """`inputs = tokens`: the assignment of an argument as it is to the name that an expression reads."""
    function, file = model.source.function(read), model.source.file(read.file)
    expression = file.at(read)
    if function is None or expression is None:
        return None
    names = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)}
    given = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Name) or node.value.id not in given:
            continue
        if any(isinstance(t, ast.Name) and t.id in names for t in node.targets):
            return Span(read.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _wrong_mask(model: Model, enters: fx.Node) -> fx.Node | None:
    """The mask of places against places that an attention is given: where it was made, apart from the call."""
    sizes = set(shape(enters))
    flow = model.flow
    square = [
        n
        for n in flow.sorted(flow.ancestors(enters) - {enters})
        if n not in flow.data and n not in flow.learned and len(shape(n)) == 2 and shape(n)[0] == shape(n)[1] and shape(n)[0] in sizes
    ]
    there = model.where(enters)
    apart = [n for n in square if (place := model.where(n)) is not None and (there is None or place.line != there.line)]
    return apart[-1] if apart else None


def shown_steps(model: Model, fact: ReconFact) -> tuple[fx.Node, int] | None:
    """The input of real values whose steps reach their own prediction past z, and the axis of the steps; None where none does."""
    pair, cut = fact.pair, {s.z for s in model.sites}
    if pair.target is None or not cut or len(shape(pair.recon)) < 2 or shape(pair.recon) != shape(pair.target):
        return None
    target = pair.target
    above = model.flow.ancestors(pair.target)
    given = [n for n in above if n.op == "placeholder"]
    if len(given) != 1 or given[0] not in model.flow.ancestors(pair.recon, stop=cut) or not given[0].meta["val"].is_floating_point():
        return None
    if any(ops.op(n) not in ops.SHAPE | ops.CAST | ops.SELECT for n in above if n.op == "call_function" and not n.meta.get("scalar")):
        return None
    sizes = dict(model.record.sizes)
    generator = torch.Generator().manual_seed(2)
    held = {z: torch.randn(shape(z), dtype=torch.float64, generator=generator) for z in cut if shape(z)}
    base = model.tracer.inputs(None)[str(given[0].meta["input"])].double()

    def predict(values: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model.replay([pair.recon], {**held, given[0]: values}, sizes, seed=4)[pair.recon]
        return out

    try:
        places = places_of(lambda v: model.replay([target], {given[0]: v}, sizes)[target], base)
        for axis, text in enumerate(model.dims(pair.recon)):
            if text != "B" and own_step_shown(predict, base, places, axis, 1e-9) is not None:
                return given[0], axis
    except (ReplayError, RuntimeError):
        return None
    return None


def where_steps_are_cut(model: Model, fact: ReconFact, given: fx.Node) -> Span | None:
    """Where what the decoder reads was cut from the steps, the line of most of the cuts; where it is handed the steps as they are."""
    flow, cut = model.flow, {s.z for s in model.sites}
    way = flow.descendants(given) & flow.ancestors(fact.pair.recon, stop=cut)
    handed = [n for n in flow.sorted(way - flow.learned - flow.noisy) if any(u in way and u in flow.learned for u in flow.users.get(n, ()))]
    if given in handed:
        read = next((u for u in flow.sorted(way & flow.learned) if given in flow.inputs[u]), None)
        return _too_wide(model, way) or _handed(model, read, cut)
    lines = Counter((place.file, place.line) for n in handed if (place := model.where(n)) is not None)
    if not lines:
        return None
    return next(place for n in handed if (place := model.where(n)) is not None and (place.file, place.line) == lines.most_common(1)[0][0])


def _too_wide(model: Model, way: set[fx.Node]) -> Span | None:
    """Where the layer was made whose mask is to keep the own place out, of layers that multiply their weights with masks: the last of a
    network of vectors (MADE), the first of convolutions (PixelCNN). The others may let it through."""
    masked = [n for n in model.flow.sorted(way) if ops.op(n) in ops.LAYERS and any(_is_masked(model, w) for w in n.all_input_nodes)]
    if not masked:
        return None
    node = masked[-1] if ops.op(masked[-1]) == "linear" else masked[0]
    return model.chosen_at(str(node.meta.get("module") or "")) or model.where(node)


def _is_masked(model: Model, weight: fx.Node) -> bool:
    """Whether a layer's weight is a parameter times zeros and ones."""
    both = ops.value_inputs(weight) if ops.op(weight) in ops.MUL else []
    masks = [n for n in both if not ops.is_parameter(n) and n not in model.flow.data]
    if len(both) != 2 or len(masks) != 1:
        return False
    try:
        values = model.replay(masks, {}, dict(model.record.sizes))[masks[0]]
    except ReplayError:
        return False
    return bool(((values == 0) | (values == 1)).all()) and bool((values == 0).any())


def own_step_shown(
    predict: Callable[[torch.Tensor], torch.Tensor], base: torch.Tensor, places: torch.Tensor, axis: int, tolerance: float
) -> float | None:
    """How far a prediction moves with its own target, where steps along an axis are predicted from those before them; None elsewhere.

    `places` says for each prediction which element of `base` is its target. What sees later steps as well, as a skip connection does or
    a normalisation of the whole series, is no such decoder, nor is what sees one step alone. Where every step comes one place too early,
    and moves all that follow, it was shown the wrong way round.
    """
    before = predict(base)
    if before.shape != places.shape or before.shape[axis] < 4 or bool((places < 0).any()):
        return None
    own, early = 0.0, list[bool]()
    for t in range(1, min(before.shape[axis] - 1, 12)):
        at = tuple(t if d == axis else 0 for d in range(before.dim()))
        changed = base.clone()
        changed.view(-1)[int(places[at])] += 0.7
        moved = (predict(changed) - before).abs()
        steps = moved.movedim(axis, 0).flatten(1).amax(1)
        early.append(float(steps[t - 1]) > tolerance)
        if any(float(s) > tolerance for s in steps[: t - early[-1]]) or (early[-1] and float(steps[t:].min()) <= tolerance):
            return None
        if float(steps[t + 1 :].max()) > tolerance:
            own = max(own, float(moved[at]))
    return own if own > tolerance and len(set(early)) == 1 else None


def _leaks(model: Model, fact: ReconFact, node: fx.Node, cut: set[fx.Node]) -> bool:
    pair, sizes = fact.pair, dict(model.record.sizes)
    assert pair.target is not None and fact.probe.axis is not None
    generator, target = torch.Generator().manual_seed(2), pair.target
    held = {z: torch.randn(shape(z), dtype=torch.float64, generator=generator) for z in cut if shape(z)}
    base = model.tracer.inputs(None)[str(node.meta["input"])].clone()
    top = int(base.max())
    try:
        places = places_of(lambda v: model.replay([target], {node: v}, sizes)[target], base).flatten()
        before = _predictions(model, fact, {**held, node: base}, sizes)
        if before.shape[0] != len(places):
            return False
        moved = []
        for p in places_to_ask(places, base):
            changed = base.clone()
            index = int(places[p])
            if not 0 <= index < base.numel() or top < 1:
                continue
            changed.view(-1)[index] = (int(changed.view(-1)[index]) + 1) % (top + 1)
            after = _predictions(model, fact, {**held, node: changed}, sizes)
            moved.append(float((after[p] - before[p]).abs().max()) > 1e-9)
    except (ReplayError, RuntimeError):
        return False
    return sum(moved) >= min(2, len(moved)) > 0  # the last token may be none of the decoder's input, and is not leaked then


def _predictions(model: Model, fact: ReconFact, overrides: dict[fx.Node, torch.Tensor], sizes: dict[str, int]) -> torch.Tensor:
    """Logits with one row for each target element."""
    logits = model.replay([fact.pair.recon], overrides, sizes, seed=4)[fact.pair.recon]
    assert fact.probe.axis is not None
    moved: torch.Tensor = logits.movedim(fact.probe.axis, -1)
    return moved.reshape(-1, moved.shape[-1])
