"""What the observed iterations show as curves: terms, beta, gradients, the KL of each latent dimension. Nothing is run again.

A point is drawn where it was seen: an iteration whose recorded operations are those of the first that was checked. What could not be seen
is said in `missing`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.loss.describe import KL_WORDS
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.model import Model
from vaelint.anatomy.posterior.noise import divides
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.result import Request, TargetResult
from vaelint.observe.seen import Iteration
from vaelint.observe.session import Session
from vaelint.pipeline.over_time.beta_schedule import schedule_of
from vaelint.pipeline.seen_models import loss_at
from vaelint.record import ops
from vaelint.record.record import ancestors, name_of

INACTIVE = 0.01
"""Nats below which a latent dimension is called inactive: the posterior is then the prior but for 0.01 nats, whatever the input."""

_DIMENSIONS = 512  # that are kept
_KLS = ("exact", "monte_carlo", "sign", "sampled")


class _Unseen(Exception):
    """A value that an iteration does not show."""


class _Points:
    """The values of the checked iteration's nodes in another one, which ran the same operations."""

    def __init__(self, model: Model, checked: Iteration, other: Iteration) -> None:
        both = zip(checked.record.graph.nodes, other.record.graph.nodes, strict=False)
        shared = itertools.takewhile(lambda pair: _kind(pair[0]) == _kind(pair[1]), both)
        self._twin: dict[str, fx.Node] = {old.name: new for old, new in shared}  # what comes after the loss may differ
        if model.record.loss is None or model.record.loss.name not in self._twin:
            raise _Unseen

    def node(self, node: fx.Node) -> fx.Node:
        """The node there. Raises _Unseen."""
        found = self._twin.get(node.name)
        if found is None:
            raise _Unseen
        return found

    def value(self, node: fx.Node) -> torch.Tensor:
        """Its value there. Raises _Unseen."""
        value = self.node(node).meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise _Unseen
        return value.detach()

    def contribution(self, part: fx.Node, chain: Sequence[fx.Node]) -> float:
        """What a part adds to the loss there: its value, through the linear operations above it, with all other parts left out.

        Args:
            chain: those operations, from the loss down. Raises _Unseen.
        """
        child, value = self.node(part), self.value(part)
        for above in reversed(chain):
            node = self.node(above)
            if node.op != "call_function" or child not in node.all_input_nodes or not callable(node.target):
                raise _Unseen
            sums = ops.op(node) in ops.ADD
            args, kwargs = (self._filled(part, child, value, sums) for part in (node.args, node.kwargs))
            try:
                value = node.target(*args, **kwargs)
            except (RuntimeError, TypeError, ValueError):
                raise _Unseen from None
            if not isinstance(value, torch.Tensor):
                raise _Unseen
            child = node
        if value.numel() != 1:
            raise _Unseen
        return float(value)

    def _filled(self, part: Any, child: fx.Node, value: torch.Tensor, sums: bool) -> Any:
        """Arguments with the addend's value in its place, and nothing in the place of other addends."""
        if isinstance(part, fx.Node):
            if part is child:
                return value
            own = part.meta.get("val")
            if not isinstance(own, torch.Tensor | int | float | bool):
                raise _Unseen
            return (torch.zeros_like(own) if isinstance(own, torch.Tensor) else 0) if sums else own
        if isinstance(part, dict):
            return {k: self._filled(v, child, value, sums and k in ("input", "other")) for k, v in part.items()}
        if isinstance(part, list | tuple):
            return type(part)(self._filled(v, child, value, sums) for v in part)
        return 0 if sums and isinstance(part, int | float) and not isinstance(part, bool) else part


def _kind(node: fx.Node) -> tuple[str, str]:
    return node.op, name_of(node.target) if node.op == "call_function" else ""


def make_curves(session: Session, request: Request, model: Model, result: TargetResult) -> dict[str, Any]:
    """The curves of a model that a run trained, in plain values: `$defs.curves` of schema.json.

    Args:
        result: of the model, with its loss: terms and their weights, and the effective beta.
    """
    checked, missing = session.trainings[0].iterations[0], list[str]()
    seen: list[tuple[Iteration, _Points]] = []
    for iteration in session.curve:
        if iteration.cut:
            missing.append(f"iteration {iteration.number}: it ran with a smaller batch, to see what moves with the batch")
            continue
        try:
            seen.append((iteration, _Points(model, checked, iteration)))
        except _Unseen:
            missing.append(f"iteration {iteration.number}: it took another way through the code")
    made: dict[str, Any] = {"iterations": [i.number for i, _ in seen], "observed": session.done}
    made["terms"] = terms = _terms(model, seen, missing)
    at = _weighed(terms, made["iterations"], checked.number)
    loss = result.loss if at == checked.number else loss_at(session, request, next(i for i, _ in seen if i.number == at), result.target)
    _name(terms, loss, at)
    made["beta"] = _beta(terms, made["iterations"], at, loss, missing)
    made["schedule"] = schedule_of([i for i, _ in seen], made["beta"]) if made["beta"] else None
    made["gradients"] = _gradients(model, [i for i, _ in seen], missing)
    made["kl"] = [c for site in model.sites if (c := _kl(model, site, seen, missing)) is not None]
    if not session.stopped:
        return made | {"ended": True, "missing": missing}
    if made["schedule"] is None and len({b for b in made["beta"] if b is not None}) > 1:
        missing.append(f"beta after iteration {session.done}: how the script makes it of a counter of steps or epochs cannot be followed")
    missing.append(f"what comes after iteration {session.done}: the run was ended there; --steps {4 * session.steps} observes more")
    return made | {"ended": False, "missing": missing}


def _terms(model: Model, seen: Sequence[tuple[Iteration, _Points]], missing: list[str]) -> list[dict[str, Any]]:
    """Each term: what it adds to the loss, and what one of its addends is multiplied with."""
    made = []
    for term in model.terms:
        parts = _parts(term, [t for t in model.terms if t is not term])
        values: list[float | None] = []
        scales: list[float | None] = []
        leaf = _largest(term, seen)
        for _, points in seen:
            try:
                value = sum(points.contribution(part, chain) for part, chain in parts.items())
                factor, raw = points.contribution(leaf.node, leaf.chain), float(points.value(leaf.node).sum())
            except _Unseen:
                values.append(None)
                scales.append(None)
                continue
            values.append(_plain(value))
            scales.append(_plain(factor / raw) if raw else None)
        if all(v is None for v in values):
            missing.append(f"the {term.role} term: its way to the loss cannot be followed in the record")
            continue
        made.append({"role": term.role, "values": values, "scales": scales})
    return made


def _largest(term: Term, seen: Sequence[tuple[Iteration, _Points]]) -> Leaf:
    """The addend by which a term's weight is followed. It is one for all iterations: the addends of a KL have different signs."""

    def least(leaf: Leaf) -> float:
        try:
            return min((abs(float(points.value(leaf.node).sum())) for _, points in seen), default=0.0)
        except _Unseen:
            return -1.0

    return max(term.leaves, key=least)


def _weighed(terms: Sequence[dict[str, Any]], numbers: list[int], checked: int) -> int:
    """The iteration by which weights are named: the checked one, or the last where a term of it has no weight yet, as in a warm-up."""
    at = numbers.index(checked) if checked in numbers else 0
    if all(t["scales"][at] for t in terms):
        return checked
    return next((n for i, n in reversed(list(enumerate(numbers))) if all(t["scales"][i] for t in terms)), checked)


def _name(terms: Sequence[dict[str, Any]], loss: dict[str, Any], at: int) -> None:
    """Adds kernel and weight of each term, as the loss of iteration `at` has them."""
    rows = {row["role"]: row for row in reversed(loss.get("terms", ()))}
    for term in terms:
        row = rows.get(term["role"], {})
        weight = f"{'-' if row.get('sign') == '-' else ''}{row.get('weight', '')}"
        term |= {"kernel": row.get("kernel", ""), "weight": weight, "at": at}


def _parts(term: Term, others: Sequence[Term]) -> dict[fx.Node, tuple[fx.Node, ...]]:
    """The largest parts of the loss that are of one term alone, constants included, with the operations above each, from the loss down."""
    shared = {node for other in others for leaf in other.leaves for node in (*leaf.chain, leaf.node)}
    found: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for leaf in term.leaves:
        way = (*leaf.chain, leaf.node)
        at = next((i for i, node in enumerate(way) if node not in shared), len(way) - 1)
        found[way[at]] = way[:at]
    return found


def _beta(terms: list[dict[str, Any]], numbers: list[int], named: int, loss: dict[str, Any], missing: list[str]) -> list[float | None]:
    """The effective beta of each iteration: that of iteration `named`, times how the weights of its terms differ."""
    known = (loss.get("beta") or {}).get("value")
    by_role = {role: [t for t in terms if t["role"] == role] for role in ("kl", "reconstruction")}
    if known is None or named not in numbers or any(len(t) != 1 for t in by_role.values()):
        missing.append("beta: no single effective beta was measured")
        return []
    at = numbers.index(named)
    kl, recon = by_role["kl"][0]["scales"], by_role["reconstruction"][0]["scales"]
    if not kl[at] or not recon[at]:
        missing.append("beta: a term has no weight in any iteration that was seen")
        return []
    return [_plain(known * (k / kl[at]) / (r / recon[at])) if k is not None and r else None for k, r in zip(kl, recon, strict=True)]


def _gradients(model: Model, seen: Sequence[Iteration], missing: list[str]) -> dict[str, list[float | None]]:
    """The norm of all gradients of encoder and decoder, before the step."""
    heads = [n for s in model.sites for n in (s.mu, s.scale) if n is not None]
    latent = {s.z for s in model.sites}
    encoder = _parameters(ancestors(*heads)) if heads else set()
    behind = ancestors(model.record.loss) if model.record.loss is not None else set()
    after: set[fx.Node] = set()
    for node in model.record.graph.nodes:
        if node in latent or after.intersection(node.all_input_nodes):
            after.add(node)
    decoder = _parameters({i for n in after & behind for i in n.all_input_nodes}) - encoder
    made: dict[str, list[float | None]] = {}
    for name, own in (("encoder", encoder), ("decoder", decoder)):
        norms = [_norm(i, own) for i in seen]
        if any(n is not None for n in norms):
            made[name] = norms
        else:
            missing.append(f"gradients of the {name}: none were seen before a step")
    return made


def _parameters(nodes: set[fx.Node]) -> set[str]:
    return {str(n.target) for n in nodes if n.op == "get_attr" and n.meta.get("parameter")}


def _norm(iteration: Iteration, names: set[str]) -> float | None:
    found = [g for name, g in iteration.gradients.items() if name in names]
    return _plain(math.sqrt(sum(g * g for g in found))) if found else None


def _kl(model: Model, site: Site, seen: Sequence[tuple[Iteration, _Points]], missing: list[str]) -> dict[str, Any] | None:
    """The KL of each latent dimension to N(0, 1), the batch's mean, and the share of inactive dimensions."""
    where = model.written(site.z)
    fact = next((k for k in model.kls if k.site is site), None)
    if site.mu is None or site.scale is None or site.kind != "gaussian" or fact is None or fact.probe.verdict not in _KLS:
        kind = (
            KL_WORDS.get(fact.probe.verdict, fact.probe.verdict) if fact is not None else f"a {site.kind} posterior without a measured KL"
        )
        missing.append(f"the KL of each dimension of {where}: {kind}")
        return None
    values: list[list[float] | None] = []
    for _, points in seen:
        try:
            mu, scale = points.value(site.mu).double(), points.value(site.scale).double()
            if divides(site, model.flow):
                scale = 1 / scale
            each = 0.5 * (mu**2 + scale**2 - 1) - scale.abs().log()  # Kingma and Welling (2014), appendix B
        except (_Unseen, RuntimeError):
            values.append(None)
            continue
        values.append([_plain(v) or 0.0 for v in each.mean(0).flatten().tolist()] if each.ndim > 1 else None)
    known = [v for v in values if v]
    if not known or len({len(v) for v in known}) != 1:
        missing.append(f"the KL of each dimension of {where}: its mean and scale were not seen, or changed in size")
        return None
    inactive = [sum(d < INACTIVE for d in v) / len(v) if v else None for v in values]
    count = len(known[0])
    if count > _DIMENSIONS:
        missing.append(f"{count - _DIMENSIONS} of the {count} dimensions of {where}; the inactive share is of all")
        values = [v[:_DIMENSIONS] if v else None for v in values]
    return {"site": where, "dimensions": count, "values": values, "inactive": inactive, "bar": INACTIVE}


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
