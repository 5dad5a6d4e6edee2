"""Proposals for the findings of a target. None of them is offered before a check of the edited source has spoken for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from vaelint.anatomy.model import Model
from vaelint.core.edits import Proposal, suggestion
from vaelint.core.finding import Finding
from vaelint.faults.gradients import gradient_repairs  # noqa: F401  registers
from vaelint.faults.kl import (
    kl_repairs,  # noqa: F401  registers
    scale_repairs,  # noqa: F401  registers
)
from vaelint.faults.likelihood import likelihood_repairs  # noqa: F401  registers
from vaelint.faults.numerics import tensor_repairs  # noqa: F401  registers
from vaelint.faults.sampling import (
    noise_repairs,  # noqa: F401  registers
    posterior_repairs,  # noqa: F401  registers
)
from vaelint.faults.shapes import shape_repairs  # noqa: F401  registers
from vaelint.faults.shapes.shape_repairs import sizes_that_fit, split_features
from vaelint.faults.shapes.shapes_claims import SplitFeatures
from vaelint.faults.workbench import Bench, proposed
from vaelint.record.record import Record, span
from vaelint.replay.replay import ReplayError
from vaelint.source.written import Source

MOST = 24
"""Proposals for one finding: each costs a check."""


def proposals(model: Model, findings: Iterable[Finding]) -> dict[str, list[dict[str, Any]]]:
    """By the fingerprint of the finding: its proposals as JSON, best first. Edits after which a file is no Python are left out."""
    bench = Bench(model.record, model.source, model)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        if finding.repair is None:
            continue
        try:
            made = _whole(bench, proposed(bench, finding.repair))
        except ReplayError:  # a question to the graph that it does not answer: no repair is known
            made = []
        if made:
            found[finding.fingerprint] = made
    return found


def with_sure_fixes(model: Model, findings: Sequence[Finding]) -> list[Finding]:
    """The findings, those whose repair is sure with its likeliest edit: the one that `--diff` tries first."""
    sure = [f for f in findings if f.repair is not None and f.repair.sure]
    likeliest = {name: Proposal.from_json(made[0]) for name, made in proposals(model, sure).items()}
    lines = {name: suggestion(model.source.file(next(iter(p.files))).text, p) for name, p in likeliest.items()}
    return [replace(f, fix=lines[f.fingerprint]) if f.fingerprint in lines else f for f in findings]


def proposals_for_failure(record: Record, source: Source, findings: Sequence[Finding]) -> dict[str, list[dict[str, Any]]]:
    """The same for a step that raised: there is no model to ask."""
    bench = Bench(record, source, None)
    if record.failure is None or not findings:
        return {}
    at = next((n for n in record.nodes if span(n) == findings[0].span and n.all_input_nodes), None)
    split = split_features(bench, SplitFeatures(at, at.all_input_nodes[0])) if at is not None else ()
    made = _whole(bench, itertools.chain(sizes_that_fit(bench), split))
    return {findings[0].fingerprint: made} if made else {}


def _whole(bench: Bench, proposed: Iterable[Proposal]) -> list[dict[str, Any]]:
    seen: set[Proposal] = set()
    kept: list[dict[str, Any]] = []
    for proposal in proposed:
        if proposal not in seen and all(bench.code(f).changed(proposal.edits) for f in proposal.files):
            kept.append(proposal.to_json())
        seen.add(proposal)
        if len(kept) == MOST:
            break
    return kept
