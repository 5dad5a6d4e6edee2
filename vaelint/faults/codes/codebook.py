"""Vector quantisation: codes that are equal, and which gradients arrive where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.frames import frame_beside
from vaelint.replay.traced import SMALL

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

Fault = Literal["encoder", "codebook", "commitment"]


@dataclass(frozen=True)
class VqFault:
    """A gradient that does not arrive."""

    what: Fault
    node: fx.Node
    codebook: Codebook
    place: Span | None = None  # where it is to be mended, if that is not the node's own place


@dataclass(frozen=True)
class EqualCodes:
    """A table of codes that all start at one point, and the axis that they are numbered along."""

    codebook: Codebook
    table: fx.Node
    axis: int


def equal_codes(model: Model) -> list[EqualCodes]:
    """VAE508: trained tables whose codes are equal and not 0; at 0 they wait for the first batch, as some are made to."""
    found: dict[fx.Node, EqualCodes] = {}
    for book in codebooks_of(model):
        for table in book.table:
            value = model.leaf_value(table) if table.meta.get("parameter") else None
            if value is None or value.dim() != 2 or model.parameter_count > SMALL:
                continue
            count = max(value.shape)
            axis = 1 if value.shape[1] == count and value.shape[0] != count else 0
            rows = value if axis == 0 else value.t()
            if count > 1 and bool((rows == rows[0]).all()) and bool((rows[0] != 0).any()):
                found.setdefault(table, EqualCodes(book, table, axis))
    return list(found.values())


def vq_faults(model: Model) -> list[VqFault]:
    """VAE505: the encoder without the reconstruction's gradient, codes that nothing moves, an encoder that nothing holds to its codes."""
    gradients = gradients_of(model)
    ends = reconstruction_ends(model)
    if not ends:
        return []
    by_recon = gradients.names(gradients.reach(*ends))
    others = [leaf for t in model.terms if t.role != "reconstruction" for leaf in t.leaves]
    faults: list[VqFault] = []
    for book in codebooks_of(model):
        encoder = gradients.names(model.flow.ancestors(book.index)) - book.names
        if not encoder or not any(book.code in model.flow.ancestors(e) for e in ends):
            continue
        if not encoder & by_recon and not model.record.handed:
            entry = _entry(model, book, ends)
            faults.append(VqFault("encoder", entry, book, frame_beside(book.code, entry) if entry in _below(model, book) else None))
        touching = [
            leaf.node
            for leaf in others
            if book.code in model.flow.ancestors(leaf.node) or set(book.table) & model.flow.ancestors(leaf.node)
        ]
        if book.names and not book.names & gradients.reached and not book.names & gradients.updated:
            faults.append(VqFault("codebook", _codes_end(model, book) or _meant_for_codes(model, book, touching), book))
        elif encoder & by_recon and touching and not encoder & gradients.names(gradients.reach(*touching)):
            faults.append(VqFault("commitment", touching[-1], book))
    return faults


def _entry(model: Model, book: Codebook, ends: list[fx.Node]) -> fx.Node:
    """What the decoder gets: the last sum of codes with the encoder's output, else the last value before a layer."""
    flow = model.flow
    below = flow.descendants(book.code)
    layers = {n for n in below - {book.code} if any(ops.is_parameter(i) and i not in below for i in n.all_input_nodes)}
    between = flow.descendants(book.code, stop=layers) & flow.ancestors(*ends)
    plain = flow.sorted(between - layers)
    sums = [n for n in plain if ops.op(n) in ops.ADD]
    if not sums and ops.op(book.code) in ops.LAYERS:
        return book.index  # a layer on one-hot vectors
    return sums[-1] if sums else plain[-1] if plain else book.code


def _below(model: Model, book: Codebook) -> set[fx.Node]:
    """What is made of the codes without any sum with the encoder's output."""
    return {
        n for n in model.flow.descendants(book.code) if not any(ops.op(a) in ops.ADD for a in model.flow.ancestors(n, stop={book.code}))
    }


def _codes_end(model: Model, book: Codebook) -> fx.Node | None:
    """The operation at which the codes lose their gradient before anything is done with them; None where they are given on with it."""
    flow, carries = model.flow, gradients_of(model).carries
    trained = {n for n in book.table if gradients_of(model).names({n})}
    if not carries(book.code):
        # the choice of a code has no gradient, and needs none: only the way of the codes themselves counts
        between = (flow.descendants(*trained, stop={book.index}) & flow.ancestors(book.code, stop={book.index})) - {book.index}
        return next((n for n in flow.sorted(between - trained) if not carries(n)), None)
    node = book.code
    while len(users := flow.users.get(node, [])) == 1 and ops.op(users[0]) in ops.SHAPE | ops.CAST | {"detach", "data"}:
        node = users[0]
        if not carries(node):
            return node
    return None


def _meant_for_codes(model: Model, book: Codebook, touching: list[fx.Node]) -> fx.Node:
    """The term in which the encoder's output is held fixed: it was meant to move the codes."""
    below = model.flow.descendants(book.code)
    for node in touching:
        for n in model.flow.ancestors(node, stop={book.code}):
            if ops.op(n) in ("detach", "data") and n not in below:
                return node
    return touching[0] if touching else book.code
