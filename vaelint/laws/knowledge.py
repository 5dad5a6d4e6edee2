"""Law A6, for data: the posterior of a draw sees something that its prior does not.

Measured by gradients, for every element of the data at once, and by other values where the input is whole numbers; all draws are held. A
prior may see much: the steps before, a condition, what a mask leaves. Where nothing is left that only the posterior sees, the draw has
nothing to tell the decoder that the prior did not know, and when sampling there is no data to make that prior from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import field

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.priors import apart, moved_draws, pairs
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.rule import Found

_PLACES = 24  # of an input of whole numbers, that are tried

Seen = dict[str, torch.Tensor]
"""For each input which of its elements a value depends on, sample by sample: which axis the samples are on plays no part."""


@law("posterior-knows-more", "the posterior of a draw sees something that its prior does not", covered=("VAE410", "VAE434"))
def posterior_knows_more(bench: Bench) -> Iterator[Broken]:
    """Closed forms, each draw with its own prior; of the steps of a loop the last, which sees most."""
    loose = set(bench.model.record.inputs.values()) - {seat.node for seat in bench.seats}
    for steps in _draws(bench):
        last = steps[-1]
        if loose & bench.model.flow.ancestors(*last.site.heads):
            continue  # an input whose samples are not known to lie along an axis: what it tells is not measured
        behind = _seen(bench, last.priors)
        own = _seen(bench, [h for h in last.site.heads if bench.knows(h)])
        if _any(behind) and _any(own) and all(bool((behind[name] | ~mine).all()) for name, mine in own.items()):
            before = next((s for s in reversed(steps) if s.site.z is not last.site.z), None)
            place = _entered(bench, last, before, behind) or _started(bench, steps[0], behind) if before is not None else None
            yield _sees_all(bench, last, place or apart(bench, last.priors[0]))
            return


@dataclass
class _Judged:
    """A draw, the parameters of its prior, and the addend that holds it to them."""

    site: Site
    leaf: Leaf
    priors: list[fx.Node] = field(default_factory=list)


def _draws(bench: Bench) -> list[list[_Judged]]:
    """The draws with a prior to which data leads past no other draw; those of one loop together, in order.

    A posterior that is held to a fixed prior as well teaches those of single modalities, from which nothing is sampled.
    """
    flow, found = bench.model.flow, dict[tuple[fx.Node, fx.Node], _Judged]()  # one for each addend: of two priors each sees a part
    drawn, taught = {s.z for s in bench.model.sites}, {id(k.term) for k in bench.model.kls if k.probe.several}
    for term in bench.model.terms:
        for leaf in term.leaves if term.role == "kl" and term.detached is None and id(term) not in taught else ():
            for site, prior in pairs(bench, leaf):
                if _is_prior(bench, site, leaf, prior) and not _only_weighs(bench, site, leaf, prior):
                    found.setdefault((site.z, leaf.node), _Judged(site, leaf)).priors.append(prior)
    loops: dict[object, list[_Judged]] = {}
    for z, addend in sorted(found, key=lambda both: flow.order[both[0]]):
        loops.setdefault((route(z), route(addend)), []).append(found[z, addend])
    inputs = set(bench.model.record.inputs.values())
    return [steps for steps in loops.values() if inputs & flow.ancestors(*steps[-1].priors, stop=drawn)]


def _is_prior(bench: Bench, site: Site, leaf: Leaf, node: fx.Node) -> bool:
    """Whether a value that an addend holds a draw to is the prior that sampling starts from.

    A residual posterior is a part of z itself, and so is what a flow moves the draw by; a teacher is not trained; next to components that
    are parameters it is the weights of these; a draw that a fixed prior judges as well has another to start from; and what no layer has
    made of the draw since, as the distance of an angle from its mean, is where it lies in its own density.
    """
    flow = bench.model.flow
    own = flow.ancestors(site.z, *moved_draws(bench, site, leaf))
    layers = {n for n in flow.order if ops.uses_parameter(n)}
    if node not in layers and site.z in flow.ancestors(node, stop=layers):
        return False
    fixed = [n for n in flow.ancestors(leaf.node, stop=set(leaf.frontier)) if n.op == "get_attr" and n.meta.get("parameter")]
    leaves = [x for t in bench.model.terms if t.role == "kl" for x in t.leaves if x is not leaf]
    others = [x for x in leaves if set(x.frontier) <= own and set(x.frontier) & set(site.mu_heads)]
    return node not in own and bool(node.meta.get("grad")) and not fixed and not others


def _only_weighs(bench: Bench, site: Site, leaf: Leaf, node: fx.Node) -> bool:
    """Whether all that an addend takes of a value is a factor of the whole, as the probability that a latent is switched on weighs its KL
    (spike and slab). Parameters of a prior are no factor: with them at 0 a distance to the prior is left."""
    flow = bench.model.flow
    moved, way = flow.descendants(*site.heads), flow.ancestors(leaf.node)
    last = [n for n in flow.descendants(node) & way | {node} if n not in moved and any(u in moved & way for u in flow.users.get(n, ()))]
    if not last or not all(bench.knows(n) and bench.is_real(n) for n in (*last, leaf.node)):
        return False
    same = bench.same(set(last))
    none, once, twice = (bench.after({n: k * v for n, v in same.items()}, [leaf.node])[leaf.node].double() for k in (0, 1, 2))
    return not bool(none.any()) and torch.allclose(twice, 2 * once, rtol=1e-4)


def _seen(bench: Bench, nodes: list[fx.Node]) -> Seen:
    """What some values are made of, with every draw held."""
    held = bench.same({s.z for s in bench.model.sites if bench.knows(s.z)} - set(nodes))
    return {
        seat.name: _by_gradient(bench, nodes, seat.node, held) if seat.kind == "data" else _by_values(bench, nodes, seat.node, held)
        for seat in bench.seats
    }


def _by_gradient(bench: Bench, nodes: list[fx.Node], data: fx.Node, held: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    x = bench.value(data).clone().requires_grad_()
    got = bench.base.recompute(nodes, {**held, data: x})
    total = [v.double().pow(2).sum() + v.double().sum() for v in got.values() if isinstance(v, torch.Tensor) and v.requires_grad]
    if not total:
        return torch.zeros(x.shape, dtype=torch.bool)
    gradient = bench.base.gradient(torch.stack(total), [x])[0]
    if gradient is None:
        return torch.zeros(x.shape, dtype=torch.bool)
    if not bool(gradient.isfinite().all()):
        raise CannotMeasureError("a gradient is not finite")
    return (gradient != 0).cpu()


def _by_values(bench: Bench, nodes: list[fx.Node], given: fx.Node, held: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    """Of whole numbers, place by place: each sample has another one's there."""
    val = bench.value(given)
    places = range(min(val[0].numel(), _PLACES)) if val.dim() > 1 else range(1)
    before = bench.after({**held, given: val.clone()}, nodes)
    moved = []
    for place in places:
        other = val.clone().reshape(len(val), -1)
        other[:, -1 - place] = other[:, -1 - place].roll(1, 0)
        after = bench.after({**held, given: other.reshape(val.shape)}, nodes)
        moved.append(any(not torch.equal(after[n], before[n]) for n in nodes))
    return torch.tensor(moved)


def _any(seen: Seen) -> bool:
    return any(bool(s.any()) for s in seen.values())


def _sees_all(bench: Bench, judged: _Judged, place: Span | None) -> Broken:
    model = bench.model
    found = Found(
        place,
        label="the data of this very step enters what the prior is made of",
        labels=model.labels(
            (judged.priors[0], "the prior"), (judged.site.z, "the draw that it judges"), (judged.leaf.node, "the KL that reads it")
        ),
        why="the prior knows all that the posterior knows: the KL holds the draw to nothing, and when sampling there is no data "
        "to make this prior from",
        help="compute the prior from values known before the draw: the steps before this one, or the condition alone",
    )
    text = "with all draws held, every element of the input that moves the posterior moves its prior as well"
    return Broken("prior-sees-posterior", found, "some element of the input moves the posterior and not its prior", text)


def _entered(bench: Bench, last: _Judged, before: _Judged, behind: Seen) -> Span | None:
    """Where the prior's way first holds what the step before had not seen beside what it had: the update of a state, a pass over the
    whole sequence."""
    flow = bench.model.flow
    earlier = _seen(bench, before.priors)
    new = {name: seen & ~earlier[name] for name, seen in behind.items()}
    way = flow.descendants(*bench.model.record.inputs.values()) & flow.ancestors(*last.priors)
    for node in flow.sorted(way):
        made_by_layer = ops.uses_parameter(node) or any(n.meta.get("val") is None and ops.uses_parameter(n) for n in node.all_input_nodes)
        if not made_by_layer or not bench.knows(node) or not bench.is_real(node):
            continue
        seen = _seen(bench, [node])
        if _any({k: v & new[k] for k, v in seen.items()}) and _any({k: v & earlier[k] for k, v in seen.items()}):
            return bench.model.where(node)
    return None


def _started(bench: Bench, first: _Judged, behind: Seen) -> Span | None:
    """Where a loop over draws gets the value that its first prior is made of, if that prior has seen all that the later ones see: the last
    assignment before the loop of a name that the loop hands to the prior's network."""
    seen = _seen(bench, first.priors)
    if not all(bool((seen[name] | ~later).all()) for name, later in behind.items()):
        return None
    source = bench.model.source
    for place in route(first.priors[0]):
        function, file = source.function(place), source.file(place.file)
        call = file.at(place)
        loops = [n for n in ast.walk(function or ast.Pass()) if isinstance(n, ast.For | ast.While) and _holds(n, place.line)]
        if not loops or call is None or function is None:
            continue
        names = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)} - {n.id for n in _targets(loops)}
        start = min(loop.lineno for loop in loops)
        given = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno < start and names & {t.id for t in _targets([n])}]
        return file.place(place.file, max(given, key=lambda n: n.lineno)) if given else None
    return None


def _holds(loop: ast.stmt, line: int) -> bool:
    return loop.lineno <= line <= (loop.end_lineno or loop.lineno)


def _targets(statements: Sequence[ast.stmt]) -> list[ast.Name]:
    """The names that assignments bind, and those of the heads of loops."""
    bound = [t for s in statements for t in (s.targets if isinstance(s, ast.Assign) else [s.target] if isinstance(s, ast.For) else [])]
    return [n for t in bound for n in ast.walk(t) if isinstance(n, ast.Name)]
