"""In evaluation mode z is the mean plus a constant multiple of the scale.

## What it does
Runs the step in evaluation mode and looks at the decoder's input: the mean or a draw is right; the mean plus one
standard deviation is not.

## Why is this bad
The reconstruction at test time is off by one standard deviation in every component: a bias that never shows in
training. One library had it for years.

## Example
    eps = torch.randn_like(std) if self.training else torch.ones_like(std)
    return mu + eps * std

## Use instead
    eps = torch.randn_like(std) if self.training else torch.zeros_like(std)
    return mu + eps * std

## When to ignore
When decoding at a fixed quantile is intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.evaluation import Biased


@rule(
    "VAE214",
    "biased-eval",
    Severity.ERROR,
    message="in evaluation mode z is the mean plus a multiple of the scale",
    needs=("gaussian",),
).on("sampling.evaluation.biased_evaluation")
def check(model: Model, biased_evaluation: list[Biased]) -> Findings:
    """The evaluation run adds the scale without a draw."""
    for biased in biased_evaluation:
        yield Found(
            biased.span,
            label=f"z = mu + {biased.multiple:.3g} * std in evaluation mode",
            labels=model.labels((biased.site.z, "the draw of training mode")) if biased.other_place else (),
            why="reconstructions at test time are off by a multiple of the standard deviation, which training never sees",
            help="return mu in evaluation mode, or draw there too",
            repair=repairs.NoBiasInEval(place=biased.span),
            claim=claims.EvalOffset(
                "z - mu is a fixed multiple of the scale in evaluation mode", site=biased.site, multiple=biased.multiple
            ),
        )
