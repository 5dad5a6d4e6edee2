"""Law B7: a backward written by hand is the derivative of its forward.

Intervention: single elements of what an `autograd.Function` is given are moved by two small lengths. Where the two slopes agree, the
function is smooth there, and its backward must give that slope. Where it is flat (a quantiser) or leaves its input as it is (a gradient
that is turned or scaled on purpose), another gradient is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.paths import user_file
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.places.returns import last_return
from vaelint.record.marks import custom_gradient
from vaelint.rule import Found

_ELEMENTS = 24
_STEP = 2e-2  # of the values' own size: single precision has little left below that
_ALIKE = 0.05
_FLAT = 1e-3
_LEAST = 4  # elements that have to speak


@law("own-gradients-are-derivatives", "a backward written by hand is the derivative of its forward", covered=("VAE513",))
def own_gradients_are_derivatives(bench: Bench) -> Iterator[Broken]:
    """Every function of the user's own, once for each class."""
    seen: set[object] = set()
    for node, made_by in own_functions(bench):
        if made_by in seen:
            continue
        seen.add(made_by)
        for source in _sources(bench, node):
            wrong = _wrong(bench, node, source)
            if wrong is not None:
                yield _broken(bench, node, source, made_by, wrong)
                return


def own_functions(bench: Bench) -> Iterator[tuple[fx.Node, type]]:
    """What functions of the user's own gave, with their classes."""
    for node in bench.model.record.nodes:
        if node.target is custom_gradient and bench.knows(node):
            made_by = getattr(type(bench.value_with_graph(node).grad_fn), "_forward_cls", None)
            if made_by is not None and _is_users(made_by):
                yield node, made_by


def _is_users(made_by: type) -> bool:
    """Whether the backward is the user's own: torch and packages know theirs."""
    code = getattr(inspect.unwrap(getattr(made_by, "backward", made_by)), "__code__", None)
    return code is not None and user_file(code.co_filename)


def _sources(bench: Bench, node: fx.Node) -> list[fx.Node]:
    """What it was given that has a gradient."""
    return [n for n in node.all_input_nodes[1:] if bench.is_real(n) and bench.knows(n)]


def _wrong(bench: Bench, node: fx.Node, source: fx.Node) -> tuple[float, float, int] | None:
    """A slope that was measured, the one that backward gives, and at how many elements they differ; None where it keeps the law."""
    flow = bench.model.flow
    if (flow.descendants(source) & flow.ancestors(node)) & flow.random:
        return None  # it draws: another value may take other random numbers
    out, given = bench.value(node), bench.value(source)
    if out.shape == given.shape and torch.equal(out, given):
        return None
    weights = torch.linspace(0.5, 1.5, max(out.numel(), 2), dtype=torch.float64)[: out.numel()].reshape(out.shape).to(out.device)
    gradient = bench.base.gradient(bench.value_with_graph(node) * weights.to(out.dtype), [bench.value_with_graph(source)])[0]
    if gradient is None:
        return None  # no gradient is asked for here: other laws speak of what is cut off
    size = float(given.double().std()) if given.numel() > 1 else abs(float(given))
    step = _STEP * (size or 1.0)
    pairs = []
    for at in sorted({int(given.numel() * (k + 0.5) / _ELEMENTS) for k in range(_ELEMENTS)}):
        slopes = [_slope(bench, node, source, at, h, weights) for h in (step, step / 2)]
        scale = max(map(abs, slopes))
        if scale > _FLAT and abs(slopes[0] - slopes[1]) <= 0.2 * _ALIKE * scale:
            pairs.append((slopes[1], float(gradient.flatten()[at])))
    apart = [(a, b) for a, b in pairs if abs(a - b) > _ALIKE * max(abs(a), abs(b))]
    if len(pairs) < _LEAST:
        return None  # flat, or with steps: a straight-through
    return (*max(apart, key=lambda p: abs(p[0] - p[1])), len(apart)) if 2 * len(apart) > len(pairs) else None


def _slope(bench: Bench, node: fx.Node, source: fx.Node, at: int, step: float, weights: torch.Tensor) -> float:
    """How the weighted sum of what comes out moves with one element, what else the function was given held."""
    sums = []
    held = bench.same(n for n in node.all_input_nodes[1:] if n is not source and bench.knows(n))
    for way in (step, -step):
        changed = bench.value(source).clone(memory_format=torch.contiguous_format)
        changed.view(-1)[at] += way
        after = bench.after({**held, source: changed}, [node]).get(node)
        if after is None or after.shape != weights.shape:
            raise CannotMeasureError("the function does not run again")
        sums.append(float((after.double() * weights).sum()))
    return (sums[0] - sums[1]) / (2 * step)


def _broken(bench: Bench, node: fx.Node, source: fx.Node, made_by: type, wrong: tuple[float, float, int]) -> Broken:
    model = bench.model
    slope, given, _ = wrong
    found = Found(
        _returned(bench, made_by) or model.where(node),
        label=f"the gradient for {model.written(source)}",
        labels=model.labels((node, f"{made_by.__name__} is applied here")),
        why="whatever is trained through this function follows another direction than the loss falls in",
        help="compare it with torch.autograd.gradcheck, in double precision; or leave backward out and let autograd derive it",
    )
    text = f"moving one element of {model.written(source)} moves the output by {slope:.3g} for each 1, and backward gives {given:.3g}"
    return Broken("own-gradient", found, "backward gives the slope that forward has", text)


def _returned(bench: Bench, made_by: type) -> Span | None:
    """The last `return` of its backward."""
    backward = inspect.unwrap(getattr(made_by, "backward", made_by))
    code = getattr(backward, "__code__", None)
    return last_return(bench, code) if code is not None else None
