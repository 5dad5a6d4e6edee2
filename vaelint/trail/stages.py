"""Which stage of a variational autoencoder each node belongs to, and what the values of interest are called. From the graph alone."""

from __future__ import annotations

from torch import fx

from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.model import Model
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back

STAGES = ("input", "encoder", "heads", "reparameterization", "decoder", "network", "loss", "other")
"""In the order of the way from input to loss. `network` stands for all layers where nothing is drawn; `other` is what the loss
does not depend on."""


def stage_of_nodes(model: Model) -> dict[fx.Node, str]:
    """The stage of each call of the record."""
    flow, record = model.flow, model.record
    stage: dict[fx.Node, str] = dict.fromkeys(record.inputs.values(), "input")
    sites = model.sites + model.idle_sites

    def claim(nodes: set[fx.Node], name: str) -> None:
        for n in nodes:
            if n.op == "call_function":
                stage.setdefault(n, name)

    heads = {h for s in sites for h in s.heads}
    zs = {s.z for s in sites}
    above_z = flow.ancestors(*zs) if zs else set()
    from_heads = flow.descendants(*heads) if heads else set()
    claim(zs | ((from_heads - heads) & above_z) | {n for s in sites for n in s.region & above_z - heads}, "reparameterization")
    claim({n for s in sites for e in s.noise for n in flow.ancestors(e) if n in flow.pure_noise or n in flow.random}, "reparameterization")
    claim({n for h in heads for n in _with_layer(h)}, "heads")
    if heads:
        before = flow.ancestors(*heads) - flow.descendants(*zs)
        claim(before, "encoder")
    recons = {r.pair.recon for r in model.recons}
    if zs:
        below = flow.descendants(*zs)
        layered = layered_nodes(flow, sites)
        if recons:
            claim(_towards(recons, model) & (below | flow.learned), "decoder")
        elif not model.has_loss:
            claim(below - zs, "decoder")
        else:  # no comparison is known: what a layer made of z, as far as layers go
            claim({n for n in _above_layers(model, below) if n in layered or n in below}, "decoder")
    elif recons or not model.has_loss:
        claim(_towards(recons, model) if recons else set(flow.order), "network")
    else:
        claim(_above_layers(model, set(flow.order)), "network")
    if record.loss is not None:
        claim(flow.ancestors(record.loss), "loss")
    claim(set(flow.order), "other")
    return stage


def _towards(recons: set[fx.Node], model: Model) -> set[fx.Node]:
    """What the reconstructions are computed from."""
    return model.flow.ancestors(*recons)


def _above_layers(model: Model, among: set[fx.Node]) -> set[fx.Node]:
    """What leads to an operation with parameters."""
    layers = [n for n in among if n.op == "call_function" and ops.uses_parameter(n)]
    return model.flow.ancestors(*layers) & among if layers else set()


def _with_layer(head: fx.Node) -> list[fx.Node]:
    """A raw head with the way back to the layer that put it out: through selections, shapes and casts."""
    found: list[fx.Node] = []
    for node in back(head, ops.SHAPE | ops.CAST | ops.SELECT):
        found.append(node)
        if ops.uses_parameter(node):
            return found
    return [head]


def part_of_loss(model: Model, stage: dict[fx.Node, str]) -> dict[fx.Node, str]:
    """Of the nodes of the loss, the term that each belongs to; nodes that several terms share, or none, are left out."""
    found: dict[fx.Node, set[str]] = {}
    for term in model.terms:
        if term.role == "constant":
            continue
        for leaf in term.leaves:
            for node in {*model.flow.ancestors(leaf.node), *leaf.chain}:
                if stage.get(node) == "loss":
                    found.setdefault(node, set()).add(term.role)
    return {n: next(iter(roles)) for n, roles in found.items() if len(roles) == 1}


def names_of_roles(model: Model) -> dict[fx.Node, str]:
    """mu, logvar (or what the head of the scale is), std, eps, z, reconstruction and loss, where they are found."""
    roles: dict[fx.Node, str] = {}
    if model.record.loss is not None:
        roles[model.record.loss] = "loss"
    for site in model.sites + model.idle_sites:
        roles.setdefault(site.z, "z")
        if site.mu is not None and site.mu is not site.z:
            roles.setdefault(site.mu, "mu")
        if site.scale is not None:
            roles.setdefault(site.scale, "std" if shape(site.scale) == shape(site.z) else "scale")
        for head in site.scale_heads:
            name = model.parameterisation(site).name if model.record.failure is None else "scale head"
            roles.setdefault(head, name if name not in ("identity", "unknown") else "scale head")
        for noise in site.noise[:1]:
            if noise is not site.z:
                roles.setdefault(noise, "eps")
    for fact in model.recons:
        roles.setdefault(fact.pair.recon, "reconstruction")
    return roles
