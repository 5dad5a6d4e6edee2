"""Law A2, within attention: a key that a sample's length leaves out is inert, and one that it leaves in is not.

Intervention: the keys and values beyond each sample's length, then one within it, take other values; the outputs of the other steps are
looked at. Of weights that are worked out by hand (a softmax) the weights themselves are read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_MOVED = 1e-5
_PREFIX = 2  # steps that a model puts in front of the data's: a summary, a label

_KERNELS = frozenset({"multi_head_attention_forward", "scaled_dot_product_attention"})

Reach = tuple[bool, bool]
"""Whether keys beyond the length, and keys within it, have an effect."""


@law("attention-sees-what-is-there", "attention reads the steps within a sample's length, and none beyond it", covered=("VAE312", "VAE323"))
def attention_sees_what_is_there(bench: Bench) -> Iterator[Broken]:
    """Each attention whose mask is made of an input that counts lengths."""
    for lengths in bench.of_kind("lengths"):
        masks = bench.model.flow.descendants(lengths.node)
        for node in bench.model.flow.sorted(masks & bench.model.reaching_loss):
            reach = _reach(bench, lengths, node, masks)
            if reach == (True, False) or (reach is not None and reach[0] and ops.op(node) in _KERNELS):  # weights may be masked later on
                yield _broken(bench, lengths, node, inverted=not reach[1])
                return


def _reach(bench: Bench, lengths: Seat, node: fx.Node, masks: set[fx.Node]) -> Reach | None:
    """What an attention reads; None for anything else."""
    name = ops.op(node)
    if name in ("softmax", "_safe_softmax"):
        return _of_weights(bench, lengths, node)
    if name not in _KERNELS:
        return None
    keys = node.args[1] if len(node.args) > 2 else None
    if (
        not isinstance(keys, fx.Node)
        or not bench.knows(keys)
        or not any(i in masks and i not in node.args[:3] for i in node.all_input_nodes)
    ):
        return None
    return _of_kernel(bench, lengths, node, 0 if name.startswith("multi") else -2)


def _of_kernel(bench: Bench, lengths: Seat, node: fx.Node, axis: int) -> Reach | None:
    """Moves keys and values of torch's own attention; its queries only where they are the same values."""
    sources = [n for n in dict.fromkeys(node.args[1:3]) if isinstance(n, fx.Node)]
    batch = 1 if axis == 0 else 0
    places = _beyond(bench, lengths, shape(sources[0])[axis], shape(sources[0])[batch])
    outputs = [u for u in node.users if ops.op(u) == "getitem" and shape(u)] if not shape(node) else [node]
    if places is None or not outputs or not bench.knows(outputs[0]):
        return None
    beyond, within = places
    before = _out(bench, outputs[0], axis, batch, bench.same(sources))
    if before.shape[1] != beyond.shape[1]:
        before_kept = torch.ones(before.shape[:2], dtype=torch.bool)  # other queries: all of their outputs count
    found = []
    for changed in (beyond, within):
        put = {n: _moved(bench.value(n), changed, axis, batch) for n in sources}
        moved = (_out(bench, outputs[0], axis, batch, put) - before).abs().amax(-1) > _MOVED
        kept = before_kept if before.shape[1] != beyond.shape[1] else ~(beyond | changed)
        found.append(bool((moved & kept)[beyond.any(1)].any()))
    return found[0], found[1]


def _out(bench: Bench, output: fx.Node, axis: int, batch: int, put: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    """An attention's output, samples first, then steps."""
    value = bench.after(put, [output])[output].movedim((batch, axis), (0, 1))
    return value.reshape(*value.shape[:2], -1)


def _moved(value: torch.Tensor, place: torch.Tensor, axis: int, batch: int) -> torch.Tensor:
    """Keys or values, elsewhere at some steps of some samples."""
    turned = value.movedim((batch, axis), (0, 1))
    other = turned.roll(1, -1) * 1.5 + float(value.std())
    return torch.where(place.reshape(*place.shape, *[1] * (turned.dim() - 2)), other, turned).movedim((0, 1), (batch, axis))


def _beyond(bench: Bench, lengths: Seat, steps: int, samples: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The steps beyond each sample's length, and the first step within it, in front of which others may stand."""
    counts = bench.value(lengths.node)
    front = steps - int(lengths.along or 0)
    if not 0 <= front <= _PREFIX or samples != len(counts):
        return None
    at = torch.arange(steps, device=counts.device)[None]
    beyond = (at >= counts[:, None] + front) & (counts > 1)[:, None]  # of a sample of one step nothing is left that could be moved
    return (beyond, (at == front).expand(beyond.shape)) if bool(beyond.any()) else None


def _of_weights(bench: Bench, lengths: Seat, node: fx.Node) -> Reach | None:
    """Reads weights that add up to 1 over the steps of each sample."""
    if not bench.knows(node) or bench.batch_axis(node) != 0 or bench.base.node(lengths.node) is None:
        return None
    weights = bench.value(node)
    for axis in range(1, weights.dim()):
        places = _beyond(bench, lengths, weights.shape[axis], weights.shape[0])
        if places is None or not torch.allclose(weights.sum(axis), torch.ones(()).to(weights), atol=1e-3):
            continue
        beyond, _ = places
        over = weights.movedim(axis, 1).flatten(2).amax(-1) if weights.dim() > 2 else weights
        short = beyond.any(1)
        return bool((over[short] > _MOVED)[beyond[short]].any()), bool((over[short] > _MOVED)[~beyond[short]].any())
    return None


def _broken(bench: Bench, lengths: Seat, node: fx.Node, *, inverted: bool) -> Broken:
    model = bench.model
    name = lengths.name
    way = model.flow.descendants(lengths.node) & model.flow.ancestors(node)
    made = next((n for n in model.flow.sorted(way) if getattr(n.meta.get("val"), "dtype", None) is torch.bool), None)
    found = Found(
        model.where(node),
        label="attends to what is beyond the length" + (", and to nothing within it" if inverted else ""),
        labels=model.labels((made, f"what counts, made of {name}")),
        when=f"{name} differ",
        why="the steps of a sample are made of padding: " + ("none sees another step of its own" if inverted else "it weighs as data does"),
        help="a key_padding_mask is true where a key is left out (~valid); a float mask is -inf there; "
        "scaled_dot_product_attention takes true for what counts",
    )
    if inverted:
        text = "other keys beyond the length move the steps within it, another key within it moves no other step"
        return Broken("mask-inverted", found, "attention reads the keys within the length", text)
    return Broken("padding-not-inert", found, "keys beyond the length are inert", "other keys beyond the length move the steps within it")
