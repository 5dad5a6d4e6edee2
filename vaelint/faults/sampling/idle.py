"""Draws that lead nowhere, constants in the place of draws, and what the decoder gets instead of z."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import requires_grad, route, shape, span
from vaelint.replay.exempt import exempt
from vaelint.replay.intervals import intervals_of
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Entry:
    """The first layer that decodes something that is not z."""

    node: fx.Node
    span: Span | None
    uses_scale: bool
    mu: fx.Node | None = None
    scale: fx.Node | None = None


@dataclass(frozen=True)
class Frozen:
    """A constant where noise should be."""

    node: fx.Node
    label: str
    draw: fx.Node | None = None
    scale: fx.Node | None = None
    made: Span | None = None  # the default of an argument: made once, when the function was defined


def decoder_entry(model: Model, site: Site) -> Entry | None:
    """What the decoder reads when this site's z is idle: the first layer fed with the posterior's mean."""
    roots = set(site.mu_heads) | ({site.mu} if site.mu is not None else set())
    if not roots:
        return None
    below = model.flow.descendants(*roots, stop={site.z})
    layers = [
        n
        for n in model.flow.sorted(below)
        if n in model.reaching_loss and _is_layer(n, roots) and any(i in below for i in ops.value_inputs(n))
    ]
    if not layers:
        return None
    first = layers[0]
    scales = set(site.scale_heads)
    return Entry(first, branch_point(first, site.z), bool(scales and model.flow.ancestors(first) & scales), site.mu, site.scale)


def _is_layer(node: fx.Node, roots: set[fx.Node]) -> bool:
    return node not in roots and ops.uses_parameter(node)


def branch_point(node: fx.Node, other: fx.Node) -> Span | None:
    """The line where the stacks of two nodes part: where one function used the one value and not the other."""
    mine: list[Span] = list(reversed(node.meta.get("stack") or ()))
    theirs: list[Span] = list(reversed(other.meta.get("stack") or ()))
    for a, b in zip(mine, theirs, strict=False):
        if a != b:
            return a
    return mine[-1] if mine else span(node)


def idle_draws(model: Model) -> list[Site]:
    """VAE208: draws that never reach the loss, where no other draw does."""
    return [] if model.sites else [s for s in model.idle_sites if s.kind in ("gaussian", "drawn")]


def undrawn_entries(model: Model) -> list[Entry]:
    """VAE209: layers fed with mean and log-variance at once: without any draw, or beside an idle one, whose noise is no constant."""
    if frozen_noise(model):
        return []
    found: list[Entry] = []
    for site in idle_draws(model):
        entry = decoder_entry(model, site)
        if entry is not None and entry.uses_scale:
            found.append(entry)
    if found or model.sites or model.idle_sites:
        return found
    pair = _posterior_without_draw(model)
    if pair is None:
        return []
    mu, logvar = pair
    below = model.flow.descendants(mu) & model.flow.descendants(logvar)
    layers = [n for n in model.flow.sorted(below) if ops.uses_parameter(n) and n in model.reaching_loss and n not in pair]
    between = model.flow.ancestors(*layers[:1]) - model.flow.ancestors(mu, logvar)
    return [Entry(layers[0], span(layers[0]), True, mu, logvar)] if layers and not between & model.flow.random else []


def _posterior_without_draw(model: Model) -> tuple[fx.Node, fx.Node] | None:
    """Two raw outputs of equal shape that enter the loss by m^2 and by exp(h) and h: the heads of a KL with no draw."""
    for leaf_a in model.leaves:
        if leaf_a.role != "other" or ops.op(leaf_a.node) not in ("exp", "square", "pow"):
            continue
        for leaf_b in model.leaves:
            if leaf_b.role != "other" or len(leaf_a.frontier) != 1 or len(leaf_b.frontier) != 1:
                continue
            a, b = leaf_a.frontier[0], leaf_b.frontier[0]
            if ops.op(leaf_a.node) in ("square", "pow") and ops.op(leaf_b.node) == "exp" and a is not b and shape(a) == shape(b):
                return a, b
    return None


@per_model
def frozen_noise(model: Model) -> list[Frozen]:
    """Constants where noise should be."""
    found: list[Frozen] = []
    if not model.sites and not model.idle_sites:
        found += _constant_in_place_of_draw(model)
    for site in model.gaussian_sites:
        seeded = _seeded(model, site)
        if seeded is not None:
            found.append(seeded)
    return found


@dataclass(frozen=True)
class _Sum:
    """mu + scale * constant: a learned sum that a scale enters where noise would."""

    model: Model
    node: fx.Node
    parts: list[fx.Node]
    scale: fx.Node
    stored: fx.Node | None  # the constant
    idle: list[fx.Node]  # draws that lead nowhere

    @property
    def others(self) -> list[fx.Node]:
        """The parts without the scale: mu."""
        return [p for p in self.parts if self.scale not in (p, *ops.value_inputs(p))]

    def of_other_form(self) -> bool:
        """It does not have one part of the scale's shape beside it, or no layer reads it."""
        others = self.others
        return len(others) != 1 or shape(others[0]) != shape(self.scale) or not _decoded(self.model, self.node)

    def without_a_sign_of_noise(self) -> bool:
        """mu + exp(s) alone may be anything."""
        return self.stored is None and not self.idle

    def of_one_head(self) -> bool:
        """Both are functions of one head: an activation, written out."""
        flow = self.model.flow
        return set(frontier([self.others[0]], flow)) == set(frontier([self.scale], flow))


SUMS = (
    ("a sum of another form than mu + scale * noise", _Sum.of_other_form),
    ("neither a constant nor an unused draw beside it", _Sum.without_a_sign_of_noise),
    ("both parts come from one head", _Sum.of_one_head),
)
"""What keeps the rule silent about a sum in which a scale enters without noise."""


def _constant_in_place_of_draw(model: Model) -> list[Frozen]:
    """mu + scale * constant, decoded: the constant may be a stored tensor, a number, or nothing at all."""
    flow = model.flow
    idle = [n for n in flow.sorted(flow.random) if not _leads_on(model, n)]
    for node in flow.sorted(flow.data & flow.learned):
        if ops.op(node) not in ops.ADD | {"addcmul"} or node not in model.reaching_loss or not requires_grad(node):
            continue
        parts = [n for n in ops.value_inputs(node) if n in flow.data and n in flow.learned]
        scale, stored = _scale_among(model, parts)
        if stored is None and ops.op(node) == "addcmul":
            stored = next((n for n in ops.value_inputs(node) if _is_constant(model, n)), None)
        if scale is None or exempt(model, "VAE204", SUMS, node, _Sum(model, node, parts, scale, stored, idle)):
            continue
        what = f"{model.written(stored)} is a constant" if stored is not None else "the scale enters with no noise"
        return [Frozen(node, what, idle[0] if idle else None, scale, _default(model, node) if stored is not None else None)]
    return []


def _default(model: Model, node: fx.Node) -> Span | None:
    """Where an argument that an operation reads, or that is handed on to it, has a default that a call makes, once for all calls."""
    for place in route(node):
        function, file = model.source.function(place), model.source.file(place.file)
        read = {n.id for n in ast.walk(file.at(place) or ast.Pass()) if isinstance(n, ast.Name)}
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            args = function.args
            pairs = [*zip([*args.posonlyargs, *args.args][::-1], args.defaults[::-1], strict=False)]
            pairs += [(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None]
            made = next((d for a, d in pairs if a.arg in read and any(isinstance(n, ast.Call) for n in ast.walk(d))), None)
            if made is not None:
                return file.place(place.file, made)
    return None


def _scale_among(model: Model, parts: list[fx.Node]) -> tuple[fx.Node | None, fx.Node | None]:
    """The positive map among the parts of a sum, and the constant that one of them is multiplied with."""
    scale: fx.Node | None = None
    stored: fx.Node | None = None
    for part in parts:
        inner = part
        if ops.op(part) in ops.MUL:
            ins = ops.value_inputs(part)
            live = [n for n in ins if n in model.flow.data]
            if len(live) == 1:
                inner, stored = live[0], next((n for n in ins if _is_constant(model, n)), None)
        if _is_positive_map(inner, model):
            scale = inner
    return scale, stored


def _is_constant(model: Model, node: fx.Node) -> bool:
    return node not in model.flow.data and node not in model.flow.learned and isinstance(node.meta.get("val"), torch.Tensor)


def _leads_on(model: Model, node: fx.Node) -> bool:
    """Whether a draw reaches anything that was learned, or the loss."""
    below = model.flow.descendants(node)
    return bool(below & model.reaching_loss)


def _is_positive_map(node: fx.Node, model: Model) -> bool:
    """An exponential or its like; also what is bounded at 0 and has its logarithm taken, as a KL does of a standard deviation."""
    if node not in model.flow.data:
        return False
    bounds = intervals_of(model).of(node)
    logged = any(ops.op(u) in ("log", "log2") and u in model.reaching_loss for u in model.flow.users.get(node, ()))
    return ops.op(node) in ("exp", "softplus", "sqrt", "exp2") or (logged and bounds is not None and bounds.low >= 0)


def _decoded(model: Model, node: fx.Node) -> bool:
    return any(ops.uses_parameter(n) for n in model.flow.descendants(node) if n is not node)


def _seeded(model: Model, site: Site) -> Frozen | None:
    """A generator seeded with a constant on the way to a draw: every call draws the same."""
    for root in site.roots:
        frames, outer = route(root), getattr(model.step, "outer", 1 if getattr(model.step, "place", "") else 0)
        for place in frames[: len(frames) - outer]:  # training code seeds once, before its loop
            function = model.source.function(place)
            if function is None or function.name == "__init__":
                continue
            functions = list(model.source.file(place.file).functions())
            if seed := _seeded_draw(function, place.line):
                return Frozen(root, f"seed={seed} draws the same numbers in each call", None, site.scale)
            for call in _calls_before(function, place.line):
                inner = [f for f in functions if isinstance(call.func, ast.Name) and f.name == call.func.id]
                seeds = (_seed(c, functions) for c in (call, *(n for f in inner for n in ast.walk(f))))
                if seed := next((s for s in seeds if s), ""):
                    return Frozen(root, f"the generator is seeded with {seed} in each call", None, site.scale)
    return None


def _seeded_draw(function: ast.AST, line: int) -> str:
    """The whole number that a draw of `keras.random` on a line is seeded with; "" for none. A SeedGenerator counts on from call to call."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if not re.fullmatch(r"(keras\.)?random\.\w+", ast.unparse(node.func)):
            continue
        seed = next((k.value for k in node.keywords if k.arg == "seed"), None)
        if isinstance(seed, ast.Constant) and isinstance(seed.value, int):
            return ast.unparse(seed)
    return ""


def _calls_before(function: ast.AST, line: int) -> list[ast.Call]:
    return [n for n in ast.walk(function) if isinstance(n, ast.Call) and n.lineno <= line]


def _seed(node: ast.AST, functions: Iterable[ast.FunctionDef | ast.AsyncFunctionDef]) -> str:
    """What a call seeds a generator with, where that stays the same; "" for anything else."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "manual_seed"):
        return ""
    return ast.unparse(node.args[0]) if node.args and _stays_the_same(node.args[0], functions) else ""


def _stays_the_same(seed: ast.expr, functions: Iterable[ast.FunctionDef | ast.AsyncFunctionDef]) -> bool:
    """Whether a seed is the same at every call: a number, or an attribute that nothing but the constructor sets."""
    if isinstance(seed, ast.Constant):
        return True
    if not isinstance(seed, ast.Attribute) or not isinstance(seed.value, ast.Name):
        return False
    later = (node for f in functions if f.name != "__init__" for node in ast.walk(f) if isinstance(node, ast.Attribute))
    return not any(node.attr == seed.attr and isinstance(node.ctx, ast.Store) for node in later)


def layered(model: Model) -> set[fx.Node]:
    """What a layer made of z or of the posterior's heads."""
    return layered_nodes(model.flow, model.sites + model.idle_sites)


def unused_posteriors(model: Model) -> list[tuple[fx.Node, fx.Node | None, str]]:
    """Draws that the posterior's mean has no part in, while a term of the loss is charged for one: (the draw, the mean, in words)."""
    found: list[tuple[fx.Node, fx.Node | None, str]] = []
    for site in model.gaussian_sites:
        if site.mu is not None or not site.scale_heads:
            continue
        others = {n for t in model.terms if t.role in ("kl", "other") for leaf in t.leaves for n in _sources(model, leaf)}
        means = [
            f
            for f in model.flow.sorted(
                others - model.flow.ancestors(site.z) - model.flow.descendants(site.z)
            )  # a mean comes before its draw
            if f in model.flow.data and f in model.flow.learned and shape(f) == shape(site.z)
        ]
        if means:
            found.append((site.z, means[0], "z has a scale and no mean"))
    if not model.sites and not model.idle_sites:
        found += _decoded_noise(model)
    return found


def _sources(model: Model, leaf: Leaf) -> set[fx.Node]:
    """What an addend is made of: its frontier, and the parts of it that are used, such as a half of a layer's output."""
    below = model.flow.ancestors(leaf.node, stop=set(leaf.frontier))
    return set(leaf.frontier) | {n for n in below if ops.op(n) in ops.SELECT}


def _decoded_noise(model: Model) -> list[tuple[fx.Node, fx.Node | None, str]]:
    """A reconstruction made of noise and parameters alone, compared with the data."""
    flow = model.flow
    for node in flow.sorted(model.reaching_loss):
        ins = [n for n in ops.value_inputs(node) if isinstance(n.meta.get("val"), torch.Tensor)]
        made = [n for n in ins if n in flow.noisy and n in flow.learned and n not in flow.data]
        data = [n for n in ins if n in flow.data and n not in flow.learned]
        if made and data and shape(made[0]) == shape(data[0]) and (ops.op(node) in ops.LOSSES or ops.op(node) in ("sub", "rsub")):
            draws = flow.sorted(flow.ancestors(made[0]) & flow.random)
            if draws and any(leaf.node in flow.data and leaf.node in flow.learned for leaf in model.leaves):
                return [(draws[0], made[0], "the decoder gets this noise alone")]
    return []


def prior_draws(model: Model) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
    """VAE211: draws of a level from its prior, while a posterior that sees the data is computed and only charged: (the draw, the KL, a
    parameter of the posterior).

    The KL then reads as turned round, for its second argument is what was drawn from. Which one is the posterior is told by the data: they
    reach a prior through the draws of other levels alone.
    """
    flow, inputs = model.flow, set(model.record.inputs.values())
    drawn = {site.z for site in model.sites}
    decoded = flow.ancestors(*(n for f in model.recons for n in f.pair.raw))
    found: list[tuple[fx.Node, fx.Node, fx.Node]] = []
    for fact in model.kls:
        site, core = fact.site, fact.term.core
        if fact.probe.verdict != "reversed" or site is None or core is None:
            continue
        sees = flow.ancestors(*site.heads, stop=drawn) & inputs
        charged = (n for n in flow.sorted(flow.ancestors(core, stop=drawn)) if shape(n) == shape(site.z) and n in flow.learned)
        own = next((n for n in charged if n not in decoded and flow.ancestors(n, stop=drawn) & inputs), None)
        if not sees and own is not None:
            found.append((site.z, core, own))
    return found
