"""The reconstruction is compared with something that is not the data.

## What it does
Follows the target of the reconstruction term back: it should be an input. Reports targets with Gaussian noise added
that the encoder saw too, targets that are another sample of the batch (`x.flip(0)`, `x[torch.randperm(len(x))]`),
models whose only comparison is with a constant or with their own output, and likelihoods of counts with a learned
dispersion that are given logarithms or shares of the counts (the law `counts-are-counted`). Of several decoders, each
must be held to an input of its own (the law `a-decoder-has-one-target`), and a token that was replaced at random for the
decoder's input is not a target (the law `targets-are-not-drawn`), nor are ones that the encoder's
normalisation made fractions (the law `bits-stay-bits`).

## Why is this bad
A denoising model that is compared with its corrupted input learns to reproduce the noise; compared with itself or a
constant it learns nothing about the data.

## Formula
-log p(x|r): x is the clean data, also where the encoder is given x plus noise.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3; Vincent et al. 2008, Extracting and Composing
Robust Features with Denoising Autoencoders, section 2.3.

## Example
    noisy = x + 0.3 * torch.randn_like(x)
    recon, mu, logvar = model(noisy)
    loss = F.mse_loss(recon, noisy, reduction="sum")

## Use instead
    noisy = x + 0.3 * torch.randn_like(x)
    recon, mu, logvar = model(noisy)
    loss = F.mse_loss(recon, x, reduction="sum")

## When to ignore
When noise on the data is the data: dequantisation with uniform noise, and Gaussian noise on chosen columns alone, are not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.likelihood.exchanged import Exchanged
    from vaelint.faults.likelihood.itself import Itself
    from vaelint.faults.likelihood.targets import Corruption


@rule(
    "VAE306",
    "wrong-target",
    Severity.ERROR,
    message="the reconstruction is compared with something that is not the data",
    needs=("loss",),
).on(
    "likelihood.targets.wrong_target",
    "likelihood.targets.chosen_at",
    "likelihood.exchanged.exchanged_targets",
    "likelihood.targets.self_targets",
    "likelihood.itself.with_itself",
)
def check(
    model: Model,
    wrong_target: Callable[[ReconFact], Corruption | None],
    chosen_at: Callable[[ReconFact], Span | None],
    exchanged_targets: list[Exchanged],
    self_targets: list[Corruption],
    with_itself: list[Itself],
) -> Findings:
    """Targets with noise in them, other samples, constants, the model's own output."""
    for fact in model.recons:
        wrong = wrong_target(fact)
        if wrong is None:
            continue
        yield Found(
            chosen_at(fact),
            label=wrong.what,
            labels=model.labels((wrong.draw, "noise is drawn here"), (fact.pair.meet, "compared here")),
            repair=repairs.CleanTarget(place=chosen_at(fact), meet=fact.pair.meet, target=fact.pair.target),
            why="the model is rewarded for reproducing the noise it was given",
            help="compare with the clean input",
            claim=claims.SameValues(
                "the target differs from the input", nodes=[fact.pair.target, *model.record.inputs.values()], equal=False
            ),
        )
    for other in exchanged_targets:
        yield Found(
            model.where(other.node),
            label="the target is another sample",
            labels=model.labels((other.fact.pair.meet, "compared here with the reconstruction of another sample")),
            when="B > 1",
            why="each reconstruction is made from one sample and compared with another: the best one is the same for all",
            help="compare each sample with its own input; to reverse time, flip the time axis, not the batch",
            claim=claims.PoisonRow("changing one sample changes the target of another", node=other.node),
        )
    for own in self_targets:
        yield Found(
            model.where(own.node),
            label=own.what,
            labels=model.labels((own.draw, "the target")),
            why="no term compares the reconstruction with the data: nothing makes it resemble the input",
            help="compare the reconstruction with the input",
            claim=claims.DataBehindEncoder("the loss sees the data through the encoder only"),
        )
    yield from _made_of_itself(model, with_itself)


def _made_of_itself(model: Model, with_itself: list[Itself]) -> Findings:
    """Comparisons of a value with itself."""
    for same in with_itself:
        yield Found(
            model.where(same.node),
            label="both sides are the same values",
            labels=model.labels((same.one, ""), (same.other, "")),
            why="the term is 0 whatever the parameters are: nothing makes the reconstruction resemble the input",
            help="compare the reconstruction with the input",
            claim=claims.SameValues("both sides are equal", nodes=[same.one, same.other], equal=True),
        )
