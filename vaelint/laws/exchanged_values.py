"""Law C3, for what a KL is given: a term of a posterior is not the KL of it with two of its values exchanged.

Intervention: where a term of a Gaussian draw is no KL, each value of that draw that it reads (mean, head of the scale, standard deviation,
the draw itself) is exchanged for another. Where that makes its gradient that of the KL, it was given the wrong ones: a result
taken apart in another order, arguments handed over in another order. No regulariser becomes the exact KL that way by chance.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.loss.mended import other_formulas
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.flow import Flow
from vaelint.record.record import route, shape
from vaelint.replay.measuring import bases
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_STATES = 4
_SAME = 1e-6
_RECEIVERS = {"self", "cls"}

Exchanged = dict[fx.Node, fx.Node]
"""What is read -> what would be read if the term were the KL."""


@law(
    "kl-reads-its-own-values",
    "no exchange of the values that a KL reads would make it the KL of the draw",
    covered=("VAE20", "VAE21", "VAE40", "VAE41", "VAE42", "VAE43"),
    cost="replay",
)
def kl_reads_its_own_values(bench: Bench) -> Iterator[Broken]:
    """Gaussian draws of one mean and one head of the scale, that no term is the KL of."""
    proven = {f.site.z for f in bench.model.kls if f.site is not None and f.probe.verdict in ("exact", "prior", "mean_only")}
    for term in bench.model.terms:
        if term.role not in ("kl", "other") or term.detached is not None:
            continue
        for site in bench.model.sites:
            if site.z in proven or site.kind != "gaussian" or len(site.mu_heads) != 1 or len(site.scale_heads) != 1:
                continue
            found = _exchange(bench, term, site)
            if found is not None:
                yield _broken(bench, term, site, found)
                return


def _exchange(bench: Bench, term: Term, site: Site) -> Exchanged | None:
    """The values that make a term the KL of this draw; None where it reads others, or none do."""
    model, loss = bench.model, bench.model.record.loss
    values = list(dict.fromkeys((*site.mu_heads, *site.scale_heads, *([site.scale] if site.scale is not None else []), site.z)))
    front = {f for leaf in term.leaves for f in leaf.frontier}
    read = [v for v in values if v in front]
    if loss is None or not read or not front <= set(values) or len({shape(v) for v in values}) != 1:
        return None
    slice_ = loose_ends(term, loss, model.sites, model.flow, model.replay)
    with other_formulas(model):
        if any(_is_kl(slice_, site, {}, at) for at in bases(model.symbols)[:2]):
            return None  # as it is
        for taken in permutations(values, len(read)):
            exchanged = {r: t for r, t in zip(read, taken, strict=True) if r is not t}
            if exchanged and any(_is_kl(slice_, site, exchanged, at) for at in bases(model.symbols)[:2]):
                return exchanged
    return None


def _is_kl(slice_: Slice, site: Site, exchanged: Exchanged, sizes: Mapping[str, int]) -> bool:
    """Whether the term has the gradient of the draw's KL to N(0, I), up to a weight, when it reads the other values."""
    readers = _readers(slice_.flow, slice_.term, exchanged)
    moved: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    with suppress(ReplayError), slice_.replay.exchanged({n: partial(_reading, n, exchanged) for n in readers}):
        for seed in range(_STATES):
            generator = torch.Generator().manual_seed(seed)
            values = {h: torch.randn(slice_.replay.shape_of(h, sizes), dtype=torch.float64, generator=generator) for h in slice_.heads}
            got = slice_.gradients(sizes, values, seed=seed)
            leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
            mean, scale = slice_.moments(site, sizes, {h: v * 1 for h, v in leaves.items()})
            if scale is None:
                return False
            kl = 0.5 * (mean.square() + scale.square() - 1) - scale.abs().log()
            moved += [g.flatten() for g in got.values()]
            wanted += [torch.zeros(1) if g is None else g.flatten() for g in gradients(kl, list(leaves.values()))]
        one, other = torch.cat(moved), torch.cat(wanted)
        if one.shape != other.shape or not bool(one.isfinite().all()):
            return False
        weight = float((one @ other) / (other @ other))
        return weight > 0 and float((one - weight * other).norm()) < _SAME * float(one.norm())
    return False


def _readers(flow: Flow, term: Term, exchanged: Exchanged) -> list[fx.Node]:
    """What reads these values inside of the term, and not on the way to the draw."""
    own = {n for leaf in term.leaves for n in (leaf.node, *leaf.chain)}
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=set(exchanged)) | own
    behind = flow.ancestors(*(s.z for s in term.sites), *exchanged)
    return [u for n in exchanged for u in flow.users.get(n, ()) if u in inside and u not in behind]


def _reading(node: fx.Node, exchanged: Exchanged, value_of: Any) -> Any:
    target: Any = node.target
    args = fx.map_arg(node.args, lambda n: exchanged.get(n, n))
    return target(*value_of(args), **value_of(dict(node.kwargs)))


def _broken(bench: Bench, term: Term, site: Site, exchanged: Exchanged) -> Broken:
    model = bench.model
    read = _readers(model.flow, term, exchanged)
    names = {model.written(n) for n in exchanged}
    told = " and ".join(f"{model.written(t)} for {model.written(r)}" for r, t in exchanged.items())
    found = Found(
        _given(bench, read[0], names) if read else model.where(term.core),
        label=f"with {told} the term is the KL",
        labels=model.labels((site.z, f"drawn here: {model.written(site.z)}"), (term.core, "the term")),
        why="the loss is minimised by the wrong posterior: the term is the KL of other values than those of the draw",
        help="hand over mean and log-variance in the order in which they are taken, and take a result apart in the order in which it is "
        "returned",
    )
    return Broken("kl-formula", found, "the term is not a KL with any two of its values exchanged", f"with {told} it is the exact KL")


def _given(bench: Bench, reader: fx.Node, names: set[str]) -> Span | None:
    """Where the values got the names under which they are read.

    Outwards from the formula, to the call that hands them over or the statement that takes them apart.
    """
    model = bench.model
    for place in route(reader):
        file, scope = model.source.file(place.file), model.source.function(place)
        node = file.at(place)
        if node is None or scope is None:
            return place
        called = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - _RECEIVERS
        own = {a.arg for a in (*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs)}
        if called & own:
            continue  # parameters: the caller chose them
        if names <= called:
            return place  # by their own names, in the wrong places
        given = [s for s in ast.walk(scope) if isinstance(s, ast.Assign) and s.lineno < place.line and _names(s) & called]
        last = max((s for s in given if isinstance(s.targets[0], ast.Tuple)), key=lambda s: s.lineno, default=None)
        return file.place(place.file, last) if last is not None else place
    return model.where(reader)


def _names(statement: ast.Assign) -> set[str]:
    return {n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
