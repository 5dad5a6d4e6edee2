"""Wrong claims about models of other kinds than `injections` varies: the good twins of fixtures, and whole texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from expectations import fixtures
from othertexts import STEPS, TOKENS, VQ
from torch import fx

from vaelint import claims
from vaelint.anatomy.loss.logsums import log_sums, shifts_of
from vaelint.anatomy.model import Model
from vaelint.faults.bounds.flows import flow_bounds
from vaelint.faults.likelihood.padding import Padding
from vaelint.faults.shapes.annotations import Measure
from vaelint.record import ops
from vaelint.rule import Claim


def by_op(model: Model, name: str, last: bool = True, of: str = "") -> fx.Node:
    """An operation of that name; with `of`, one that an operation of that other name stands behind."""
    found = [n for n in model.record.nodes if n.op == "call_function" and ops.op(n) == name]
    behind = [n for n in model.record.nodes if ops.op(n) == of]
    found = [n for n in found if not of or any(n in model.flow.descendants(b) for b in behind)]
    return found[-1 if last else 0]


def _wrong_of_shapes(m: Model) -> list[tuple[fx.Node, fx.Node | None, Measure]]:
    """What an annotation `mu: Float[Tensor, "batch latent"]` could be accused of, were it not right."""
    mu, z = m.sites[0].mu, m.sites[0].z
    assert mu is not None
    return [
        (mu, None, Measure("rank", written=2)),
        (mu, None, Measure("size", 1, 4)),
        (z, mu, Measure("bound", 0)),
        (z, None, Measure("batch", 0)),
    ]


def _layer_input(m: Model, parameter: str) -> fx.Node:
    """What the layer of that weight reads."""
    found = next(n for n in m.record.nodes if any(a.op == "get_attr" and a.meta.get("parameter") == parameter for a in n.all_input_nodes))
    return cast(fx.Node, found.args[0])


def _layer_output(m: Model, parameter: str) -> fx.Node:
    return next(n for n in m.record.nodes if any(a.op == "get_attr" and a.meta.get("parameter") == parameter for a in n.all_input_nodes))


def _density(m: Model) -> dict[str, Any]:
    """log q of the right model: all addends that are made of z, its mean and its log-variance."""
    site = m.sites[0]
    ends = {site.z, *site.heads}
    leaves = tuple(
        leaf for t in m.terms for leaf in t.leaves if leaf.frontier and set(leaf.frontier) <= ends and set(leaf.frontier) != {site.z}
    )
    mean, head = site.mu_heads[0], site.scale_heads[0]
    return {"place": leaves[0].node, "z": site.z, "mean": mean, "head": head, "reading": "log-variance", "leaves": leaves}


def _kl_to_prior(m: Model) -> dict[str, Any]:
    encoder, prior = _layer_output(m, "low.weight"), _layer_output(m, "down.2.weight")
    leaf = next(leaf for t in m.terms if t.role == "kl" for leaf in t.leaves if prior in leaf.frontier and len(leaf.frontier) > 1)
    return {"leaf": leaf, "encoder": (encoder,), "prior": (prior,)}


def _fall(m: Model) -> dict[str, Any]:
    output = _layer_output(m, "prior_lv.weight")
    return {"output": output, "leaves": tuple(leaf for t in m.terms for leaf in t.leaves if output in leaf.frontier), "at": 16.0}


def _twin(
    kind: type[Claim], rule: str, about: Callable[[Model], dict[str, Any]], shape: str
) -> tuple[str, str, tuple[str, ...], str, Callable[[Model], Iterable[Claim]]]:
    """A wrong claim about the good twin of a rule's fixture."""
    text = min(fixtures("good", rule), key=lambda f: len(f.stem)).path.read_text()
    name = text.split()[3]
    return kind.in_words(), f"{text}\n\nVAE = {name}\n", (f"x={shape}",), "loss = model.loss(x)", lambda m: [kind("", **about(m))]


TWINS = [
    _twin(claims.ArgumentHasNoEffect, "vae431", lambda m: {"function": "combine", "argument": "kl_weight"}, "16x24:float32[0,1]"),
    _twin(claims.BoundOfOnes, "vae418", lambda m: {"source": by_op(m, "logsumexp").args[0]}, "16x20:float32{0,1}"),
    _twin(
        claims.ShiftCancels,
        "vae418_iwae_reduction__divided_log",
        lambda m: {"largest": shifts_of(log_sums(m)[0]), "source": log_sums(m)[0].source},
        "7x16:float32{0,1}",
    ),
    _twin(
        claims.WeightsOfDraws, "vae422", lambda m: {"node": by_op(m, "softmax"), "score": by_op(m, "softmax").args[0], "axis": 1}, "12x20"
    ),
    _twin(
        claims.CountedTimes,
        "vae423",
        lambda m: {"weight": by_op(m, "log_softmax"), "source": by_op(m, "logsumexp").args[0]},
        "14x30:float32{0,1}",
    ),
    _twin(
        claims.ComponentsWeighAlike,
        "vae433",
        lambda m: {"source": by_op(m, "logsumexp").args[0], "axis": 1, "posterior": m.sites[0].z},
        "10x20:float32[0,1]",
    ),
    _twin(claims.DiscrepancyFalls, "vae407_kl_sign__discrepancy", lambda m: {"term": m.term("discrepancy")}, "16x20"),
    _twin(claims.SumsToOne, "vae310_gaussian_nll_formula__counts", lambda m: {"fact": m.recons[0]}, "16x40:float32[0,inf)"),
    _twin(claims.LogDensity, "vae424", _density, "16x24:float32[0,1]"),
    _twin(claims.UnboundedFall, "vae425", _fall, "12x24"),
    _twin(claims.CentredBy, "vae426", lambda m: {"values": by_op(m, "matmul").args[1]}, "16x24"),
    _twin(claims.DiagonalEntries, "vae426", lambda m: {"node": by_op(m, "diagonal")}, "16x24"),
    _twin(claims.PriorSees, "vae427", lambda m: {"node": _layer_input(m, "dec.0.weight")}, "12x20"),
    _twin(claims.DeterminantWeight, "vae428", lambda m: {"bound": flow_bounds(m)[0], "leaves": flow_bounds(m)[0].leaves}, "12x20"),
    _twin(claims.KlSees, "vae429", _kl_to_prior, "12x24"),
    _twin(
        claims.NoPart,
        "vae218",
        lambda m: {
            "entry": _layer_input(m, "dec.0.weight"),
            "head": by_op(m, "softplus"),
            "through": by_op(m, "sqrt"),
            "draw": by_op(m, "standard_gamma"),
        },
        "12x20:float32[0,1]",
    ),
    _twin(claims.ClassSums, "vae321", lambda m: {"node": by_op(m, "log_softmax"), "axis": 2}, "5x9:int64[0,40)"),
    _twin(
        claims.RowsOfChannels,
        "vae112",
        lambda m: {"origin": by_op(m, "permute", last=False).args[0], "rows": by_op(m, "cdist").args[0]},
        "4x3x16x16:float32[0,1]",
    ),
    _twin(
        claims.EqualRows,
        "vae508",
        lambda m: {"node": next(n for n in m.record.nodes if n.meta.get("parameter") == "codes.weight"), "axis": 0},
        "16x20",
    ),
]
_TWO_CALLS = "rec, kl = (lambda a: (a, a * 2))(model(x)); rec.backward(retain_graph=True); kl.backward(); loss = rec"
_MOVES = "opt = torch.optim.SGD(model.parameters(), 0.1); loss = model(x); opt.zero_grad(); loss.backward(); opt.step()"
WHOLE: list[tuple[str, str, tuple[str, ...], str, Callable[[Model], Iterable[Claim]]]] = [
    ("vq_gradients", VQ, ("x=8x12",), "loss = model(x)",
     lambda m: (claims.VqGradients("", what=w, parameters=["codes.weight"]) for w in ("encoder", "codebook", "commitment"))),
    ("padding_counts", TOKENS, ("x=6x9:int64[0,20)",), "loss = model(x)",
     lambda m: [claims.PaddingCounts("", fact=m.recons[0], padding=Padding(by_op(m, "embedding", last=False), 0))]),
    ("target_leak", TOKENS, ("x=6x9:int64[0,20)",), "loss = model(x)",
     lambda m: [claims.TargetLeak("", fact=m.recons[0], tokens=m.record.inputs["x"])]),
    ("step_leak", STEPS, ("x=6x9x3",), "loss = model(x)",
     lambda m: [claims.StepLeak("", fact=m.recons[0], given=m.record.inputs["x"], axis=1)]),
    ("annotated_shape", "", ("x=8x12:float32[0,1]",), "loss = model(x)",
     lambda m: [claims.AnnotatedShape("", node=n, measure=measure, bound=b) for n, b, measure in _wrong_of_shapes(m)]),
    ("second_backward", "", ("x=8x12:float32[0,1]",), _TWO_CALLS, lambda m: [claims.SecondBackward("")]),
    ("step_moves_nothing", "", ("x=8x12:float32[0,1]",), _MOVES, lambda m: [claims.StepMovesNothing("")]),
]  # fmt: skip
"""Experiments that want a model of another kind: its text, inputs, step, and wrong claims about it."""
