"""A prior of the model's own that the KL is not taken to: it is never trained, and what is drawn from it is untrained too."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.facts import KlFact
from vaelint.core.finding import Span
from vaelint.faults.gradients.unreached import Unreached, unreached
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import route, shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_DRAWS = frozenset({"randn", "randn_like", "normal", "normal_", "sample", "rsample", "Normal", "MultivariateNormal", "Independent"})


@dataclass(frozen=True)
class UnusedPrior:
    """A KL to a fixed prior, and the layer or parameters that give a learned one."""

    fact: KlFact
    path: str
    parameters: tuple[str, ...]
    made: Span | None
    called: Span | None = None

    call: Span | None = None  # where a helper takes the KL, its call for this one


def unused_priors(model: Model) -> list[UnusedPrior]:
    """Layers and parameters without a gradient that have mean and scale of a latent to give, beside a KL to N(0, I)."""
    facts = [k for k in model.kls if k.probe.verdict == "exact" and not k.probe.learned_prior and k.site is not None and k.site.mu_heads]
    if not facts:
        return []
    gradients = gradients_of(model)
    for fact in facts:
        assert fact.site is not None
        size = shape(fact.site.mu_heads[0])
        for layer in (*unreached(model), *_joined(model)):
            if layer.path not in layer.parameters and _gives_moments(model, layer, size):
                return [UnusedPrior(fact, layer.path, layer.parameters, layer.span, layer.called, _call(model, fact))]
        left = set(gradients.trainable.values()) - gradients.reached - gradients.updated
        bare = [n for n in gradients.trainable.values() if n in left and _is_moment(model, n, size)]
        if len(bare) > 1:
            made = usage_of(model).assignment(model.record.model.get_submodule(bare[0].rpartition(".")[0]), bare[0].rpartition(".")[2])
            return [UnusedPrior(fact, " and ".join(bare), tuple(bare), made)]
    return []


def _joined(model: Model) -> list[Unreached]:
    """The heads of one module that have no gradient together: mean and scale of its distribution."""
    beside: dict[str, list[Unreached]] = {}
    for layer in unreached(model):
        if layer.path not in layer.parameters and (parent := layer.path.rpartition(".")[0]):
            beside.setdefault(parent, []).append(layer)
    return [
        Unreached(path, tuple(p for layer in layers for p in layer.parameters), layers[0].span, layers[0].called, layers[0].why, True)
        for path, layers in beside.items()
        if len(layers) > 1
    ]


def _call(model: Model, fact: KlFact) -> Span | None:
    """Where a helper that knows priors of all kinds is given N(0, I), and where that is called, if other KLs come past it; else the place
    that no other KL comes past, where they share one."""
    others = {place for k in model.kls if k is not fact for leaf in k.term.leaves for place in route(leaf.node)}
    given = _given(model, fact)
    if given is not None and given not in others:
        return given
    way = next((route(leaf.node) for leaf in reversed(fact.term.leaves) if len(route(leaf.node)) > 1), ())
    own = next((place for place in way if place not in others), None) if way and way[0] in others else None
    return own or given


def _given(model: Model, fact: KlFact) -> Span | None:
    """The call that hands a helper the constants of N(0, I), made where it is called."""
    assert fact.site is not None
    size, flow = shape(fact.site.mu_heads[0]), model.flow
    for leaf in fact.term.leaves:
        for reader in (leaf.node, *leaf.chain):
            constants = [n for n in ops.value_inputs(reader) if n not in flow.data | flow.learned | flow.noisy and shape(n) == size]
            for made in (route(n)[0] for n in constants if route(n)):
                call = next((frame for frame in route(reader)[1:] if _within(made, frame)), None)
                if call is not None:
                    return call
    return None


def _within(inner: Span, outer: Span) -> bool:
    start, end = (outer.line, outer.column), (outer.end_line or outer.line, outer.end_column or 0)
    return inner.file == outer.file and start <= (inner.line, inner.column) <= end


def _is_moment(model: Model, name: str, size: Sequence[int]) -> bool:
    """Whether a parameter that another method draws with has an entry for each latent dimension."""
    value = dict(model.record.model.named_parameters(remove_duplicate=False))[name]
    return value.numel() == size[-1] and value.shape[-1:] == torch.Size(size[-1:]) and _only_drawn_with(model, name)


def _gives_moments(model: Model, layer: Unreached, size: Sequence[int]) -> bool:
    """Whether a layer puts out two values of a latent's size in this step, or would in another method that draws with it."""
    names = set(layer.parameters)
    nodes = [n for n in model.record.graph.nodes if n.op == "get_attr" and n.meta.get("parameter") in names]
    if not nodes:
        module = model.record.model.get_submodule(layer.path) if "." not in layer.path and layer.path not in names else None
        layers = [m for m in module.modules() if isinstance(m, torch.nn.Linear)] if module is not None else []
        return len(size) == 2 and _puts_out_twice(layers, size[-1]) and _only_drawn_with(model, layer.path)
    below = model.flow.descendants(*nodes) - model.reaching_loss
    alike = {n for n in below if ops.op(n) in ops.SELECT | ops.LAYERS and shape(n) == tuple(size) and n in model.flow.data}
    whole = {n for n in below if ops.op(n) in ops.LAYERS and math.prod(shape(n)) == 2 * math.prod(size)}
    if len(alike) == 1 and not whole and layer.path and not model.flow.noisy & alike:
        return _drawn_with_elsewhere(model, layer.path)  # the mean alone, of a prior with a fixed scale
    return len(alike) > 1 and (bool(whole) or _of_two_layers(alike))


def _puts_out_twice(layers: list[torch.nn.Linear], width: int) -> bool:
    """Whether the last layer of a module that this step does not run gives two values of a width, or the last two one each."""
    if not layers:
        return False
    last, before = layers[-1], layers[-2:][0]
    beside = before is not last and (before.in_features, before.out_features) == (last.in_features, last.out_features)
    if beside and last.out_features == width:
        return True
    return last.out_features == 2 * width and (not beside or last.in_features == last.out_features)


def _of_two_layers(nodes: set[fx.Node]) -> bool:
    return sum(ops.op(n) in ops.LAYERS for n in nodes) > 1


def _only_drawn_with(model: Model, name: str) -> bool:
    """Whether all methods that read an attribute draw with it, or are properties that hand on a distribution made of it. Not so where the
    step ran one of them and did without: a branch for data that is not always there."""
    file, functions = _readers(model, name)
    drawn = bool(functions) and all(_draws(model, file, f) and not _gives_a_number(f) for f in functions)
    return drawn and len(_idle(model, file, functions)) == len(functions)


def _drawn_with_elsewhere(model: Model, name: str) -> bool:
    """Whether a method that this step does not run draws with an attribute: what generation starts from."""
    file, functions = _readers(model, name)
    idle = _idle(model, file, functions)
    return any(_draws(model, file, f) for f in idle) and not any(_gives_a_number(f) for f in idle)


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _idle(model: Model, file: str, functions: list[_Function]) -> list[_Function]:
    """Those of some functions of a file that this step does not run."""
    ran = {s.line for n in model.record.nodes for s in n.meta.get("stack", ()) if s.file == file}
    return [f for f in functions if not any(f.lineno <= line <= (f.end_lineno or f.lineno) for line in ran)]


def _readers(model: Model, name: str) -> tuple[str, list[_Function]]:
    """The file that a layer's class is written in, and its methods that read an attribute."""
    owner = model.record.model.get_submodule(name.rpartition(".")[0])
    file, attribute = usage_of(model).file_of(owner), name.rpartition(".")[2]
    readers = usage_of(model).readers(file, attribute) if file else []
    return file or "", [f for f in model.source.file(file).functions() if f.name in readers] if file else []


def _draws(model: Model, file: str, function: ast.AST) -> bool:
    """Whether a function draws, or calls one of its file that does."""
    helpers = {f.name: f for f in model.source.file(file).functions()}
    called = _called(function)
    return not _DRAWS.isdisjoint(called) or any(not _DRAWS.isdisjoint(_called(helpers[name])) for name in called & helpers.keys())


def _called(function: ast.AST) -> set[str]:
    called = [n.func for n in ast.walk(function) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else "" for f in called}


def _gives_a_number(function: ast.AST) -> bool:
    """Whether a function returns what a reduction over everything leaves, alone or in a sum: a loss, of a second stage say."""
    given = {t.id: n.value for n in ast.walk(function) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    todo = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
    for value in todo:
        if isinstance(value, ast.BinOp):
            todo += [value.left, value.right]
        elif isinstance(value, ast.UnaryOp):
            todo.append(value.operand)
        elif isinstance(value, ast.Tuple):
            todo += value.elts
        elif isinstance(value, ast.Name) and value.id in given:
            todo.append(given.pop(value.id))
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            of_all = value.func.attr in ops.LINEAR_REDUCE and not any(k.arg in ("dim", "axis") for k in value.keywords)
            if (of_all and len(value.args) <= (ast.unparse(value.func.value) == "torch")) or value.func.attr in ops.LOSSES:
                return True
    return False
