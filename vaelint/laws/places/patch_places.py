"""Law A7, for patches: what is cut into patches is put together from patches of the same cut.

Intervention: every element of the data is given its own number, and every patch of what the last layer put out. Read past nothing but
changes of layout, they say which patch of the encoder and which of the decoder an element of the data belongs to. The order of the
patches, and of the elements within one, is free: layers learn it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back, forward
from vaelint.rule import Found

_LAYOUT = (ops.SHAPE | ops.CAST) - {"expand", "expand_as", "broadcast_to", "repeat"}
_ACTIVATIONS = frozenset({"sigmoid", "tanh"})  # one-to-one, element by element


@law("patches-keep-their-cut", "data cut into patches is put together from patches of the same cut", covered=("VAE104", "VAE113", "VAE114"))
def patches_keep_their_cut(bench: Bench) -> Iterator[Broken]:
    """Only where as many patches of the same size go in as come out, each read or put out by a linear layer."""
    for seat in bench.of_kind("data"):
        if seat.axis != 0 or len(shape(seat.node)) < 3:
            continue
        read, made = _read(bench, seat), _made(bench, seat)
        for patches in read:
            for layer, whole in made:
                if shape(patches)[1:] == shape(layer)[1:] and (apart := _apart(bench, seat, patches, layer, whole)):
                    yield _broken(bench, patches, layer, whole, apart)
                    return


def _read(bench: Bench, seat: Seat) -> list[fx.Node]:
    """What linear layers read of the data, past changes of layout: (B, patches, elements)."""
    users = bench.model.flow.users
    layers = [n for n in forward(seat.node, users, _LAYOUT) if ops.op(n) == "linear" and isinstance(n.args[0], fx.Node)]
    read = [n.args[0] for n in layers if isinstance(n.args[0], fx.Node)]
    return [n for n in read if len(shape(n)) == 3 and n is not seat.node and bench.knows(n)]


def _made(bench: Bench, seat: Seat) -> list[tuple[fx.Node, fx.Node]]:
    """What linear layers put out and the data is compared with: the layer, and its output in the data's shape."""
    found: list[tuple[fx.Node, fx.Node]] = []
    for term in bench.model.terms:
        for node in bench.model.flow.ancestors(*(leaf.node for leaf in term.leaves)) if term.role == "reconstruction" else ():
            ins = ops.value_inputs(node)
            other = [n for n in ins if n is not seat.node]
            if seat.node in ins and len(other) == 1 and shape(other[0]) == shape(seat.node):
                layer = list(back(other[0], _LAYOUT | _ACTIVATIONS))[-1]
                if ops.op(layer) == "linear" and len(shape(layer)) == 3 and bench.knows(layer) and bench.knows(other[0]):
                    found.append((layer, other[0]))
    return found


def _apart(bench: Bench, seat: Seat, patches: fx.Node, layer: fx.Node, whole: fx.Node) -> int:
    """Over how many of the decoder's patches the elements of one of the encoder's are strewn, at most; 0 where the cuts are the same."""
    x, out = bench.value(seat.node), bench.value(layer)
    count = out.shape[1]
    numbers = torch.arange(x[0].numel(), device=x.device, dtype=x.dtype).view_as(x[0]).expand_as(x)
    cut = bench.after({seat.node: numbers.clone()}, [patches])[patches][0].long()
    ranks = torch.linspace(-1, 1, count, device=out.device, dtype=out.dtype)
    joined = bench.after({layer: ranks[None, :, None].expand_as(out).clone()}, [whole])[whole][0].flatten()
    ours = torch.unique(joined, return_inverse=True)[1]
    whole_cut = torch.equal(cut.flatten().sort().values, torch.arange(len(ours), device=ours.device))  # none was rounded on its way
    if count < 2 or not whole_cut or len(ours.unique()) != count:
        return 0
    theirs = torch.empty_like(ours)
    theirs[cut.flatten()] = torch.arange(count, device=ours.device).repeat_interleave(cut.shape[1])
    strewn = max(len(ours[theirs == patch].unique()) for patch in range(count))
    straight = [bool((places.diff() >= 0).all()) for places in (theirs, ours)]
    if strewn == 1 or (straight != [False, True] and _all_boxes(ours, x.shape[1:]) and _all_boxes(theirs, x.shape[1:])):
        return 0  # rows that are read and columns that are put out are two cuts that both mean something
    return strewn


def _all_boxes(places: torch.Tensor, sizes: torch.Size) -> bool:
    """Whether each patch holds the same entries of one axis at all its entries of the others."""
    for patch in range(int(places.max()) + 1):
        inside = (places == patch).view(sizes)
        spans = [int(inside.movedim(axis, 0).flatten(1).any(1).sum()) for axis in range(inside.dim())]
        if int(inside.sum()) != torch.Size(spans).numel():
            return False
    return True


def _broken(bench: Bench, patches: fx.Node, layer: fx.Node, whole: fx.Node, apart: int) -> Broken:
    model = bench.model
    changes = list(back(whole, _LAYOUT | _ACTIVATIONS))[:-1]
    place = changes[-1] if changes else whole
    found = Found(
        model.where(place),
        label=f"{model.shape_text(layer)} becomes {model.shape_text(place)}: patches are laid out in another way than they were cut",
        labels=model.labels((patches, "cut into patches here")),
        shapes=(model.row(layer), model.row(place)),
        why=f"what the encoder reads as one patch is compared with elements of {apart} patches of the decoder: neighbours in the data "
        "are not neighbours for the model",
        help="undo the cut in reverse: view as (B, rows, columns, C, p, p), permute to (B, C, rows, p, columns, p), then reshape",
    )
    text = f"the elements of one patch come from up to {apart} patches of the decoder"
    return Broken("axes-reread", found, "elements of one patch come from one patch", text)
