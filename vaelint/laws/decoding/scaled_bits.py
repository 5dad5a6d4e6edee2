"""Law A11, for binary data: what a Bernoulli likelihood is given is the data, not a multiple of it that differs from place to place.

Observed: data of zeros and ones, and the target that is made of it. Where the target is 0 wherever the data is, and several numbers below
1 where the data is 1, the decoder cannot call for the data: it learns the multiples, an encoder's normalisation, as probabilities.

Exempt are one number for all ones (smoothed labels), targets in which zeros have become numbers or that have another shape (blurred, pooled
or mixed data), and what is added on the diagonal of a matrix of pairs.

Source: Kipf & Welling 2016, Variational Graph Auto-Encoders, eq. 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.laws.addends import entered
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_APART = 0.02
_FEWEST = 4  # ones
_WHOLE = 0.2  # of the ones may have stayed


@law("bits-stay-bits", "a Bernoulli likelihood of zeros and ones is given zeros and ones", covered=("VAE306", "VAE309"))
def bits_stay_bits(bench: Bench) -> Iterator[Broken]:
    """Targets made of an input of zeros and ones, or of zeros and ones that were made of it: a symmetric copy, with self-loops."""
    flow = bench.model.flow
    for fact in bench.model.recons:
        target = fact.pair.target
        if fact.probe.kernel not in ("bce", "bce_with_logits") or target is None or target in flow.learned or not bench.knows(target):
            continue
        above = set(flow.ancestors(target)) - {target}
        if not any(n.op == "placeholder" and shape(n) == shape(target) for n in above):
            continue
        for given in (n for n in reversed(bench.model.record.graph.nodes) if n in above and shape(n) == shape(target) and bench.knows(n)):
            if (scaled := _scaled(bench.value(given), bench.value(target))) is not None:
                yield _broken(bench, fact, target, *scaled)
                return


def _scaled(data: torch.Tensor, target: torch.Tensor) -> tuple[float, float] | None:
    """The least and the largest number that has become of a one, where zeros have stayed."""
    if data.dim() > 1 and data.shape[-1] == data.shape[-2]:
        off = ~torch.eye(data.shape[-1], dtype=torch.bool, device=data.device).expand(data.shape)
        data, target = data[off], target[off]
    data, target = data.double(), target.double()
    on = data == 1
    if not bool((on | (data == 0)).all()) or int(on.sum()) < _FEWEST or bool(on.all()) or bool((target[~on] != 0).any()):
        return None
    least, most = float(target[on].min()), float(target[on].max())
    stayed = float((target[on] > 1 - _APART).double().mean())
    return (least, most) if 0 < least < most - _APART and most <= 1 and stayed <= _WHOLE else None


def _broken(bench: Bench, fact: ReconFact, target: fx.Node, least: float, most: float) -> Broken:
    model, made = bench.model, target
    while ops.op(made) in ops.SHAPE | ops.CAST and len(inputs := ops.value_inputs(made)) == 1:
        made = inputs[0]
    found = Found(
        entered(made, fact.pair.meet) or model.where(fact.pair.meet),
        label="zeros and ones are held to as fractions",
        labels=model.labels((made, "the ones become fractions here"), (fact.pair.meet, "compared with them here")),
        why="the decoder learns the fractions as probabilities: a one that is certain is called unlikely, more so beside many others",
        help="scale what the encoder reads alone, and give the likelihood the zeros and ones",
    )
    text = f"ones of the data are {least:.3g} to {most:.3g} in the target, zeros are 0"
    return Broken("wrong-target", found, "a Bernoulli likelihood of zeros and ones is given zeros and ones", text)
