"""The decoder sees what it should predict.

## What it does
Runs the decoder twice with z held and one token changed: the prediction of that very token must not move. Teacher
forcing shows the tokens before it only. The same for the steps of a series, where a step is predicted from those before
it: there no later step moves an earlier prediction.

## Why is this bad
A decoder that reads the token it should predict copies it: the reconstruction falls to zero, z is ignored, the
posterior collapses, and generation (where the token is not known) fails.

## Formula
p(x|z) = prod_t p(x_t | x_<t, z): x_t is on the left of the bar only.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3; Williams & Zipser 1989 (teacher
forcing).

## Example
    logits = self.decoder(self.emb(tokens), z)                 # reads token t
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="sum")

## Use instead
    logits = self.decoder(self.emb(tokens[:, :-1]), z)         # reads the tokens before
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")

## When to ignore
When the decoder is meant to see the whole input, as in denoising of masked tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.likelihood.class_axis import OffClasses


@rule(
    "VAE317",
    "target-leak",
    Severity.ERROR,
    message="the decoder sees what it should predict",
    needs=("site", "reconstruction"),
).on(
    "likelihood.class_axis.off_classes",
    "likelihood.leak.leaked_tokens",
    "likelihood.leak.shown_steps",
    "likelihood.leak.where_it_enters",
    "likelihood.leak.where_it_is_handed",
    "likelihood.leak.where_steps_are_cut",
)
def check(
    model: Model,
    off_classes: list[OffClasses],
    leaked_tokens: Callable[[ReconFact], fx.Node | None],
    shown_steps: Callable[[ReconFact], tuple[fx.Node, int] | None],
    where_it_enters: Callable[[ReconFact, fx.Node], fx.Node | None],
    where_it_is_handed: Callable[[ReconFact, fx.Node], Span | None],
    where_steps_are_cut: Callable[[ReconFact, fx.Node], Span | None],
) -> Findings:
    """Decoders of tokens and of series whose prediction moves with its own target while z is held."""
    crossed = {found.reader for found in off_classes}
    for fact in model.recons:
        if fact.pair.meet in crossed:
            continue  # its softmax runs over the steps: the rule on that says so
        tokens = leaked_tokens(fact)
        steps = shown_steps(fact) if tokens is None else None
        if tokens is not None:
            enters = where_it_enters(fact, tokens)
            handed = enters is None or (tokens in model.flow.ancestors(enters) and not enters.meta["val"].is_floating_point())
            yield Found(
                model.where(enters) if enters is not None else where_it_is_handed(fact, tokens) or model.where(fact.pair.meet),
                label="each prediction sees its own target" if handed else "from here on each place sees the token it is to predict",
                labels=model.labels((fact.pair.recon, "these logits move with the token they predict, z held")),
                why="the decoder can copy: it needs no z, and cannot generate",
                help="give the decoder the tokens before the one to predict: tokens[:, :-1] against tokens[:, 1:]"
                if handed
                else "give the attention its causal mask: place t may see the places up to t",
                claim=claims.TargetLeak("the prediction of a token moves with that token", fact=fact, tokens=tokens),
            )
        elif steps is not None:
            given, axis = steps
            yield Found(
                where_steps_are_cut(fact, given) or model.where(fact.pair.meet),
                label="each step sees its own target",
                labels=model.labels((fact.pair.recon, "these predictions move with the step they predict, z held")),
                why="the decoder can copy: it needs no z, and cannot generate",
                help="give the decoder the steps before the one to predict: x[:, :-1] against x[:, 1:], or a start value in front",
                claim=claims.StepLeak("the prediction of a step moves with that step", fact=fact, given=given, axis=axis),
            )
