"""Terms beside reconstruction and KL: what they depend on tells what they are, and how the loss moves with them what they weigh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.kl.kl_parts import weight_of
from vaelint.anatomy.loss.measured_extras import is_distance, is_log_prior, of_pairs, undrawn_kl
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Leaf, Role, gather
from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.anatomy.reconstruction.pairs import picks_class
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.replay.measuring import own_symbols
from vaelint.replay.replay import ReplayError
from vaelint.replay.scale import Scaling

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

EXTRA_WORDS = {
    "mmd": "maximum mean discrepancy to draws of the prior",
    "distance": "distance between codes and draws of the prior",
    "codebook": "codebook loss",
    "commitment": "commitment loss",
    "vq": "codebook or commitment",
    "codes": "a likelihood of the codes",
    "features": "distance of features",
    "spectral": "distance of spectra",
    "critic_recon": "a network's score of the reconstruction",
    "critic_z": "a network's score of z",
    "supervised": "a prediction of given labels",
    "held": "divergence with the posterior held fixed",
    "weights": "a penalty on parameters",
    "parameters": "a share made of parameters alone",
    "prior": "log prior of z",
    "pairs": "Bernoulli likelihood of pairs that are there, on products of their z",
    "no_pairs": "Bernoulli likelihood of pairs that are not there, on products of their z",
    "undrawn": "Gaussian KL to N(0, 1) of codes that are not drawn",
    "other": "other",
}
PAIRS = ("pairs", "no_pairs")
_STEP = 0.01  # added to parameters, some of which start at 0
_SPECTRAL = frozenset({"stft", "istft", "spectrogram"})


@dataclass
class Extra:
    """Some addends of one kind, and the weight of one element of them."""

    role: Role
    kind: str
    leaves: list[Leaf]
    node: fx.Node | None
    scaling: Scaling | None
    symbol: str = ""  # how the code names its weight
    own: tuple[str, ...] | None = None  # the sizes that it is added up over, where its weight is that of one element


def find_extras(model: Model) -> list[Extra]:
    """All terms that are neither reconstruction nor KL nor a mixture of both, one for each kind and weight."""
    assert model.record.loss is not None
    groups: dict[tuple[Role, str, object], list[Leaf]] = {}
    for term in model.terms:
        if term.detached is not None or term.role in ("kl", "mixed") or (term.role == "reconstruction" and model.recons):
            continue
        for leaf in (one for one in term.leaves if not _is_constant(model, one)):
            weigher = next((span(n) for n in leaf.chain if ops.op(n) in ops.MUL | ops.DIV), None)
            groups.setdefault((term.role, _kind(model, leaf, term.role), weigher), []).append(leaf)
    found = []
    for (role, kind, _), leaves in _whole_shares(groups).items():
        core = gather(role, leaves, model.sites, model.flow).core
        scaling = weight_of(_weighing(model, kind, leaves), model.record.loss, model.replay, model.symbols)
        named = [f.text for f in factors(leaves[0].chain, model.source) if f.origin == "named" and f.text]
        paired = kind == "distance" and len(leaves) > 1
        if kind in PAIRS:
            role, scaling = "reconstruction", _of_a_pair(model, leaves[0], scaling)
        elif kind == "other" and (undrawn := undrawn_kl(model, leaves)) is not None:
            role, kind, own = "kl", "undrawn", own_symbols(model.replay.texts_of(undrawn[1]), model.symbols)
            found.append(Extra(role, kind, leaves, core, undrawn[0], named[-1] if named else "", own))
            continue
        found.append(
            Extra("other" if kind == "other" else role, "mmd" if paired else kind, leaves, core, scaling, named[-1] if named else "")
        )
    return found


def _whole_shares(groups: dict[tuple[Role, str, object], list[Leaf]]) -> dict[tuple[Role, str, object], list[Leaf]]:
    """The squares that are weighed together with other addends of parameters belong to these: a KL of drawn weights is no penalty."""
    weighed = {n for (_, kind, _), leaves in groups.items() if kind == "parameters" for leaf in leaves for n in leaf.chain}
    products = {n for n in weighed if ops.op(n) in ops.MUL | ops.DIV}
    joined: dict[tuple[Role, str, object], list[Leaf]] = {}
    for (role, kind, weigher), leaves in groups.items():
        for leaf in leaves:
            own = "parameters" if kind == "weights" and products & set(leaf.chain) else kind
            joined.setdefault((role, own, weigher), []).append(leaf)
    return joined


def weight_of_its_mean(model: Model, extra: Extra) -> Scaling | None:
    """The weight of an extra's mean over what it is averaged over, as `F.mse_loss` has it, also where the average is taken by itself."""
    leaf, replay = extra.leaves[0], model.replay
    means = [n for n in leaf.chain if ops.op(n) in ("mean", "nanmean")]

    def elements(sizes: Mapping[str, int]) -> float:
        counts = (math.prod(replay.shape_of(ops.value_inputs(n)[0], sizes)) / math.prod(replay.shape_of(n, sizes)) for n in means)
        return math.prod(counts)

    assert model.record.loss is not None
    return weight_of(leaf, model.record.loss, replay, model.symbols, elements) or extra.scaling if means else extra.scaling


def _of_a_pair(model: Model, leaf: Leaf, scaling: Scaling | None) -> Scaling | None:
    """The weight of the likelihood of one pair, where that of the addend is known."""
    found = of_pairs(model, leaf)
    if scaling is None or found is None:
        return None
    return Scaling(scaling.value * found[1], scaling.exponents, scaling.constant * found[1])


def _weighing(model: Model, kind: str, leaves: list[Leaf]) -> Leaf:
    """The addend that shows the weight: of a discrepancy, where draws have another sign and factor, the one of pairs of codes."""
    alone = [leaf for leaf in leaves if not (model.flow.ancestors(leaf.node, stop=set(leaf.frontier)) & model.flow.random)]
    return alone[0] if kind == "distance" and alone else leaves[0]


def _is_constant(model: Model, leaf: Leaf) -> bool:
    """Whether an addend is made of frozen parameters alone: the log-scale of a fixed prior that the model keeps as one."""
    above = model.flow.ancestors(leaf.node)
    held = any(n.meta.get("parameter") for n in above)
    return held and not (above & (model.flow.data | model.flow.random)) and not gradients_of(model).names(above)


def _kind(model: Model, leaf: Leaf, role: str) -> str:
    if role == "discrepancy":
        return "distance"
    if (pairs := of_pairs(model, leaf)) is not None:
        return PAIRS[0] if pairs[0] else PAIRS[1]
    if role == "prior":
        return "prior" if is_log_prior(model, leaf) else "other"
    flow = model.flow
    above = flow.ancestors(leaf.node)
    recons = {n for fact in model.recons for n in (fact.pair.recon, *fact.pair.raw)}
    if above & recons:
        return _of_reconstruction(model, leaf, recons)
    if role == "vq":
        return _of_codes(model, leaf)
    posterior = {n for s in model.sites for n in (s.z, *s.heads)}
    live = _live(leaf.node)
    data = [n for n in flow.ancestors(leaf.node, stop=posterior) if n.op == "placeholder"]
    if any(_predicts(leaf, n, model) for n in data if isinstance(n.meta.get("val"), torch.Tensor)):
        return "supervised"
    if not any(n in flow.data for n in above):
        return "weights" if _is_penalty(leaf, model) else "other" if above & flow.random else "parameters"
    if _is_held(model, leaf, live):
        return "held" if _is_of_the_kl(model, live) else "other"
    return "critic_z" if not data and above & {s.z for s in model.sites} and _is_score(leaf) and _is_critics(model, leaf) else "other"


def _is_of_the_kl(model: Model, live: set[fx.Node]) -> bool:
    """Whether what gradients reach in a term is learned by the KL too: the prior of KL balancing, and no critic; nor the encoder itself,
    whose other view of a sample is held to this one."""
    of_kl = {n for k in model.kls for leaf in k.term.leaves for n in model.flow.ancestors(leaf.node)}
    encoding = model.flow.ancestors(*(h for s in model.sites for h in s.heads))
    learned, of_data = _parameters(live), _parameters(live & model.flow.data)
    return learned <= _parameters(of_kl) and not (of_data and of_data <= _parameters(encoding))


def _parameters(nodes: set[fx.Node]) -> set[str]:
    """The parameters that layers among the nodes read."""
    return {str(i.target) for n in nodes for i in (n, *n.all_input_nodes) if i.op == "get_attr" and i.meta.get("parameter")}


def _is_critics(model: Model, leaf: Leaf) -> bool:
    """Whether the layers between the draw and an addend neither decode nor make what the prior takes.

    Those of a flow do, whose determinant is a number too.
    """
    stop = {n for s in model.sites for n in (s.z, *s.heads)}
    of_prior = [leaf.node for k in model.kls for leaf in k.term.leaves]
    decoding = model.flow.ancestors(*(n for f in model.recons for n in f.pair.raw), *of_prior, stop=stop)
    return not any(n.meta.get("parameter") for n in model.flow.ancestors(leaf.node, stop=stop) & decoding)


def _predicts(leaf: Leaf, labels: fx.Node, model: Model) -> bool:
    """Whether an addend is the likelihood of whole numbers that are given: they pick a class, or stand as the target of a loss."""
    if labels.meta["val"].is_floating_point():
        return False
    inside = model.flow.ancestors(leaf.node, stop={labels}) & model.flow.descendants(labels)
    return any(picks_class(n, model.flow) or ops.op(n) in ("cross_entropy", "nll_loss") for n in inside)


def _is_penalty(leaf: Leaf, model: Model) -> bool:
    """Whether an addend of parameters alone grows from 0 with them, alike for either sign: a norm, a power of one. A log-scale does not."""
    parameters = [n for n in model.flow.ancestors(leaf.node) if n.meta.get("parameter")]
    if leaf.node not in model.flow.learned:
        return False  # made of a gradient that the step took: not a value of the parameters alone
    try:
        start = model.replay(parameters, {}, model.symbols)
        at = [
            float(model.replay([leaf.node], {n: k * start[n] + k * _STEP for n in parameters}, model.symbols)[leaf.node].sum())
            for k in (1.0, -1.0, 2.0, 0.0)
        ]
    except ReplayError:
        return False
    one, turned, twice, none = at
    near = 1e-6 * abs(one)
    return abs(none) <= near and abs(one - turned) <= near and abs(twice) > abs(one) * (1 + 1e-6)


def _is_score(leaf: Leaf) -> bool:
    """Whether an addend is made of one or two numbers a sample that layers put out: what a critic gives."""
    sizes = [math.prod(shape(f)[1:]) for f in leaf.frontier]
    return bool(sizes) and all(n <= 2 for n in sizes)


def _is_held(model: Model, leaf: Leaf, live: set[fx.Node]) -> bool:
    """Whether gradients of the posterior's own heads are cut off on the way: stop-gradients, as KL balancing has them."""
    heads = {n for s in model.sites for n in s.heads}
    behind = model.flow.ancestors(*heads) if heads else set()
    cut = [n for n in model.flow.ancestors(leaf.node) if ops.op(n) in ("detach", "data") and n not in live]
    return any(model.flow.ancestors(n) & behind & model.flow.learned for n in cut)


def _of_reconstruction(model: Model, leaf: Leaf, recons: set[fx.Node]) -> str:
    inside = model.flow.ancestors(leaf.node, stop=recons)
    if any(ops.op(n) in _SPECTRAL or "fft" in ops.op(n) for n in inside):
        return "spectral"
    if not any(n.op == "placeholder" for n in inside):
        return "critic_recon"
    return "features" if is_distance(model, leaf) else "other"


def _of_codes(model: Model, leaf: Leaf) -> str:
    books = codebooks_of(model)
    tables = {n for book in books for n in book.table}
    live = _live(leaf.node)
    learned = {n for n in live if n.op == "get_attr" and n.meta.get("parameter")}
    if live and not live & (tables | model.flow.ancestors(*(book.index for book in books))):
        return "codes"  # its gradient reaches neither codes nor encoder: a prior that is learned of the positions
    if learned and learned <= tables:
        return "codebook"
    return "commitment" if learned and not learned & tables else "vq"


def _live(node: fx.Node) -> set[fx.Node]:
    """What gradients of a value reach: its ancestors, no further than where they are cut."""

    def passes(n: fx.Node) -> bool:
        parts = n.op == "call_function" and not isinstance(n.meta.get("val"), torch.Tensor)  # as of `chunk`
        return bool(n.meta.get("grad") or n.meta.get("parameter")) or parts

    cut = ("detach", "data")
    starts = [node] if passes(node) else []
    return reachable(starts, lambda n: [s for s in ops.value_inputs(n) if ops.op(n) not in cut and passes(s)])
