"""Law B2, for turns: an optimizer's step follows the gradients of its own turn.

Observed on the step as it runs: one loss is computed and differentiated for one optimizer, which steps and clears its gradients; what that
pass left in other parameters is still there when the same loss, computed anew with the moved weights, is differentiated for theirs.
Exempt are passes of one loop, which may add up on purpose, and passes of different losses.

Source: He et al. 2019, Lagging Inference Networks and Posterior Collapse in Variational Autoencoders, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.core.finding import Label
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("steps-follow-their-own-turn", "a step follows the gradients of its own turn", covered=("VAE511", "VAE907", "VAE911"), cost="all")
def steps_follow_their_own_turn(bench: Bench) -> Iterator[Broken]:
    """Steps with several passes of one loss and several optimizers."""
    if len(bench.model.record.backwards) < 2:
        return
    record = bench.trained
    stale = next((u for u in record.uses if u.kind == "stale"), None)
    if stale is None:
        return
    at = record.uses.index(stale)
    step = next((u.place for u in record.uses[:at][::-1] if u.kind == "stepped" and u.of & stale.of), None)
    own = next((c.span for c in reversed(record.backwards[: stale.passes]) if c.moved & stale.of), None)
    cleared = next((u.place for u in record.uses[:at][::-1] if u.kind == "cleared" and u.place is not None and not u.of & stale.of), None)
    labels = ((stale.place, "leaves them here"), (own, "adds the gradients of the same loss to them"), (step, "steps along all together"))
    found = Found(
        cleared or stale.place,
        label="clears none of the gradients that the next step uses",
        labels=tuple(Label(place, text) for place, text in labels if place is not None),
        why="they were computed for another optimizer, with weights that it has moved since, and nothing clears them: the step of these "
        "parameters is as many times too large as there were turns",
        help="clear the gradients of all that the loss reaches before each pass, not only of those that the next step moves",
    )
    text = f"{len(stale.of)} parameters hold the gradients of several turns when their optimizer steps"
    yield Broken("gradients-pile-up", found, "a step follows the gradients of its own turn", text)
