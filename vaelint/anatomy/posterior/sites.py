"""Sampling sites: where a draw becomes z. Found by following the draw through operations affine in it, never by names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from torch import fx

from vaelint.anatomy.posterior.no_codes import covers_lookup, is_uniform
from vaelint.anatomy.posterior.own_densities import without_densities
from vaelint.anatomy.posterior.products import multiplies_learned
from vaelint.core.reach import ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.record.walk import behind, forward
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.replay.traced import Traced

Kind = Literal["gaussian", "laplace", "drawn", "categorical", "noise"]
"""gaussian: affine in a draw; laplace: affine in sign(u) log(1 - |u|);
drawn: torch.normal(mu, std) or .sample(), no gradient; categorical: Gumbel; noise: no scale of its own."""


@dataclass
class Site:
    """One place where noise meets the posterior: `z = mu + scale * eps`."""

    z: fx.Node
    kind: Kind
    roots: tuple[fx.Node, ...]  # the random nodes
    noise: tuple[fx.Node, ...]  # the pure noise values that enter: eps
    mu: fx.Node | None  # the value added
    scale: fx.Node | None  # the value eps is multiplied with; None when it is a constant
    heads: tuple[fx.Node, ...] = ()  # the encoder's raw outputs behind mu and scale
    mu_heads: tuple[fx.Node, ...] = ()
    scale_heads: tuple[fx.Node, ...] = ()
    region: frozenset[fx.Node] = field(default_factory=frozenset)


_THROUGH = ops.ADD | ops.MUL | ops.DIV | ops.SHAPE | ops.CAST | {"neg", "negative", "addcmul", "lerp", "effect", "detach", "data"}
_PRODUCTS = frozenset({"matmul", "bmm", "mm", "mv", "einsum", "rmatmul", "baddbmm"})
_SOLVES = {"solve_triangular": 1, "linalg_solve_triangular": 1, "linalg_solve": 1, "solve": 1, "cholesky_solve": 0}
"""Products with an inverse, and the place of what it is applied to: noise of a precision's factor."""
_ENLARGED = frozenset({"getitem", "interpolate", "upsample", "pad", "tile", "repeat_interleave"})
_SHAPED = frozenset({"cauchy", "sample_dirichlet", "standard_gamma", "poisson", "binomial"})
_OF_MATRICES = ops.LINEAR_ALGEBRA | {"tril", "triu", "diagonal", "diag", "setitem"}
_REPEATED = frozenset({"expand", "expand_as", "broadcast_to"})
_CATEGORICAL = frozenset({"gumbel_softmax"})
_MOVES = frozenset({"tile", "roll", "flip", "fliplr", "flipud", "rot90", "repeat_interleave", "pixel_shuffle", "pixel_unshuffle"})
"""What puts values at other places, or at several, and changes none."""


def sample_axes(site: Site) -> tuple[int, ...]:
    """The axes of z along which one posterior is drawn several times: the mean has no entries of its own there."""
    z, mu = shape(site.z), shape(site.mu) if site.mu is not None else ()
    if site.mu is None or not (site.noise or z == mu):
        return ()
    added = len(z) - len(shape(behind(site.mu, _REPEATED)))  # in front of the mean, by a distribution that was asked for several
    return tuple(d for d, n in enumerate(z) if n != 1 and (d < added or mu[d - len(z) + len(mu)] == 1))


def find_sites(flow: Flow) -> list[Site]:
    """All sampling sites of the record, in the order they run."""
    sites: list[Site] = []
    for root in flow.sorted(flow.random):
        name = ops.op(root)
        drawn_from = [n for n in ops.value_inputs(root) if n in flow.data and n in flow.learned]
        if name in _CATEGORICAL and drawn_from:
            sites.append(Site(root, "categorical", (root,), (), drawn_from[0], None))
        elif name == "normal" and drawn_from:
            args = ops.tensors(root.args) + ops.tensors(dict(root.kwargs))
            mu = args[0] if args else None
            scale = args[1] if len(args) > 1 else None
            if ops.raw_name(root).endswith("_") and len(args) > 1:  # x.normal_(mean, std)
                mu, scale = args[1], args[2] if len(args) > 2 else None
            sites.append(Site(root, "drawn", (root,), (root,), mu, scale))
        elif drawn_from and root.meta.get("carried"):  # drawn by numpy, from values that left torch
            sites.append(Site(root, "drawn", (root,), (root,), drawn_from[0], drawn_from[1] if len(drawn_from) > 1 else None))
        elif drawn_from and name in ("bernoulli", "standard_gamma", "sample_dirichlet", "multinomial", "poisson"):
            kind: Kind = "categorical" if name in ("bernoulli", "multinomial") else "noise"
            sites.append(Site(_with_backward(root, flow), kind, (root,), (), drawn_from[0], None))
    sites += _affine_sites(flow)
    merged = _merge(sites)
    for s in merged:
        _find_heads(s, flow)
    merged.sort(key=lambda s: flow.order[s.z])
    return _drop_noise_layers(without_densities(merged, flow), flow)


def _with_backward(draw: fx.Node, flow: Flow) -> fx.Node:
    """The value of a draw that has a gradient, where a function with a backward of its own made it."""
    return next((n for n in forward(draw, flow.users, ("detach", "data")) if ops.op(n) == "custom_gradient"), draw)


def _affine_sites(flow: Flow) -> list[Site]:
    """Follows pure noise into the first value that adds something learned from the data to it."""
    way = _NoiseWay(flow)
    for node in flow.record.graph.nodes:
        way.follow(node)
    open_ends = {node: factors for node, factors in way.scales.items() if node not in way.closed}
    return way.sites + list(_without_mean(open_ends, way.region, flow))


class _NoiseWay:
    """The values that noise becomes by operations affine in it, node by node."""

    def __init__(self, flow: Flow) -> None:
        self._flow, self._masks = flow, _masks(flow)
        self.region: dict[fx.Node, set[fx.Node]] = {}  # node -> the pure-noise values in it
        self.scales: dict[fx.Node, list[fx.Node]] = {}
        self.sites: list[Site] = []
        self.closed: set[fx.Node] = set()  # where it has become z

    def follow(self, node: fx.Node) -> None:
        """The next operation that ran."""
        flow, ins = self._flow, ops.value_inputs(node)
        inside = [n for n in ins if n in self.region and n not in self.closed]
        moving = node in flow.data or node in flow.learned
        fresh = [n for n in ins if moving and n in flow.pure_noise and n not in self._masks]
        noisy = [*inside, *fresh]
        if not noisy or node in flow.pure_noise:
            return
        name = ops.op(node)
        others = [n for n in ins if n not in noisy and (n in flow.data or n in flow.learned)]
        if name in ops.ADD and not inside and self._is_second_half(node, others, fresh):
            return
        eps = set(fresh) | {e for n in inside for e in self.region[n]}
        if not _affine(node, name, noisy, others, flow) or _of_same_draw(name, others, eps, flow):
            return
        offset, own = _offset_and_factors(node, name, others)
        factors = [f for n in inside for f in self.scales.get(n, [])] + own
        self.region[node], self.scales[node] = eps, factors
        if offset is not None and offset in flow.data and offset in flow.learned:
            self.sites.append(_site(node, eps, offset, factors, flow))
            self.closed.add(node)

    def _is_second_half(self, node: fx.Node, others: list[fx.Node], fresh: list[fx.Node]) -> bool:
        """logits + log(u) - log(1 - u): the second half of the same noise completes a site."""
        known = next((s for s in self.sites if s.z in others), None)
        if known is None or not _same_draw(known.noise, fresh, self._flow):
            return False
        self.sites.remove(known)
        scale = [known.scale] if known.scale is not None else []
        self.sites.append(_site(node, {*known.noise, *fresh}, known.mu or known.z, scale, self._flow))
        self.closed.add(node)
        return True


def _offset_and_factors(node: fx.Node, name: str, others: list[fx.Node]) -> tuple[fx.Node | None, list[fx.Node]]:
    """What an operation adds to noise, and what it multiplies it with."""
    if name in ops.ADD:
        return (others[0] if others else None), []
    if name == "addcmul":
        first = node.args[0] if isinstance(node.args[0], fx.Node) else None
        return (first if first in others else None), [o for o in others if o is not first]
    return None, others if name in ops.MUL | ops.DIV | _PRODUCTS | _SOLVES.keys() else []


def _without_mean(scales: dict[fx.Node, list[fx.Node]], region: dict[fx.Node, set[fx.Node]], flow: Flow) -> Iterator[Site]:
    """Noise that was scaled by the posterior and never got a mean."""
    for node, factors in scales.items():
        if not any(f in flow.data and f in flow.learned for f in factors):
            continue
        if any(u in region for u in flow.users.get(node, ())) or not _feeds_layer(node, flow):
            continue
        while ops.op(node) in ops.SHAPE | ops.CAST and ops.value_inputs(node)[0] in region:
            node = ops.value_inputs(node)[0]  # where it is multiplied, not where a decoder changes its shape
        yield _site(node, region[node], None, factors, flow)


def _feeds_layer(node: fx.Node, flow: Flow) -> bool:
    """Whether a layer reads the value itself, in whole or in part, through changes of shape and enlargements at most."""
    return any(map(ops.uses_parameter, forward(node, flow.users, ops.SHAPE | ops.CAST | ops.JOIN | _ENLARGED)))


def _affine(node: fx.Node, name: str, noisy: list[fx.Node], others: list[fx.Node], flow: Flow) -> bool:
    if name in ops.ADD | ops.SHAPE | ops.CAST | {"neg", "negative", "effect", "detach", "data", "lerp"}:
        return True
    if name in ops.MUL or name in _PRODUCTS:
        if len(noisy) != 1:
            return name in ops.MUL and not others and _one_draw(noisy, flow)
        # a product with a bare weight is a layer, and the layer's output is no longer z
        return name in ops.MUL or (bool(others) and not ops.uses_parameter(node) and all(o in flow.data for o in others))
    if name in ops.DIV:
        return len(noisy) == 1 and node.args[0] is noisy[0]
    if name in _SOLVES:
        applied = node.args[_SOLVES[name]] if len(node.args) > _SOLVES[name] else node.kwargs.get("B")
        return len(noisy) == 1 and applied is noisy[0] and bool(others) and all(o in flow.data for o in others)
    if name == "addcmul":
        return len([a for a in node.args[1:3] if a in noisy]) <= 1
    return False


def _of_same_draw(name: str, others: list[fx.Node], eps: set[fx.Node], flow: Flow) -> bool:
    """Whether a factor is a function of the same draw, as in v * tanh(|v|) / |v|: the product is not affine in it."""
    roots = flow.ancestors(*eps) & flow.random
    return name in ops.MUL | ops.DIV | _PRODUCTS and any(flow.ancestors(o) & roots for o in others)


def _site(z: fx.Node, eps: set[fx.Node], mu: fx.Node | None, factors: list[fx.Node], flow: Flow) -> Site:
    roots = flow.sorted(flow.ancestors(*eps) & flow.random)
    learned = [f for f in factors if f in flow.data and f in flow.learned]
    parameters = [f for f in factors if f in flow.learned]
    factor = learned or parameters
    scale = factor[-1] if factor else None
    kind: Kind = "gaussian" if scale is not None else "noise"
    if _is_laplace(eps, flow):
        kind = "laplace"
    elif any(_is_gumbel(e, flow) for e in eps) or _is_logistic(eps, flow):
        kind = "categorical" if not learned or mu is None else "noise"  # with a spread of its own it is a logistic or a Gumbel law
    elif any(ops.op(r) in _SHAPED for r in roots):
        kind = "noise"  # a posterior of another family
    return Site(z, kind, tuple(roots), tuple(flow.sorted(eps)), mu, scale)


def _one_draw(noisy: list[fx.Node], flow: Flow) -> bool:
    """Whether a product is one of scaled noise with another function of the same draw: (s * sign(u)) * log(1 - |u|)."""
    scaled = [n for n in noisy if n not in flow.pure_noise]
    if len(noisy) != 2 or len(scaled) != 1 or ops.op(scaled[0]) not in ops.MUL:
        return False
    draws = [flow.ancestors(n) & flow.random for n in noisy]
    return bool(draws[0] & draws[1])


def _same_draw(known: tuple[fx.Node, ...], fresh: list[fx.Node], flow: Flow) -> bool:
    """Whether all noise values are functions of the same draws."""
    return bool(fresh) and all(flow.ancestors(f) & flow.random == flow.ancestors(*known) & flow.random for f in fresh)


def _is_laplace(eps: set[fx.Node], flow: Flow) -> bool:
    """sign(u) * log(1 - |u|) of a uniform draw u: the inverse of the Laplace distribution function."""
    chain = flow.ancestors(*eps)
    names = {ops.op(n) for n in chain}
    return (
        "sign" in names
        and bool(names & {"log", "log1p"})
        and bool({ops.op(n) for n in chain if ops.is_random(n)} & {"rand", "rand_like", "uniform"})
    )


def _is_gumbel(eps: fx.Node, flow: Flow) -> bool:
    """-log(-log u): two logarithms, or the logarithm of an exponential draw, on a draw that is not normal."""
    chain = flow.ancestors(eps)
    logs = sum(ops.op(n) in ("log", "log1p", "logit") for n in chain)
    draws = {ops.op(n) for n in chain if ops.is_random(n)}
    return (logs >= 2 and bool(draws & {"rand", "rand_like", "uniform"})) or (logs >= 1 and "exponential" in draws)


def _is_logistic(eps: set[fx.Node], flow: Flow) -> bool:
    """log(u) - log(1 - u) of a uniform draw, added in one piece or in two."""
    chain = flow.ancestors(*eps)
    logs = [n for n in chain if ops.op(n) in ("log", "log1p")]
    uniform = {ops.op(n) for n in chain if ops.is_random(n)} & {"rand", "rand_like", "uniform"}
    return bool(uniform) and (len(logs) >= 2 or any(ops.op(n) == "logit" for n in chain))


def _merge(sites: list[Site]) -> list[Site]:
    """One site per z."""
    by_z: dict[fx.Node, Site] = {}
    for s in sites:
        by_z.setdefault(s.z, s)
    return list(by_z.values())


def before_normalising(node: fx.Node) -> fx.Node:
    """The logits that a value is the log-probabilities of, `logits - logsumexp(logits)`: they may be any numbers, it may not."""
    first, *rest = ops.value_inputs(node) or [node]
    if ops.op(node) == "sub" and rest and ops.op(rest[0]) == "logsumexp" and rest[0].args[0] is first:
        return first
    return node


def _find_heads(site: Site, flow: Flow) -> None:
    site.mu_heads = tuple(frontier([site.mu], flow)) if site.mu is not None else ()
    if site.kind == "categorical":
        site.mu_heads = tuple(frontier([before_normalising(h) for h in site.mu_heads], flow))
    matrix = (_PRODUCTS | _SOLVES.keys()) & {ops.op(n) for n in flow.descendants(*site.noise, stop={site.z}) & flow.ancestors(site.z)}
    through = _OF_MATRICES if matrix else frozenset[str]()
    site.scale_heads = tuple(frontier([site.scale], flow, through=through)) if site.scale is not None and site.scale in flow.data else ()
    site.heads = tuple(flow.sorted({*site.mu_heads, *site.scale_heads}))


def _moves_values(name: str) -> bool:
    return name in _MOVES or name.startswith("special_")  # torch.special: functions of single values


def frontier(
    starts: list[fx.Node],
    flow: Flow,
    stop: frozenset[fx.Node] | set[fx.Node] = frozenset(),
    through: frozenset[str] = frozenset(),
    bare: bool = False,
) -> list[fx.Node]:
    """Walks back from `starts` through element-wise and shape operations to the raw outputs they are made of.

    Stops at layers (operations with parameters), at selections (`chunk`, slices), at reductions and draws. Values that
    depend on no input are left out. A value normalised by a reduction of itself is a raw output as a whole. With `bare`, what puts
    values elsewhere is gone through, and element-wise arithmetic with a parameter is no layer.
    """

    def made_of(node: fx.Node) -> list[fx.Node] | None:
        name = ops.op(node)
        passes = bool(node.meta.get("carried")) or (
            node.op == "call_function"
            and (name in ops.POINTWISE | ops.SHAPE | {"effect", "detach", "data", "item"} | through or (bare and _moves_values(name)))
            and (not ops.uses_parameter(node) or (bare and name in ops.ARITHMETIC))
            and name != "batch_norm"
        )
        sources = [n for n in ops.value_inputs(node) if n in flow.data]
        if (
            node in stop
            or not passes
            or not sources
            or any(ops.is_opaque(s) for s in sources)
            or flow.looks_up(node)
            or (not through and len(set(sources)) > 1)  # a raw output made of several: that of a mixture, a residual, a normalisation
        ):
            return None
        return sources

    return flow.sorted(ends([n for n in starts if n in flow.data], made_of))


def _drop_noise_layers(sites: list[Site], flow: Flow) -> list[Site]:
    """Noise that disturbs a hidden value is no posterior.

    Where a posterior is held by the loss, what the loss sees through its draw alone is a posterior only if it has a mean
    and a scale head of its own: dropout, noise in proportion to the value itself, noise of learned strength have none. Noise with a
    constant scale is a posterior only if nothing better is there and a layer decodes it.
    """
    sites = [s for s in sites if s.kind != "gaussian" or not (covers_lookup(s.mu, s.scale, flow) or is_uniform(s.z, s.noise, flow))]
    real = [s for s in sites if s.kind != "noise"]
    held = [s for s in real if s.kind != "gaussian" or _is_held(s, flow)]
    if held:
        real = [s for s in real if s in held or _has_own_scale(s, flow)]
    return real or [s for s in sites if _decoded(s, flow)]


def _masks(flow: Flow) -> set[fx.Node]:
    """Noise that only keeps or drops values: drawn as Bernoulli, compared with a threshold, or rounded on the way."""
    masks: set[fx.Node] = set()
    for node in flow.sorted(flow.pure_noise):
        if ops.op(node) == "where" and any(n in flow.pure_noise and n not in masks for n in ops.tensors(node.args[1:])):
            continue  # it chooses among draws: what falls outside of bounds is drawn anew
        if (
            ops.op(node) == "bernoulli"
            or ops.op(node) in ops.COMPARE | (ops.FLAT - {"sign", "sgn"})
            or any(n in masks for n in ops.value_inputs(node))
        ):
            masks.add(node)
    return masks


def _is_held(site: Site, flow: Flow) -> bool:
    """Whether the loss sees a site's heads by another way than its draw, as a KL or a log-density does."""
    loss = flow.record.loss
    return loss is None or (bool(site.heads) and loss in flow.descendants(*site.heads, stop={site.z}))


def _has_own_scale(site: Site, flow: Flow) -> bool:
    """Whether there is a mean, and a scale that is made of something the mean is not: a layer's output, or a part of one."""
    if site.mu is None or site.scale is None or not site.scale_heads:
        return False
    of_mean, of_scale = flow.ancestors(site.mu), flow.ancestors(site.scale)
    if any(_is_output(n, flow) for n in of_scale - of_mean):
        return True
    # of a product of experts the precisions are in the mean as well, and the experts' means are not in the scale
    return any(_is_output(n, flow) for n in of_mean - of_scale) and any(ops.op(n) in ("exp", "softplus") for n in of_scale)


def _is_output(node: fx.Node, flow: Flow) -> bool:
    """Whether a value is a layer's output, or a part of one."""
    return node in flow.data and (ops.op(node) in ops.LAYERS | ops.SELECT or ops.is_opaque(node))


def _decoded(site: Site, flow: Flow) -> bool:
    return any(ops.uses_parameter(n) or multiplies_learned(n, flow) for n in flow.descendants(site.z) if n is not site.z)


def is_draw_of_data(site: Site, drawn: Iterable[Site], flow: Flow) -> bool:
    """Whether a draw is one of the data: its heads are made of a latent, and no layer reads them or it. The decoder's own sample is."""
    if not site.heads or not flow.descendants(*(s.z for s in drawn)).issuperset(site.heads):
        return False
    return not any(ops.uses_parameter(n) for n in flow.descendants(*site.heads) - set(site.heads))


@per_model
def draws_of(model: Traced) -> list[fx.Node]:
    """Draws that the loss or an output depends on, whatever for; masks by comparison with a draw count, dropout does not."""
    reach = model.reaching_loss
    return [n for n in model.record.graph.nodes if n in model.flow.random and (not reach or n in reach)]
