"""A layer runs in the step but is not registered in the model.

## What it does
Reports modules that run in the step, hold trainable parameters, and are not among `model.parameters()`: kept in a
plain list, dict or tuple, in a closure or an object that is not a module, created in `forward`, or kept outside the
model although the reconstruction uses them; and tensors that ask for a gradient, kept as plain attributes or in lists
and dicts.

## Why is this bad
The optimizer does not get their parameters, `.to(device)` does not move them, and `state_dict()` does not save them.

## Example
    self.layers = [nn.Linear(a, b) for a, b in pairs]

## Use instead
    self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

## When to ignore
When a fixed network is hidden from the model on purpose; then its parameters should not require a gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from torch import fx

    from vaelint.faults.gradients.unregistered import Unknown


@rule(
    "VAE502",
    "unregistered-module",
    Severity.ERROR,
    message="a trained layer or tensor is not registered in the model",
    basis="shapes",
).on("gradients.unregistered.unknown_layers", "gradients.unregistered.unknown_tensors")
def check(model: Model, unknown_layers: list[Unknown], unknown_tensors: list[tuple[fx.Node, str, Span | None]]) -> Findings:
    """Each unregistered module, where it is made."""
    lines = set()
    for layer in unknown_layers:
        primary = layer.kept or layer.made or layer.called
        if primary is None or (primary.file, primary.line) in lines:
            continue
        lines.add((primary.file, primary.line))
        yield Found(
            primary,
            label=f"{layer.count} parameters that model.parameters() does not hold",
            labels=tuple(
                Label(s, t)
                for s, t in ((layer.made, "made here"), (layer.called, "called here"))
                if s is not None and s.line != primary.line
            ),
            why="no optimizer gets them, .to(device) leaves them behind, state_dict() forgets them",
            help=f"make {layer.plain} an nn.Module"
            if layer.plain
            else "keep it in an nn.ModuleList or nn.ModuleDict, or as an attribute of its own",
            repair=None if layer.plain else repairs.RegisterLayers(place=primary),
            claim=claims.Registered("its parameters are not among model.parameters()"),
        )
    for node, name, made in unknown_tensors:
        yield Found(
            made or model.where(node),
            label=f"{name} gets a gradient, and model.parameters() does not hold it",
            why="no optimizer gets it, .to(device) leaves it behind, state_dict() forgets it",
            help=f"self.{name} = nn.Parameter(...), or an nn.ParameterList; a buffer if it is not to be trained",
            claim=claims.Registered("it is not among model.parameters()"),
        )
