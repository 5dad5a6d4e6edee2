"""Law C2, for couplings: between them, the layers of a flow move every coordinate.

Intervention: the weights of all layers are moved, as layers that start as the identity move nothing. Where a draw goes through two layers
of one kind or more, each of which holds a part of the coordinates, prediction: no coordinate is held by all of them, or the others are
bent more by each layer. Where some are held by all, and the others are shifted and scaled by what is held alone, any number of such layers
is one of them.

Exempt: a single coupling; layers that add no volume to the loss (they are no flow); draws of more than two axes; layers that bend the rest
(splines), which a condition on the held part may be meant by.

Source: Dinh et al. 2017, Density estimation using Real NVP, section 3.5: components that are left unchanged in one coupling layer are
updated in the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_MOVED = 0.3
_FEWEST = 4  # coordinates
_STRAIGHT = 1e-6


@law("flows-move-all", "some layer of a flow moves each coordinate", covered=("VAE427", "VAE514"), cost="replay")
def flows_move_all(bench: Bench) -> Iterator[Broken]:
    """Draws that several layers of one kind take and give back in the same shape."""
    model = bench.model
    if not model.has_loss:
        return
    for site in model.sites:
        if len(shape(site.z)) != 2 or shape(site.z)[1] < _FEWEST:
            continue
        try:
            found = _held_by_all(bench, site)
        except ReplayError as error:
            raise CannotMeasureError(f"the flow does not run by itself: {message_of(error)}") from error
        if found is not None:
            yield _broken(bench, site, *found)
            return


def _held_by_all(bench: Bench, site: Site) -> tuple[fx.Node, Sequence[str], list[int]] | None:
    """The end of a chain of layers, their paths, and the coordinates that none of them moves."""
    model, flow = bench.model, bench.model.flow
    ends = _ends(bench, site)
    owners = dict.fromkeys(str(n.meta.get("module") or "") for n in ends)
    if len(owners) < 2:
        return None
    sizes = dict(model.symbols)
    numbers = [n for n in flow.ancestors(*ends, stop={site.z}) if n.op == "get_attr" and n.meta.get("parameter")]
    own = model.replay(numbers, {}, sizes)
    generator = torch.Generator().manual_seed(17)
    put = {n: v.detach() + _MOVED * torch.randn(v.shape, dtype=v.dtype, generator=generator) for n, v in own.items()}
    put[site.z] = torch.randn(model.replay.shape_of(site.z, sizes), dtype=torch.float64, generator=generator)
    got = model.replay(ends, put, sizes)
    held = {n: (got[n] == put[site.z]).all(0) for n in ends}
    chain = [n for n in ends if bool(held[n].any()) and not bool(held[n].all())]
    last = next((n for n in reversed(ends) if not bool(held[n].all())), None)
    layers = [path for path in owners if any(n.meta.get("module") == path for n in chain) and _adds_volume(bench, path, ends)]
    kinds = {type(c.module) for c in model.record.calls if c.path in layers}
    if last is None or last not in chain or len(layers) < 2 or len(kinds) != 1 or not _is_one_layer(bench, site, last, put, held[last]):
        return None
    return last, layers, torch.nonzero(held[last]).flatten().tolist()


def _is_one_layer(bench: Bench, site: Site, last: fx.Node, put: dict[fx.Node, torch.Tensor], held: torch.Tensor) -> bool:
    """Whether all the layers do what one of them does: given what is held, the rest goes through a line, which lines make a line of."""
    model, z = bench.model, put[site.z]
    by = torch.where(held, 0.0, 1.0).to(z)
    here, one, two = (model.replay([last], {**put, site.z: z + k * by}, dict(model.symbols))[last] for k in range(3))
    return float((two - 2 * one + here).abs().max()) <= _STRAIGHT * float((one - here).abs().max())


def _ends(bench: Bench, site: Site) -> list[fx.Node]:
    """Values of the draw's own shape that layers made of it, in order, on the way to the loss; a layer's last one alone."""
    flow = bench.model.flow
    last: dict[str, fx.Node] = {}
    for node in flow.sorted(flow.descendants(site.z) & bench.model.reaching_loss):
        path = str(node.meta.get("module") or "")
        if path and bench.is_real(node) and shape(node) == shape(site.z) and ops.op(node) in ops.ADD | ops.MUL | ops.JOIN | ops.SELECT:
            last[path] = node
    between = {p: n for p, n in last.items() if any(ops.uses_parameter(a) for a in flow.ancestors(n, stop={site.z}))}
    return flow.sorted(set(between.values()))


def _adds_volume(bench: Bench, path: str, ends: list[fx.Node]) -> bool:
    """Whether something that is computed within a layer reaches the loss beside what the layers hand on."""
    loss = bench.model.record.loss
    assert loss is not None
    beside = bench.model.flow.ancestors(loss, stop=set(ends)) - set(ends)
    return any(
        str(n.meta.get("module") or "").startswith(path) and n in bench.model.flow.learned and n.op == "call_function" for n in beside
    )


def _broken(bench: Bench, site: Site, last: fx.Node, layers: Sequence[str], held: list[int]) -> Broken:
    model = bench.model
    shown = ", ".join(str(d) for d in held[:6]) + (", ..." if len(held) > 6 else "")
    found = Found(
        model.chosen_at(layers[1]) or model.where(last),
        label=f"{len(layers)} layers hold the same coordinates",
        labels=model.labels((last, f"coordinates {shown} are here what was drawn"), (site.z, "drawn here")),
        shapes=(model.row(last),),
        why="they do together what one of them does: the others are shifted and scaled by what is held, which stays as it was drawn",
        help="let every second layer hold the other half: a mask of parity i % 2, or z.flip(1) between the layers",
    )
    text = f"with all weights moved, {len(held)} of {shape(site.z)[1]} come out of {len(layers)} layers as they went in, the rest on a line"
    return Broken("coordinates-unmoved", found, "some layer moves each coordinate", text)
