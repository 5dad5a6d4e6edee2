"""Findings about the scale of the objective, in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Repair
from vaelint.core.finding import Severity, ShapeRow
from vaelint.core.sign import Found
from vaelint.faults.kl.kl_claims import Balance, GradientRatio, KlHalf
from vaelint.faults.kl.scale_verdicts import ScaleVerdict

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def scale_found(model: Model, verdict: ScaleVerdict, *, label: str, why: str, help: str) -> Found:
    """Fills the rule's sentences with reductions and numbers; severity info for named weights and twice the ELBO."""
    beta = verdict.beta
    kl, recon = beta.kl, beta.recon
    assert kl.scaling is not None and recon.scaling is not None
    words = {
        "kl": f"KL: {kl.scaling.reduction(kl.latent)}",
        "recon": f"reconstruction: {recon.scaling.reduction(recon.event)}",
        "beta": f"{beta.scaling.text()} = {beta.value:.6g}" if beta.scaling.text() != f"{beta.value:.6g}" else f"{beta.value:.6g}",
    }
    at = ", ".join(f"{k}={v}" for k, v in model.symbols.items() if beta.scaling.exponents.get(k))
    notes = [f"effective beta = {words['beta']}" + (f" at {at}" if at else "")]
    if beta.variance is not None:
        notes.append(f"read as a Gaussian likelihood, the loss is the exact ELBO of a decoder with variance {abs(beta.variance):.4g}")
    if verdict.explicit:
        notes.append("a weight multiplies the KL: taken as chosen")
    return Found(
        model.pointed(verdict.node),
        label=label.format(**words),
        labels=model.labels(
            (kl.term.core, f"KL, weight {kl.scaling.text()}"), (recon.pair.meet, f"reconstruction, weight {recon.scaling.text()}")
        ),
        shapes=(
            ShapeRow("reconstruction", (recon.scaling.text(),), "weight of one element"),
            ShapeRow("KL", (kl.scaling.text(),), "weight of one latent"),
            ShapeRow("KL / reconstruction", (beta.scaling.text(),), "in the ELBO: 1"),
        ),
        why=why.format(**words),
        help=help,
        notes=tuple(notes),
        facts={
            "beta": beta.value,
            "expression": beta.scaling.text(),
            "at_any_batch": beta.scaling.exponents.get("B", 0.0) == 0.0,
            "kl_weight": kl.scaling.text(),
            "reconstruction_weight": recon.scaling.text(),
        },
        claim=GradientRatio(f"KL over reconstruction = {beta.value:.6g} times the ELBO's", beta=beta)
        if kl.inside is None
        else None,  # below its capacity the KL is pushed the other way
        severity=Severity.INFO if verdict.explicit or verdict.is_twice_the_elbo else None,
        repair=_repair(verdict),
    )


def _repair(verdict: ScaleVerdict) -> Repair | None:
    """How the balance comes right; a weight that someone has chosen is theirs to judge."""
    if verdict.explicit or verdict.fault == "literal":
        return None
    if verdict.fault == "half":
        return KlHalf(core=verdict.beta.kl.term.core)
    return Balance(verdict=verdict)
