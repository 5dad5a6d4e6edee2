"""A layer gets a tensor of another dtype than its weights.

## What it does
Reports products and layers (`linear`, `matmul`, convolutions) whose operands are of two types, and where the odd one
began: a float64 array of numpy, an input of whole numbers, a tensor turned to half precision. Regions of autocast are
left alone.

## Why is this bad
torch refuses: "mat1 and mat2 must have the same dtype". numpy's arrays are float64 by default, and integers have no
gradient.

## Example
    eps = torch.from_numpy(np.random.randn(*mu.shape))    # float64
    z = mu + std * eps
    return self.decoder(z)                                # float32 weights

## Use instead
    eps = torch.randn_like(mu)

## When to ignore
Never: it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.dtypes import Mixed


@rule(
    "VAE604",
    "dtype-mismatch",
    Severity.ERROR,
    message="a layer gets a tensor of another dtype than its weights",
    basis="shapes",
).on("numerics.dtypes.mismatches")
def check(model: Model, mismatches: list[Mixed]) -> Findings:
    """The first operation that refuses."""
    for mixed in mismatches:
        odd, own = mixed.odd_type, mixed.own_type
        begun, layer = mixed.begun, model.where(mixed.node)
        whose = "an input" if mixed.origin.op == "placeholder" else "a value"
        clash = f"{model.written(mixed.odd)} is {odd}, {model.written(mixed.partner)} is {own}"
        written = f"{model.written(mixed.origin)}.to(torch.{own})"
        numpys = mixed.unasked and begun is not None  # the fault lies where it is made, and not at the layer
        other, text = (layer, f"refused here: {clash}") if numpys else (begun, f"{odd} from here on")
        yield Found(
            begun if numpys else layer,
            label="float64, numpy's default" if numpys else clash,
            labels=(Label(other, text),) if other is not None else (),
            why="torch does not multiply tensors of two types",
            notes=(f"it began with {whose}: {model.written(mixed.origin)}",),
            help=f"if your data is {own}, drop :{odd} from --input; if it is {odd}, write {written} before it is used"
            if mixed.given
            else f"turn it into {own}: {written} before it is used",
            facts={"type": odd, "own": own},
            claim=claims.Raises("it raises for the two types", node=mixed.node),
        )
