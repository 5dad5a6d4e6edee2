"""Law B7, for gradients of one sign: what a backward written by hand lets through where its forward is flat leads out of there.

Intervention: what an `autograd.Function` is given is moved up and down, and its backward is handed gradients of both signs. Where the value
does not move, and a gradient of one sign alone comes through, descent must move the input to the side on which the value moves again: a
lower bound that lets a gradient through below it lets that one through which raises the input. Exempt is what lets both through (a
straight-through), what lets none through, and what is flat on both sides.

Source: Ballé et al. 2018, Variational image compression with a scale hyperprior: the code of its lower bound.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.paths import relative
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.own_gradients import own_functions
from vaelint.laws.places.returns import last_return
from vaelint.rule import Found

_NEAR = 2e-2  # of the values' own size
_FAR = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LEAST = 4  # elements that have to speak
_COMPARES = ("gt", "ge", "lt", "le", "clamp", "clamp_min", "clamp_max", "sign")


@law(
    "own-gradients-lead-out",
    "a gradient that a backward written by hand lets through in one direction only leads out of where its forward is flat",
    covered=("VAE513",),
)
def own_gradients_lead_out(bench: Bench) -> Iterator[Broken]:
    """Functions of the user's own that work element by element."""
    for node, made_by in own_functions(bench):
        for source in node.all_input_nodes[1:]:
            if bench.is_real(source) and bench.knows(source) and (stuck := _led_in(bench, node, source)) is not None:
                yield _stuck(bench, node, source, made_by, *stuck)
                return


def _led_in(bench: Bench, node: fx.Node, source: fx.Node) -> tuple[int, str] | None:
    """How many elements are moved further into where the function is flat, and where the way out is; None where any is led out."""
    flow, out, given = bench.model.flow, bench.value(node), bench.value(source)
    if out.shape != given.shape or (flow.descendants(source) & flow.ancestors(node)) & flow.random:
        return None
    passed = [_passed(bench, node, source, sign) for sign in (1.0, -1.0)]
    down, up = passed
    if down is None or up is None:
        return None
    one_way = ((down > 0) & (up == 0)) | ((down == 0) & (up < 0))
    leads_up = up < 0
    if int(one_way.sum()) < _LEAST:
        return None
    size = float(given.double().std()) or float(given.double().abs().mean()) or 1.0
    stays = _still(bench, node, source, _NEAR * size) & _still(bench, node, source, -_NEAR * size)
    rises, falls = (~_still(bench, node, source, *(way * f * size for f in _FAR)) for way in (1, -1))
    asked = one_way & stays & (rises ^ falls)
    wrong = asked & (leads_up ^ rises)
    if int(wrong.sum()) < _LEAST or bool((asked & ~wrong).any()):
        return None
    return int(wrong.sum()), "above" if bool(rises[wrong].all()) else "below" if bool(falls[wrong].all()) else "on the other side"


def _passed(bench: Bench, node: fx.Node, source: fx.Node, sign: float) -> torch.Tensor | None:
    """The gradient that comes through of one that has this sign everywhere."""
    return bench.base.gradient(bench.value_with_graph(node) * sign, [bench.value_with_graph(source)])[0]


def _still(bench: Bench, node: fx.Node, source: fx.Node, *by: float) -> torch.Tensor:
    """Where the value stays as it is with all of the source moved by each of these."""
    out, given = bench.value(node), bench.value(source)
    still = torch.ones_like(out, dtype=torch.bool)
    for one in by:
        still &= bench.after({source: given + one}, [node])[node] == out
    return still


def _stuck(bench: Bench, node: fx.Node, source: fx.Node, made_by: type, many: int, where: str) -> Broken:
    model, name = bench.model, bench.model.written(source)
    found = Found(
        _chosen(bench, made_by) or model.where(node),
        label="lets through what moves the value further in, and stops what would bring it back",
        labels=model.labels((node, f"{made_by.__name__} is applied here")),
        why=f"descent moves a value against its gradient: where {made_by.__name__} is flat, {name} can only be moved away from where it "
        "counts, and never comes back",
        help="turn the comparison of the gradient: below a lower bound, let a negative one through",
    )
    text = f"{many} elements of {name} are where the value stays; it moves {where}, and the only gradient let through leads the other way"
    return Broken("own-gradient", found, "what is let through where the function is flat leads out of there", text)


def _chosen(bench: Bench, made_by: type) -> Span | None:
    """Where backward asks for the sign of what it is given, if at one place; else its last `return`."""
    backward = inspect.unwrap(getattr(made_by, "backward", made_by))
    code = getattr(backward, "__code__", None)
    if code is None:
        return None
    file, given = relative(code.co_filename), set(code.co_varnames[1 : code.co_argcount])
    trees = [f for f in bench.model.source.file(file).functions() if f.lineno >= code.co_firstlineno]
    own = min(trees, key=lambda f: f.lineno, default=None)
    asks = [n for n in ast.walk(own) if isinstance(n, ast.Compare | ast.Call) and _asks(n, given)] if own is not None else []
    return bench.model.source.file(file).place(file, asks[0]) if len(asks) == 1 else last_return(bench, code)


def _asks(node: ast.Compare | ast.Call, given: set[str]) -> bool:
    if isinstance(node, ast.Compare):
        return any(isinstance(side, ast.Name) and side.id in given for side in (node.left, *node.comparators))
    func = node.func
    return isinstance(func, ast.Attribute) and func.attr in _COMPARES and isinstance(func.value, ast.Name) and func.value.id in given
