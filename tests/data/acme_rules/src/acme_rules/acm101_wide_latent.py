"""The latent has as many numbers as the data.

## What it does
Counts the numbers of one sample's latent, and of what its reconstruction is compared with.

## Why is this bad
Our decoders go to devices that get the latent over the air: it has to be smaller than what it stands for.

## Example
    vae = VAE(input_dim=784, latent_dim=784)

## Use instead
    vae = VAE(input_dim=784, latent_dim=20)

## When to ignore
In studies of what the KL leaves unused.
"""

from vaelint.rule import Findings, Found, Model, Severity, rule


@rule(
    "ACM101",
    "wide-latent",
    Severity.WARNING,
    message="the latent is no smaller than the data",
    needs=("site", "reconstruction"),
    url="https://acme.example/vae/ACM101",
)
def check(model: Model) -> Findings:
    """Draws with as many elements as what is reconstructed, or more."""
    target = model.recons[0].pair.target
    if target is None:  # the reconstruction is compared with nothing that has a place in the code
        return
    for site in model.gaussian_sites:
        if model.elements(site.z) < model.elements(target):
            continue
        yield Found(
            model.where(site.z),
            label=f"z: {model.shape_text(site.z)}",
            labels=model.labels((target, "")),
            shapes=(model.row(site.z, name="z"), model.row(target, name="data")),
            why="what goes over the air has to be smaller than what it stands for",
            help="give the model fewer latent dimensions",
        )
