"""Repairs of the balance of the objective: over which sizes KL and reconstruction are summed, over which averaged."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.core.edits import Edit, Proposal
from vaelint.faults.kl.kl_claims import Balance
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.source.spot import Spot, propose

Change = tuple[str, Edit]


@repair(Balance)
def balance(bench: Bench, wanted: Balance) -> Iterator[Proposal]:
    """Reductions that make the effective beta 1, tried from the one that the verdict points at."""
    verdict = wanted.verdict
    kl_leaf, recon_leaf = verdict.beta.kl.term.leaves[0], verdict.beta.recon.pair.leaf
    kl = list(_sums(bench, kl_leaf, verdict.beta.kl.term.core, "KL"))
    recon = list(_sums(bench, recon_leaf, verdict.beta.recon.pair.meet, "reconstruction"))
    if verdict.fault == "twice":
        for says, edit in _undivided(bench, verdict.node):
            yield from propose(says, edit)
    if verdict.fault == "batch":
        for says, edit in _by_batch(bench, verdict.node, "KL"):
            yield from propose(says, edit)
    first, second = (recon, kl) if verdict.fault == "data" else (kl, recon)
    for says, edit in (*first, *second):
        yield from propose(says, edit)
    for says, edit in _by_batch(bench, verdict.beta.recon.pair.meet, "reconstruction"):
        yield from propose(says, edit)
    for (says, one), (also, two) in ((r, k) for r in recon for k in kl):
        yield from propose(f"{says}; {also}", one, two)


def _sums(bench: Bench, leaf: Leaf, core: fx.Node | None, what: str) -> Iterator[Change]:
    """Sums in the place of the averages of a term, with the batch averaged or not."""
    seen = set()
    for node in (*reversed(leaf.chain), leaf.node, core):
        spot = bench.spot(node) if node is not None else None
        if node is None or spot is None or span(node) in seen:
            continue
        seen.add(span(node))
        name = ops.op(node)
        if name in ops.LOSSES:
            yield from _loss_sums(bench, node, spot, what)
        elif name in ("mean", "nanmean", "sum", "nansum"):
            yield from _reduction_sums(bench, node, spot, what)


def _loss_sums(bench: Bench, node: fx.Node, spot: Spot, what: str) -> Iterator[Change]:
    """A loss of torch that sums, with or without a division by the batch."""
    mode, rows = spot.keyword("reduction"), bench.batch_tensor(bench.scope(node))
    if mode is not None and mode.text.strip("\"'") in ("mean", "sum"):
        if "mean" in mode.text:
            yield f"sums the {what} over its elements", mode.to('"sum"')
        whole = spot.text.replace(mode.text, '"sum"') if spot.text.count(mode.text) == 1 else ""
    elif mode is None and spot.called == ops.op(node):
        added = spot.with_argument('reduction="sum"')
        if added is not None:
            yield f"sums the {what} over its elements", added
        whole = spot.text[:-1].rstrip().rstrip(",") + ', reduction="sum")'
    else:
        made = bench.record.births.get(next((id(c.module) for c in bench.record.calls if c.path == node.meta.get("module")), 0))
        layer = bench.spot(made) if made is not None else None
        if layer is not None and layer.keyword("reduction") is None and (added := layer.with_argument('reduction="sum"')) is not None:
            yield f"sums the {what} over its elements", added
        return
    if rows and whole:
        yield f"sums the {what} over the data and averages it over the batch", spot.to(f"{whole} / {rows}.size(0)")


def _reduction_sums(bench: Bench, node: fx.Node, spot: Spot, what: str) -> Iterator[Change]:
    """The other reduction, over the axes that are a sample's own."""
    source, dims = node.args[0] if node.args else None, ops.dims_of(node)
    if not isinstance(source, fx.Node) or dims is None or spot.called not in ("mean", "sum", "nanmean", "nansum"):
        return
    texts = bench.model.dims(source)
    own = [d for d in range(len(texts)) if "B" not in texts[d] and shape(source)[d] > 1]
    over_batch = any("B" in texts[d] for d in dims)
    rows = bench.batch_tensor(bench.scope(node))
    given = spot.argument(1, "dim", "axis")
    if "mean" in spot.called and not (over_batch and len(dims) == 1):
        if over_batch and rows:
            start = spot.span
            summed = _renamed(spot, "sum")
            yield f"sums the {what} over the sample and averages it over the batch", Edit(start, f"{summed} / {rows}.size(0)")
        yield f"sums the {what} over {', '.join(texts[d] for d in dims)}", spot.named("sum")
    if given is not None and own and list(dims) != own:
        written = str(own[0]) if len(own) == 1 else f"[{', '.join(map(str, own))}]" if given.text.startswith("[") else str(tuple(own))
        yield f"reduces the {what} over {', '.join(texts[d] for d in own)}", given.to(written)
        if "mean" in spot.called:
            renamed = _renamed(spot, "sum")
            if renamed.count(given.text) == 1:
                yield f"sums the {what} over {', '.join(texts[d] for d in own)}", spot.to(renamed.replace(given.text, written))


def _renamed(spot: Spot, name: str) -> str:
    """The text of a call of another reduction."""
    edit, whole = spot.named(name), spot.span
    assert isinstance(spot.node, ast.Call)
    if edit.span.line == whole.line:
        start = edit.span.column - whole.column
        return spot.text[:start] + edit.new + spot.text[start + (edit.span.end_column or 0) - edit.span.column :]
    return spot.text.replace(spot.called, name, 1)


def _by_batch(bench: Bench, node: fx.Node | None, what: str) -> Iterator[Change]:
    """A division by the size of the batch, where a term leaves its own statement."""
    spot = bench.spot(node) if node is not None else None
    rows = bench.batch_tensor(bench.scope(node))
    if spot is None or not rows:
        return
    outer = spot
    for part in spot.around():
        if isinstance(part.node, ast.BinOp) and not isinstance(part.node.op, ast.Mult | ast.Div):
            break
        if not isinstance(part.node, ast.BinOp | ast.UnaryOp) and part.node is not spot.node:
            break
        outer = part
    yield f"averages the {what} over the batch", outer.to(f"{outer.atom if _loose(outer) else outer.text} / {rows}.size(0)")


def _loose(spot: Spot) -> bool:
    return isinstance(spot.node, ast.BinOp) and not isinstance(spot.node.op, ast.Mult | ast.Div)


def _undivided(bench: Bench, node: fx.Node | None) -> Iterator[Change]:
    """A product or quotient without the factor that holds the size of the batch."""
    spot = bench.spot(node) if node is not None else None
    if spot is None:
        return
    if isinstance(spot.node, ast.BinOp) and isinstance(spot.node.op, ast.Mult | ast.Div):
        sides = spot.operands if isinstance(spot.node.op, ast.Mult) else spot.operands[:1]
        for side in reversed(sides):
            yield "divides by the size of the batch once less", spot.to(side.text)
    if spot.called == "mean":
        yield "sums the KL, which is divided by the size of the batch elsewhere", spot.named("sum")
