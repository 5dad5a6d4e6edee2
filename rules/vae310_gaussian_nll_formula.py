"""The Gaussian likelihood of the decoder mixes variance and log-variance.

## What it does
For a likelihood with a learned variance, checks that the log term belongs to the variance that the squared error is
divided by, and that `gaussian_nll_loss` gets a variance and not a raw layer output. For counts, checks that a term with
the shape of a negative binomial is normalised as one: that its slope has mean 0 under it.

## Why is this bad
-log N(x; r, s^2) = (x - r)^2 / (2 s^2) + log s + const. With a log-variance instead of the variance nothing raises
(`gaussian_nll_loss` clamps it at 1e-6), and confident predictions are punished without bound or not at all.

## Formula
-log N(x; r, s^2) = (x - r)^2 / (2 s^2) + log s + log(2 pi) / 2; with v = log s^2: 0.5 * (v + (x - r)^2 exp(-v)) +
const.

Source: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution, eq. 3; Kingma &
Welling 2014, Auto-Encoding Variational Bayes, eq. 12.

## Example
    nll = F.gaussian_nll_loss(mean, x, logvar)
    nll = 0.5 * (logvar + (x - mean) ** 2 / torch.exp(0.5 * logvar))    # the variance is exp(logvar)
    nll = logvar + 0.5 * (x - mean) ** 2 / logvar.exp()                 # log s is half of it

## Use instead
    nll = F.gaussian_nll_loss(mean, x, logvar.exp())

## When to ignore
Never. A term that is a density with weight 1 is not reported, whatever its scale is called: e^2 / b^2 + log b is one with 2 s^2 = b^2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE310",
    "gaussian-nll-formula",
    Severity.ERROR,
    message="the decoder's likelihood is not a valid log-density",
    needs=("reconstruction",),
    basis="replay",
).on("likelihood.likelihood.nll_fault", "likelihood.likelihood.scale_of")
def check(
    model: Model, nll_fault: Callable[[ReconFact], tuple[fx.Node, str] | None], scale_of: Callable[[ReconFact], fx.Node | None]
) -> Findings:
    """Likelihoods whose variance and log term disagree."""
    for fact in model.recons:
        fault = nll_fault(fact)
        if fault is None:
            continue
        node, what = fault
        if fact.density is not None and fact.density.fault:
            yield Found(
                model.where(node),
                label=what,
                why="the slope of minus a log-density has mean 0 under that density; elsewhere training pulls the outputs off",
                help="log p(t) = lgamma(t + r) - lgamma(r) - lgamma(t + 1) + r log(r / (r + m)) + t log(m / (r + m)), mean m, dispersion r",
                claim=claims.SumsToOne("the sum of the probabilities of all counts moves with the decoder's outputs", fact=fact),
            )
            continue
        yield Found(
            model.where(node),
            label=what,
            labels=model.labels((scale_of(fact), "the variance")),
            why="the error and the log term must use the same variance, or the loss is not a likelihood and its optimum is wrong",
            help="use (x - r)^2 / (2 * var) + 0.5 * log(var), with var = logvar.exp()",
            repair=repairs.LikelihoodFormula(node=node, extra=fact.pair.extra),
            claim=claims.Kernel("the loss is not a Gaussian likelihood", fact=fact, scale=scale_of(fact)),
        )
