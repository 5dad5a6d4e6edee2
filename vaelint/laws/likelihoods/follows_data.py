"""Law C2, for the direction: what the likelihood pulls a reconstruction to hangs on the data.

Intervention: a reconstruction that is bounded as its data are takes values between the two bounds, with all of the data near the lower
bound, then near the upper one. Prediction: somewhere data at the upper bound pull it up and data at the lower one pull it down. Where both
pull the same way at every value, one half of the formula has the wrong sign: the error is least at one bound, whatever the data are.

Asked are terms that no known formula was recognised in, made of one output of the decoder that has the bounds of the data; anything else
that a decoder puts out (a scale, a dispersion) may be pulled one way by all data.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.reconstruction.recon import recon_gradient
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.likelihood.likelihood import target_range
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.replay.ranges import value_range
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_BETWEEN = (0.03, 0.15, 0.35, 0.5, 0.65, 0.85, 0.97)
_ENDS = (0.02, 0.98)
_SAME = 0.02  # of the width: bounds that are drawn in by a clamp are the data's


@law(
    "likelihoods-follow-the-data",
    "data at the upper bound pull the reconstruction up, data at the lower one pull it down",
    covered=("VAE303", "VAE304", "VAE307", "VAE308", "VAE309", "VAE311", "VAE331"),
    cost="replay",
)
def likelihoods_follow_the_data(bench: Bench) -> Iterator[Broken]:
    """Reconstructions element by element, of data whose range is declared."""
    reasons: list[str] = []
    for fact in bench.model.recons:
        if fact.probe.kernel not in ("other", "unknown") or fact.term.detached is not None or not _is_asked(bench, fact):
            continue
        try:
            pulls = _pulls(bench, fact)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if pulls is not None and (all(p > 0 for p in pulls) or all(p < 0 for p in pulls)):
            yield _broken(bench, fact, up=pulls[0] < 0)
            return
    if reasons:
        raise CannotMeasureError(f"the reconstruction does not run by itself: {reasons[0]}")


def _is_asked(bench: Bench, fact: ReconFact) -> bool:
    """Whether the reconstruction is one output with the bounds of its data."""
    pair, model = fact.pair, bench.model
    if pair.target is None or pair.extra or len(pair.raw) != 1 or shape(pair.recon) != shape(pair.target):
        return False
    data, reach = target_range(model, fact), value_range(model, pair.recon)
    if data is None or reach is None or not all(map(math.isfinite, (*data, reach.low, reach.high))):
        return False
    width = data[1] - data[0]
    return width > 0 and abs(reach.low - data[0]) < _SAME * width and abs(reach.high - data[1]) < _SAME * width


def _pulls(bench: Bench, fact: ReconFact) -> list[float] | None:
    """The gradients at values between the bounds, for data near either; None where one is 0 or no number."""
    model, data = bench.model, target_range(bench.model, fact)
    loss = model.record.loss
    if loss is None or data is None:
        return None
    found = []
    for end in _ENDS:
        for share in _BETWEEN:
            fill = tuple(data[0] + s * (data[1] - data[0]) for s in (share, end))
            _, _, gradient = recon_gradient(
                fact.pair, fact.term, loss, model.replay, model.record.sizes, {}, fill=(fill[0], fill[1]), apart=False
            )
            pull = float(gradient.sum()) if gradient is not None else 0.0
            if pull == 0 or not math.isfinite(pull):
                return None
            found.append(pull)
    return found


def _broken(bench: Bench, fact: ReconFact, *, up: bool) -> Broken:
    model = bench.model
    way = "up" if up else "down"
    found = Found(
        model.where(fact.term.core) or model.where(fact.pair.meet),
        label=f"pulls the output {way}, whatever the data are",
        labels=model.labels((fact.pair.recon, "this output"), (fact.pair.target, "the data")),
        why="one part of the likelihood has the wrong sign: the loss is least where every output is at one bound, and has no lower bound",
        help="-(x * log(p) + (1 - x) * log(1 - p)) is the cross-entropy; F.binary_cross_entropy_with_logits has it right",
    )
    text = f"at {len(_BETWEEN)} outputs between the bounds, data at either end pull {way}"
    return Broken("recon-sign", found, "data at the upper bound pull up, data at the lower one down", text)
