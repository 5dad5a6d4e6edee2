"""Padding that a model knows of in one place and counts in its token loss: an embedding's padding index, lengths, a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.reconstruction.pairs import Pair, picks_class
from vaelint.late import dataclass
from vaelint.record import ops

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_WEIGHS = ops.MUL | {"where", "masked_select", "masked_fill", "gather", "index_select"}
_HIDES = frozenset({"masked_fill", "where", "masked_select", "scaled_dot_product_attention", "multi_head_attention_forward"})


@dataclass(frozen=True)
class Padding:
    """Where the model shows that it knows of padding, and how padding is told: by its index, or by the lengths."""

    node: fx.Node
    index: int | None = None
    lengths: fx.Node | None = None

    @property
    def says(self) -> str:
        """What stands at the node, in words."""
        if self.lengths is not None:
            return "the encoder gets the length of each sequence"
        return "tokens are embedded with a padding index" if ops.op(self.node) == "embedding" else "the encoder leaves these tokens out"


def padded(model: Model, fact: ReconFact) -> Padding | None:
    """What tells padding apart elsewhere, where the target of a cross-entropy are those tokens and the loss does not know it."""
    pair = fact.pair
    if fact.probe.kernel not in ("cross_entropy", "nll") or pair.target is None or pair.leaf.factors or fact.probe.reason:
        return None
    ignore = pair.meet.kwargs.get("ignore_index", -100)
    if ops.op(pair.meet) in ("cross_entropy", "nll_loss"):
        if ignore != -100 or pair.meet.kwargs.get("weight") is not None:
            return None
    elif not picks_class(pair.meet, model.flow):
        return None
    if _masked(pair, model):
        return None
    tokens = {n for n in model.flow.ancestors(pair.target) if n.op == "placeholder"}
    return _embedded(model, tokens) or _hidden(model, tokens) or _packed(model, tokens)


def _embedded(model: Model, tokens: set[fx.Node]) -> Padding | None:
    """An embedding of the tokens that has a padding index."""
    for node in model.record.nodes:
        index = node.kwargs.get("padding_idx", node.args[2] if len(node.args) > 2 else None) if ops.op(node) == "embedding" else None
        if isinstance(index, int) and index < 0:
            continue
        if index is not None and _fed(model, node) & tokens:
            return Padding(node, index if isinstance(index, int) else None)
    return None


def _hidden(model: Model, tokens: set[fx.Node]) -> Padding | None:
    """A comparison of the tokens with one number that hides those tokens from an attention of the encoder."""
    above = model.flow.ancestors(*(h for s in model.sites for h in s.heads))
    for node in model.flow.sorted(above):
        if ops.op(node) not in ("eq", "ne") or node.args[0] not in tokens or len(node.args) < 2:
            continue
        index = node.args[1]
        below = model.flow.descendants(node) & above
        if type(index) is int and any(ops.op(n) in _HIDES or ops.is_opaque(n) for n in below):
            return Padding(node, index)
    return None


def _packed(model: Model, tokens: set[fx.Node]) -> Padding | None:
    """Embedded tokens that the encoder reads up to a length only, where the length is an input that the loss does not use."""
    for node in model.record.nodes:
        if ops.op(node) != "pack_padded_sequence" or not _fed(model, node) & tokens or len(ops.value_inputs(node)) < 2:
            continue
        lengths = [n for n in model.flow.ancestors(ops.value_inputs(node)[1]) if n.op == "placeholder" and n not in tokens]
        outside = model.flow.ancestors(model.record.loss, stop={node}) if model.record.loss is not None else set()
        told = [n for n in outside if n in model.flow.descendants(*lengths) and n not in model.flow.ancestors(node)] if lengths else []
        if lengths and not any(ops.op(n) in ops.COMPARE for n in told):
            return Padding(node, lengths=lengths[0])
    return None


def _fed(model: Model, node: fx.Node) -> set[fx.Node]:
    """The inputs of the model behind a node's operands."""
    return {n for n in model.flow.ancestors(*(a for a in node.all_input_nodes if a.op != "get_attr")) if n.op == "placeholder"}


def _masked(pair: Pair, model: Model) -> bool:
    """Whether something selects or weighs tokens between the loss and the sum."""
    inside = model.flow.descendants(pair.meet) & model.flow.ancestors(pair.leaf.node)  # masked_fill is no addend: the leaf is what it gives
    weighed = any(
        ops.op(n) in _WEIGHS
        and n is not pair.meet
        and n in model.flow.data
        and any(i in model.flow.data and i not in model.flow.learned for i in ops.value_inputs(n))
        for n in (*pair.leaf.chain, *inside)
    )
    above = model.flow.ancestors(pair.target) if pair.target is not None else set()
    return weighed or any(
        (ops.op(n) in ("masked_select", "getitem") and len(n.all_input_nodes) > 1) or ops.op(n) == "pack_padded_sequence" for n in above
    )
