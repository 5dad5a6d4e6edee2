"""What should be in the loss and is not, or is there without a gradient."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.exponents import summed_exponent
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.faults.bounds.hierarchies import unheld_sites
from vaelint.faults.gradients.other_branch import added_in_another_branch
from vaelint.faults.sampling.estimators import feeds_reconstruction, learns_otherwise
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import route, shape, span
from vaelint.record.walk import behind
from vaelint.replay.exempt import exempt
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


_THRESHOLDS = frozenset({"lt", "le", "gt", "ge", "less", "greater", "less_equal", "greater_equal"})


@dataclass(frozen=True)
class MissingKl:
    """A posterior that nothing holds, and the KL that was computed for it, if any; `nullified` is where it is multiplied with 0."""

    site: Site
    computed: fx.Node | None
    nullified: fx.Node | None = None
    later: str = ""  # a function that adds a term of this posterior in a branch that the step did not take


@per_model
def missing_kl(model: Model) -> MissingKl | None:
    """A Gaussian posterior with a learned scale and no term against its collapse to a point."""
    if any(t.role in ("prior", "discrepancy", "mixed", "vq") or (t.role == "kl" and _zero(model, t) is None) for t in model.terms):
        return _forgotten_kl(model)
    zero = next((n for t in model.terms if t.role == "kl" and (n := _zero(model, t)) is not None), None)
    if zero is not None:
        return next((MissingKl(s, None, zero) for s in model.gaussian_sites if s.scale_heads), None)
    if exempt(model, "VAE412", LOSSES, model.record.loss, model):
        return None
    for site in model.gaussian_sites:
        if site.scale_heads and not _held_before(model, site) and not exempt(model, "VAE412", POSTERIORS, site.z, model, site):
            return MissingKl(site, _idle_kl(model, site), later=added_in_another_branch(model, site.scale_heads))
    return None


def _one_bound(model: Model) -> bool:
    """A bound that is one function of likelihood and KL, as importance weights make it."""
    heads = {h for s in model.sites for h in s.heads}
    return any(f in heads for leaf in model.leaves for f in leaf.frontier)


def _latent_elsewhere(model: Model) -> bool:
    """An adversary, or another term that sees the latent."""
    z = {s.z for s in model.sites}
    others = [leaf for leaf in model.leaves if leaf.role != "reconstruction"]
    return any(any(f in z or f in model.decoded for f in leaf.frontier) for leaf in others) or bool(
        z & model.flow.ancestors(*(leaf.node for leaf in others), stop=frozenset(model.decoded))
    )


def _moved(model: Model, site: Site) -> bool:
    """What it is made of gets gradients by another way than its draw."""
    return _moved_otherwise(model, set(site.heads))


def _held_before(model: Model, site: Site) -> bool:
    """Whether the loss sees what the scale was put together from, before a layer's output: one of several posteriors was picked, say."""

    def sources(node: fx.Node) -> list[fx.Node]:
        ins = ops.value_inputs(node) if ops.op(node) not in ops.LAYERS else []
        return [n for n in ins if n in model.flow.data and ops.op(n) not in ops.LAYERS]

    made = reachable([n for n in site.scale_heads if n in model.flow.data], sources)
    addends = model.flow.ancestors(*(leaf.node for leaf in model.leaves), stop={s.z for s in model.sites})
    return bool(made & addends & model.flow.learned)  # data is seen by the likelihood, as the edges of a graph are


LOSSES = (
    ("likelihood and KL are one expression", _one_bound),
    ("another term sees the latent", _latent_elsewhere),
)


def _not_pulled(model: Model, site: Site) -> bool:
    """The loss has no gradient in the draw, and one in what makes the posterior: nothing asks for a smaller variance (wake and sleep)."""
    gradients = gradients_of(model)
    makers = gradients.names(model.flow.ancestors(*site.heads))
    return site.z not in gradients.of_loss and bool(makers & gradients.reached)


def _held_in_this_turn(model: Model, site: Site) -> bool:
    """Neither its draw nor its heads have a gradient: the turn of the decoder, in which the encoder is held."""
    gradients = gradients_of(model)
    return site.z not in gradients.of_loss and not any(gradients.carries(h) for h in site.heads)


def _drawn_from_context(model: Model, site: Site) -> bool:
    """A likelihood of what the draws have not seen, averaged over them within its logarithm: they are those of a prior, given a context.

    Source: Foong et al. 2020, Meta-Learning Stationary Stochastic Process Prediction with Convolutional Neural Processes, section 4.
    """
    flow, inputs = model.flow, set(model.record.inputs.values())
    averaged = any(_is_log_of_sum(leaf.node) and site.z in flow.ancestors(leaf.node) for leaf in model.leaves)
    targets = [r.pair.target for r in model.recons if r.pair.target is not None]
    return averaged and bool(targets) and not (flow.ancestors(*targets) | {*targets}) & inputs & flow.ancestors(site.z)


def _is_log_of_sum(node: fx.Node) -> bool:
    """Whether a value is the logarithm of a sum or a mean, in one operation or in two."""
    inner = behind(ops.value_inputs(node)[0], ops.SHAPE | ops.MUL | ops.DIV) if ops.op(node) == "log" else None
    return ops.op(node) == "logsumexp" or (inner is not None and ops.op(inner) in ops.LINEAR_REDUCE)


POSTERIORS = (
    ("its heads are trained by another way than the draw", _moved),
    ("the loss has no gradient in its draw, and trains what makes its heads", _not_pulled),
    ("the step holds what makes its heads", _held_in_this_turn),
    ("its draws see a context alone, and are averaged within the logarithm", _drawn_from_context),
)
"""What keeps the rule silent about a loss without a KL, and about one of its posteriors."""


def _zero(model: Model, term: Term) -> fx.Node | None:
    """The product that multiplies a term with a literal 0; a named weight may be 0 at this step alone."""
    chain = tuple(dict.fromkeys(n for leaf in term.leaves for n in leaf.chain))
    return next((f.node for f in factors(chain, model.source) if f.origin == "literal" and f.value == 0), None)


def _forgotten_kl(model: Model) -> MissingKl | None:
    """One of several posteriors whose KL was computed and left out, while those of others are in the loss.

    The loss must see its heads through its draw alone: what is held by any other way is held on purpose.
    """
    loss, flow = model.record.loss, model.flow
    for site in model.gaussian_sites:
        if len(model.sites) < 2 or loss is None or not site.scale_heads:
            continue
        if not feeds_reconstruction(model, site.z) and site not in unheld_sites(model):  # decoded, or the prior of another is made of it
            continue
        if loss in flow.descendants(*site.heads, stop={site.z}):
            continue
        computed = _idle_kl(model, site)
        if computed is not None:
            return MissingKl(site, computed)
    return None


def _idle_kl(model: Model, site: Site) -> fx.Node | None:
    """The last value made of both heads alone that does not reach the loss."""
    wanted = set(site.heads)
    below = model.flow.descendants(*site.heads, stop={site.z})
    for node in reversed(model.flow.sorted(below - model.reaching_loss)):
        if (
            ops.op(node) in ops.REDUCE | ops.ARITHMETIC
            and not node.meta.get("read")
            and _is_made_of(frontier([node], model.flow, stop=wanted, through=ops.REDUCE | ops.SELECT), wanted, model)
        ):
            return node
    return None


def _is_made_of(front: list[fx.Node], heads: set[fx.Node], model: Model) -> bool:
    """Whether a value holds all heads, and beside them at most values of the same shape that are learned: those of a prior."""
    like = {shape(h) for h in heads}
    return heads <= set(front) and all(f in model.flow.learned and f in model.flow.data and shape(f) in like for f in set(front) - heads)


def detached_terms(model: Model, role: str) -> list[Term]:
    """Terms of a role that enter the loss without a gradient, where none moves the same latent with one."""
    live = [t for t in model.terms if t.role in (role, "mixed", "prior") and t.detached is None]
    leaves = [leaf for t in live for leaf in t.leaves if leaf.detached is None]
    held = _held_by(model, live, leaves)
    found = []
    for term in model.terms:
        posterior = {h for s in term.sites for h in s.heads} or {f for leaf in term.leaves for f in leaf.frontier}
        if term.role != role or term.detached is None or posterior & held or _moved_otherwise(model, posterior):
            continue
        if not _is_of_a_held_prior(term, leaves) and not any(learns_otherwise(model, site) for site in term.sites):
            found.append(term)
    return found


def _held_by(model: Model, live: list[Term], leaves: list[Leaf]) -> set[fx.Node]:
    """What the terms with a gradient move: their heads and raw values."""
    held = {f for leaf in leaves for f in leaf.frontier if f in model.flow.data} | {h for t in live for s in t.sites for h in s.heads}
    # behind a draw is the posterior of another latent, or of another turn of a loop
    drawn = {s.z for s in model.sites} - {f for leaf in leaves for f in leaf.frontier}
    return held & gradients_of(model).reach(*(leaf.node for leaf in leaves), stop=drawn) if leaves else held


def _is_of_a_held_prior(term: Term, live: list[Leaf]) -> bool:
    """Whether a term is an addend of a live one that reads a prior which is held alone, as its log-variance."""
    return not term.sites and {f for leaf in term.leaves for f in leaf.frontier} <= {f for leaf in live for f in leaf.frontier}


def _moved_otherwise(model: Model, posterior: set[fx.Node]) -> bool:
    """Whether the step moves what makes a posterior in another way than by this loss."""
    gradients = gradients_of(model)
    return gradients.moved_otherwise(gradients.names(model.flow.ancestors(*posterior)), posterior)


def detached_place(model: Model, term: Term) -> Span | None:
    """Where a term was cut off; of a helper that cuts off other things by right, its call."""
    node = term.detached
    if node is None or (place := span(node)) is None:
        return span(term.core) if term.core is not None else None
    elsewhere = [n for n in model.record.nodes if span(n) == place and route(n) != route(node) and n in model.reaching_loss]
    above = [s for s in route(node)[1:] if not (s.file == place.file and s.line <= place.line <= (s.end_line or s.line))]
    return above[0] if elsewhere and above else place


def blind_term(model: Model) -> fx.Node | None:
    """The one addend that is a function of the data alone: a comparison that leaves out what was decoded."""
    blind = {leaf.node for leaf in model.leaves if leaf.node in model.flow.data and leaf.node not in model.flow.learned}
    return next(iter(blind)) if len(blind) == 1 else None


@per_model
def loss_place(model: Model) -> Span | None:
    """Where the loss is put together: the last name given to it, else the expression that made it.

    That is in the function that has the KL as well, where one is computed and not used.
    """
    node, missing = model.record.loss, missing_kl(model)
    if missing is not None and missing.nullified is not None:
        return span(missing.nullified)
    if missing is not None and (turn := _overwritten(model, missing)) is not None:
        return turn
    place = _beside(model, node, missing) if node is not None else None
    if node is None or place is None or (place == span(node) and ops.op(node) in ops.ADD | ops.SELECT):
        return place
    name = model.source.assigned(place) if model.source.is_whole_value(place) else ""
    function = model.source.function(place)
    if function is not None and name and (alias := _alias(function, name, place.line)) is not None:
        return Span(place.file, alias.lineno, alias.col_offset + 1, alias.end_lineno, (alias.end_col_offset or 0) + 1)
    if _is_after(model, place, missing):
        return place
    for statement in ast.walk(function) if function is not None and name else ():
        if (
            isinstance(statement, ast.Assign | ast.Return)
            and statement.lineno > place.line
            and statement.value is not None
            and _hands_on(statement, name)
        ):
            return Span(place.file, statement.lineno, statement.col_offset + 1, statement.end_lineno, (statement.end_col_offset or 0) + 1)
    return place


def _overwritten(model: Model, missing: MissingKl) -> Span | None:
    """Where the name of a KL is given to another one that the loss sees instead, in the same turn of a loop or in the next."""
    if missing.computed is None:
        return None
    drawing = {id(f) for place in route(missing.site.z) if (f := model.source.function(place)) is not None}
    way, lines = route(missing.computed), {(s.file, s.line) for n in model.reaching_loss for s in route(n)}
    place = next((place for place in way if id(model.source.function(place)) in drawing), None)
    function = model.source.function(place) if place is not None else None
    name = model.source.assigned(place)
    if place is None or function is None or not name:
        return None
    again = any(n in model.reaching_loss and route(n) == way and ops.op(n) == ops.op(missing.computed) for n in model.record.nodes)
    for node in ast.walk(function):
        first = place.line if again else place.line + 1  # in a loop the same statement
        if not isinstance(node, ast.Assign) or node.lineno < first or (place.file, node.lineno) not in lines:
            continue
        read = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
        if [ast.unparse(t) for t in node.targets] == [name] and name not in read:
            return Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _alias(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str, line: int) -> ast.Assign | None:
    """`loss = rec`, where the statement of a line then goes on with that name alone: `loss = loss / n`."""
    given = [
        s for s in ast.walk(function) if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in s.targets)
    ]
    here = next((s for s in given if s.lineno == line), None)
    above = max((s for s in given if s.lineno < line), key=lambda s: s.lineno, default=None)
    if here is None or above is None or not isinstance(above.value, ast.Name):
        return None
    return above if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(here.value)) else None


def _beside(model: Model, node: fx.Node, missing: MissingKl | None) -> Span | None:
    """Where a value is made, or handed up to, in the innermost function that a computed KL goes through too."""
    stack: tuple[Span, ...] = node.meta.get("stack") or ()
    if missing is None or missing.computed is None:
        return span(node)
    others = {(s.file, id(model.source.function(s))) for s in missing.computed.meta.get("stack") or ()}
    return next((s for s in stack if (s.file, id(model.source.function(s))) in others), span(node))


def _is_after(model: Model, place: Span, missing: MissingKl | None) -> bool:
    """Whether the KL had been computed in the function that a place stands in: it could have been added there."""
    if missing is None or missing.computed is None:
        return False
    flow, function = model.flow, model.source.function(place)
    idle = [n for n in flow.ancestors(missing.computed) - model.reaching_loss if flow.ancestors(n).issuperset(missing.site.heads)]
    before = {s for n in idle for s in route(n) if s.file == place.file and s.line < place.line}
    return any(model.source.function(s) is function for s in before)


def _hands_on(statement: ast.Assign | ast.Return, name: str) -> bool:
    """`loss = rec`, `return rec`, `return {"loss": rec, ...}`: the value goes on under another name."""
    value = statement.value
    parts = [value, *value.values] if isinstance(value, ast.Dict) else [value, *value.elts] if isinstance(value, ast.Tuple) else [value]
    return any(isinstance(p, ast.Name) and p.id == name for p in parts)


def unreduced(model: Model) -> fx.Node | None:
    """The addend that makes the loss more than one number, where the others are one number each; None where several do."""
    node = model.record.loss
    while node is not None and ops.op(node) in ops.ADD | ops.MUL | ops.DIV | ops.CAST | {"neg", "effect"}:
        parts = [n for n in ops.value_inputs(node) if isinstance(n.meta.get("val"), torch.Tensor) and model.elements(n) > 1]
        if len(parts) != 1:
            break
        node = parts[0]
    return node


def misplaced_logsumexp(model: Model) -> list[fx.Node]:
    """Log-sum-exps on the way to the loss that reduce the batch and leave another axis."""
    found = []
    for node in model.flow.sorted(model.reaching_loss):
        source = summed_exponent(node)
        if source is None:
            continue
        before, after = model.dims(source), model.dims(node)
        if sum("B" in t for t in before) == 1 and after and not any("B" in t for t in after) and source in model.flow.noisy:
            found.append(node)
    return found


def ceiling_of(model: Model, fact: KlFact) -> fx.Node | None:
    """The operation that cuts a KL off from above; None where it is the posterior's own mean or scale that is kept in bounds."""
    node, site = _ceiling(model, fact.term), fact.site
    made = model.flow.ancestors(*(n for n in (site.mu, site.scale) if n is not None)) if site is not None else set()
    return None if node in made and node is not fact.term.core else node


def _ceiling(model: Model, term: Term) -> fx.Node | None:
    """The operation that cuts a term off from above."""
    inside = {n for leaf in term.leaves for n in (*leaf.chain, *model.flow.ancestors(leaf.node, stop=set(leaf.frontier)))}
    cuts = [
        n
        for n in model.flow.sorted(inside)
        if ops.op(n) in ("clamp", "clip", "clamp_max", "minimum", "min", "hardtanh", "relu", "fmin", "where")
    ]
    return cuts[-1] if cuts else _own_mask(model, term) or term.core


def _own_mask(model: Model, term: Term) -> fx.Node | None:
    """The comparison of a term with a threshold whose outcome the term is multiplied with."""
    path = {n for leaf in term.leaves for n in (*leaf.chain, leaf.node)}
    for link in term.leaves[0].chain:
        for factor in ops.value_inputs(link) if ops.op(link) in ops.MUL else ():
            compared = model.flow.ancestors(factor) - path if factor not in path else set()
            found = [n for n in model.flow.sorted(compared) if ops.op(n) in _THRESHOLDS and path & set(ops.value_inputs(n))]
            if found:
                return found[-1]
    return None
