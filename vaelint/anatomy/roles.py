"""What each tensor of the model's output is: mu, logvar, std, z, the reconstruction, an input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.model import Model
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back


def roles_of(model: Model) -> Callable[[torch.Tensor], str | None]:
    """A function from a tensor of the recorded run to its role, found in the graph; None where the graph says nothing."""
    roles: dict[fx.Node, str] = {node: f"input:{name}" for name, node in model.record.inputs.items()}
    decoded = layered_nodes(model.flow, model.sites)
    sizes = [shape(n) for n in model.record.inputs.values()]
    for site in model.sites:
        for head in site.mu_heads:
            roles.setdefault(head, "mu")
        if site.mu is not None:
            roles.setdefault(site.mu, "mu")
        for head in site.scale_heads:
            roles.setdefault(head, "std" if head is site.scale else "logvar")
        if site.scale is not None:
            roles.setdefault(site.scale, "std")
        roles.setdefault(site.z, "z")
        for node in model.flow.descendants(*site.scale_heads) & model.flow.ancestors(site.scale) if site.scale is not None else ():
            roles.setdefault(node, "std" if ops.op(node) in ("softplus", "sqrt") else "logvar")

    def role_of(tensor: torch.Tensor) -> str | None:
        node = model.record.node_for(tensor)
        if node is None:
            return None
        if node in roles:
            return roles[node]
        if node in decoded and any(shape(node) == s or shape(node)[:1] == s[:1] for s in sizes):
            return "recon"
        return next((roles[seen] for seen in back(node, ops.SHAPE | ops.CAST) if seen in roles), None)

    return role_of
