"""The loss never reaches some parameters.

## What it does
Walks back from the loss along everything that carries a gradient, and reports the layers it never meets: never
called, called with a result that nothing uses, or replaced by another layer that is called twice. A layer that
another method of the class uses, or whose result is returned, is only an info. Parameters without `requires_grad`,
those that the step updates in place, and those behind a `detach` are left alone, but for two kinds: a parameter of
the model of which only the value is ever used (`self.temperature.item()`), and a prior: a network that outputs a mean
and a scale of the posterior's shape, which the KL does not use, or detaches, or that runs without a gradient, as the
pseudo-inputs of a VampPrior under `no_grad`. It is reported at the KL, or where it is cut off.

## Why is this bad
These parameters keep their random initial values. If the layer was meant to do something (a head, an adapter, one of
two stages), the model is not the one intended.

## Example
    self.adapter = nn.Linear(latent, latent)
    ...
    return self.decoder(z)

## Use instead
    return self.decoder(self.adapter(z))

## When to ignore
When the layer is there for something that this step does not do, such as generation or a later stage of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.gradients.idle_prior import IdlePrior
    from vaelint.faults.gradients.unreached import Unreached
    from vaelint.faults.gradients.unused_prior import UnusedPrior


@rule(
    "VAE501",
    "unreached-parameter",
    Severity.WARNING,
    message="the loss never reaches these parameters",
    needs=("loss",),
    basis="shapes",
).on("gradients.idle_prior.idle_priors", "gradients.unreached.unreached", "gradients.unused_prior.unused_priors")
def check(model: Model, idle_priors: list[IdlePrior], unreached: list[Unreached], unused_priors: list[UnusedPrior]) -> Findings:
    """Each layer of which nothing is reached."""
    quantised = {name for book in model.codebooks for name in book.names}
    told = {name for prior in unused_priors for name in prior.parameters}  # the rule on priors that the KL leaves out says so
    for prior in idle_priors:
        names = [name for layer in prior.layers for name in layer.parameters]
        told |= set(names)
        if not prior.cut and unused_priors:
            continue
        first = prior.layers[0]
        yield Found(
            prior.place or model.where(prior.node),
            label="the prior's parameters are cut off from the gradient here"
            if prior.cut
            else "holds the posterior against another prior than the one that was computed",
            labels=(Label(first.span, f"{first.path} is made here"),) if first.span else (),
            why="no term trains this prior: it still has its random initial values when you sample",
            notes=(f"without gradient: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}",),
            help="remove the detach, or add a term that moves the prior" if prior.cut else "give the KL the mean and scale of the prior",
            facts={"parameters": names},
            claim=claims.GradientReaches("no gradient arrives at these parameters", parameters=names),
        )
    for layer in unreached:
        if (quantised | told) & set(layer.parameters):
            continue  # the codes have a rule of their own
        yield Found(
            layer.instead or layer.span or layer.called,
            label=f"{layer.path}: {layer.why}",
            labels=(Label(layer.span, f"{layer.path} is made here"),)
            if layer.instead and layer.span
            else (Label(layer.called, "called here"),)
            if layer.called and layer.span
            else (),
            why="they keep their random initial values",
            notes=(f"without gradient: {', '.join(layer.parameters[:6])}{' ...' if len(layer.parameters) > 6 else ''}",),
            help="use the layer on the way to the loss, or remove it",
            facts={"parameters": list(layer.parameters)},
            claim=claims.GradientReaches("no gradient arrives at these parameters", parameters=list(layer.parameters)),
            severity=None if layer.certain else Severity.INFO,
        )
