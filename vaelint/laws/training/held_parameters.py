"""Law B1, for what an optimizer holds: it holds the model that is trained, not one of before.

Measured on a step that runs as it is: a parameter of the model that has a gradient and is in no optimizer, while an optimizer holds
parameters that the model has no longer, is where another one was when the optimizer was made.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("optimizers-hold-the-model", "an optimizer holds the parameters that the model has", covered=("VAE504", "VAE505"), cost="all")
def optimizers_hold_the_model(bench: Bench) -> Iterator[Broken]:
    """Steps that make their optimizers themselves."""
    if bench.is_observed or not any(o.in_step for o in bench.model.record.optimizers):
        return
    record = bench.trained
    made = [o for o in record.optimizers if o.in_step]
    held = {i for o in record.optimizers for i in o.parameters}
    now = {id(p): name for name, p in record.model.named_parameters()}
    others = {id(p) for guest in record.guests for p in guest.parameters()}
    gone = [o for o in made if not o.parameters <= now.keys() | others]
    missed = [n for n, p in record.model.named_parameters() if p.requires_grad and p.grad is not None and id(p) not in held]
    if not gone or not missed or gone[0].span is None:
        return
    stale = len(gone[0].parameters - now.keys() - others)
    found = Found(
        gone[0].span,
        label=f"made before {', '.join(missed[:2])}{' ...' if len(missed) > 2 else ''} came into the model",
        why=f"{len(missed)} parameters get a gradient and are never updated; the optimizer moves {stale} that the model has no longer",
        help="change the model first, then make the optimizer",
        facts={"parameters": missed},
    )
    text = f"{len(missed)} trained parameters are in no optimizer, and {stale} that it holds are in no model"
    yield Broken("optimizer-misses-parameters", found, "the optimizer holds what the model has", text)
