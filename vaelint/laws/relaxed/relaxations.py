"""Law C6: a relaxed draw gets logits, and what pulls codes and what pulls the encoder have the weights that their names say.

Measured on the values and gradients of the run: scores that are a distribution already were normalised once before.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.rule import Found

_EXACT = 1e-5
_LARGEST = 2.0  # van den Oord et al. 2017, section 3.2: the results did not vary for a commitment of 0.1 to 2.0


@law("relaxed-draws-get-logits", "a relaxed draw gets logits, not probabilities", covered=("VAE305", "VAE318", "VAE319"))
def relaxed_draws_get_logits(bench: Bench) -> Iterator[Broken]:
    """Draws of gumbel_softmax whose scores lie between 0 and 1 and add up to 1, for every sample."""
    for site in bench.model.sites:
        if (classes := classes_of_shares(bench, site)) and site.mu is not None:
            yield _given_probabilities(bench, site, site.mu, classes)


def classes_of_shares(bench: Bench, site: Site) -> int:
    """How many classes the scores of a relaxed draw are the shares of; 0 where they are free numbers."""
    scores = site.mu
    if site.kind != "categorical" or scores is None or bench.model.op(site.z) != "gumbel_softmax" or not bench.knows(scores):
        return 0
    axis = _axis(bench, site)
    val = bench.value(scores).double()
    shares = val.shape[axis] > 1 and bool((val >= 0).all()) and bool(((val.sum(axis) - 1).abs() < _EXACT).all())
    return val.shape[axis] if shares else 0


def _axis(bench: Bench, site: Site) -> int:
    own = bench.base.node(site.z)
    given = own.kwargs.get("dim", own.args[4] if len(own.args) > 4 else -1)
    return given if isinstance(given, int) else -1


def _given_probabilities(bench: Bench, site: Site, scores: fx.Node, classes: int) -> Broken:
    model = bench.model
    sharpest = torch.tensor([1.0] + [0.0] * (classes - 1)).softmax(0)[0]
    found = Found(
        model.where(site.z),
        label=f"{model.written(scores)} is a distribution already",
        labels=model.labels((scores, "normalised here, and once more in the draw")),
        why=f"the draw follows softmax(probabilities): of {classes} classes none is ever drawn with more than {float(sharpest):.2f}, "
        "however sure the posterior is, and the KL is that of another distribution than the draw",
        help="give the draw the logits: F.gumbel_softmax(logits, tau)",
    )
    text = f"between 0 and 1, and they add up to 1 over {classes} classes"
    return Broken("softmax-of-bounded-scores", found, "scores are free real numbers", text)


@law("commitment-below-codebook", "the pull on the encoder is at most twice the pull on the codes", covered=("VAE505", "VAE508", "VAE510"))
def commitment_below_codebook(bench: Bench) -> Iterator[Broken]:
    """The two halves of a quantisation loss, each by the gradient it gives."""
    model = bench.model
    leaves = [leaf.node for term in model.terms if term.role == "vq" and term.detached is None for leaf in term.leaves]
    for book in codebooks_of(model):
        if not book.names or not leaves or not bench.knows(book.code):
            continue
        encoded = [f for term in model.terms if term.role == "vq" for leaf in term.leaves for f in leaf.frontier if _is_encoded(bench, f)]
        encoded = [f for f in dict.fromkeys(encoded) if bench.knows(f)]
        if len(encoded) != 1 or len({n for n in leaves if bench.knows(n)}) < 2:
            continue
        pulls = [_pull(bench, leaf, encoded[0], book.code) for leaf in leaves if bench.knows(leaf)]
        on_encoder, on_codes = (float(sum(p[i] for p in pulls)) for i in (0, 1))
        if on_codes > 0 and on_encoder > _LARGEST * on_codes * (1 + 1e-3):
            strongest = max(zip(leaves, pulls, strict=False), key=lambda pair: pair[1][0])[0]
            yield _exchanged(bench, strongest, leaves, on_encoder / on_codes)
            return


def _is_encoded(bench: Bench, node: fx.Node) -> bool:
    flow = bench.model.flow
    return (
        node in flow.data
        and node in flow.learned
        and bench.is_real(node)
        and not any(node in flow.descendants(book.code) for book in codebooks_of(bench.model))
    )


def _pull(bench: Bench, leaf: fx.Node, encoded: fx.Node, code: fx.Node) -> tuple[float, float]:
    """The size of the gradient that one addend, as it is weighed in the loss, gives the encoder and the codes."""
    base = bench.base
    value, loss = base.value(leaf), base.loss
    if not value.requires_grad:
        return 0.0, 0.0
    weight = base.gradient(loss, [value])[0]
    if weight is None:
        raise CannotMeasureError("the weight of the addend is not known")
    found = base.gradient((value * weight.detach()).sum(), [base.value(encoded), base.value(code)])
    sizes = [0.0 if g is None else float(g.double().norm()) for g in found]
    return sizes[0], sizes[1]


def _exchanged(bench: Bench, leaf: fx.Node, leaves: list[fx.Node], ratio: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(leaf),
        label=f"pulls at the encoder {ratio:.3g} times as hard as the codes are pulled",
        labels=model.labels(*((n, "the other half") for n in leaves if n is not leaf and shape(n) == shape(leaf))),
        why="the encoder runs after codes that hardly move: the small weight is on the wrong term",
        help="codebook: mse(codes, z.detach()) with weight 1; commitment: beta * mse(z, codes.detach()) with beta about 0.25",
    )
    text = f"{ratio:.3g} times"
    return Broken("commitment-above-codebook", found, f"the encoder is pulled at most {_LARGEST:g} times as hard as the codes", text)
