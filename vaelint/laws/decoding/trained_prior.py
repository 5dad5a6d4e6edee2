"""Law A10, for priors that learn: what is generated starts from the prior that the KL trains.

Intervention: the model's own functions that draw and decode are run, whatever they are called, with the conditions of the step where they
ask for them. Parameters that the KL alone reads are the prior's: a conditional network, the means of a mixture, pseudo-inputs, a flow.
Where a function draws noise, decodes it and asks no encoder, it must read some of them.

Exempt are networks that see the data themselves (an auxiliary posterior), functions whose arguments are neither a number nor an input of
the step, and models of which another function reads the prior.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import fx

from vaelint.experiment.runs import Runner
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, ancestors, requires_grad, shape, span
from vaelint.rule import Found
from vaelint.step.step import Outcome

GENERATES = re.compile(r"(sample|generate|dream|imagine)", re.IGNORECASE)
_DRAWS = frozenset({"randn", "randn_like", "normal", "normal_", "sample", "rsample"})
_LEAVES = frozenset({"backward", "step", "save", "open", "write", "train_step", "print"})
_COUNTS = re.compile(r"(n|k|b|num|number|count|size|bs|batch|(n|num|batch)_?[a-z]+)")
_STEPS = re.compile(r"(t|steps|length|horizon|frames|(seq|max)_?[a-z]+|n_?steps)")
_FEW = 4
_SECONDS = 10.0
_OWNERS = ("model", "vae", "net")  # how a function outside the class calls its first argument


@law(
    "generation-starts-from-the-learned-prior",
    "what is generated starts from the prior that the KL trains",
    covered=("VAE222", "VAE432"),
    cost="all",
)
def generation_starts_from_the_learned_prior(bench: Bench) -> Iterator[Broken]:
    """Every function of the model that draws, decodes, and asks no encoder."""
    flow = bench.model.flow
    kls = [leaf for term in bench.model.terms if term.role in ("kl", "prior") for leaf in term.leaves]
    recons = [r.pair.recon for r in bench.model.recons]
    drawn = {s.z for s in bench.model.sites}
    if not kls or not recons or not drawn:
        return
    decoder = parameters_of(flow.ancestors(*recons, stop=drawn))
    posterior = parameters_of(flow.ancestors(*(h for s in bench.model.sites for h in s.heads)))
    encoder = posterior - decoder
    prior = parameters_of(flow.ancestors(*(leaf.node for leaf in kls))) - parameters_of(flow.ancestors(*recons)) - posterior - _shown(bench)
    widths = {shape(z)[-1] for z in drawn if shape(z)}
    if not any(_size(bench, name) >= min(widths) for name in prior):
        return
    idle: list[tuple[str, fx.Node]] = []
    for name, function in functions_of(bench):
        record = called(bench, function)
        read = parameters_of(set(record.nodes)) if record is not None else set()
        if record is None or not decoder & read or encoder & (read - prior):
            continue
        if prior & read:
            return
        noise = _decoded_noise(record, decoder, widths)
        idle += [(name, noise)] if noise is not None else []
    if idle:
        yield _broken(bench, *idle[0], prior)


def parameters_of(nodes: set[fx.Node]) -> set[str]:
    return {str(n.target) for n in nodes if n.op == "get_attr" and n.meta.get("parameter") and requires_grad(n)}


def _shown(bench: Bench) -> set[str]:
    """Parameters of what sees the data itself: of an auxiliary posterior, or a state that has seen the past."""
    flow = bench.model.flow
    targets = [t for r in bench.model.recons if (t := r.pair.target) is not None]
    data = [n for n in flow.ancestors(*targets) | set(targets) if n.op == "placeholder"] if targets else []
    below = flow.descendants(*data, stop={s.z for s in bench.model.sites}) if data else set()
    return {p for n in below for p in parameters_of(set(n.all_input_nodes))}


def _size(bench: Bench, name: str) -> int:
    node = next(n for n in bench.model.record.nodes if n.op == "get_attr" and str(n.target) == name)
    return int(node.meta["val"].numel())


def functions_of(bench: Bench) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The methods of the model's class, and the functions beside it that take the model first."""
    kind = type(bench.model.record.model)
    beside = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    for name in dir(kind):
        function = getattr(kind, name, None)
        if inspect.isfunction(function) and not isinstance(inspect.getattr_static(kind, name), staticmethod | classmethod):
            yield name, function
    for name, function in beside.items():
        if inspect.isfunction(function) and next(iter(inspect.signature(function).parameters), "") in _OWNERS:
            yield name, function


def called(bench: Bench, function: Callable[..., Any]) -> Record | None:
    """The record of one call with the step's conditions; None where it asks for something else, or fails."""
    runner = bench.base.runner
    if function.__name__.startswith("__") or not (GENERATES.search(function.__name__) or _draws_for_itself(bench, function)):
        return None
    asked = list(inspect.signature(function).parameters.values())[1:]
    inputs = bench.model.record.inputs
    given: dict[str, Any] = {}
    for p in asked:
        needed = p.default is p.empty and p.kind <= p.KEYWORD_ONLY and p.kind is not p.VAR_POSITIONAL
        if p.name in inputs:
            given[p.name] = inputs[p.name]
        elif needed and p.name == "device":
            given[p.name] = runner.device
        elif needed and _STEPS.fullmatch(p.name):
            given[p.name] = _FEW
        elif needed and (_COUNTS.fullmatch(p.name) or p.annotation in (int, "int")):
            given[p.name] = bench.base.batch or _FEW
        elif needed:
            return None

    def step(model: torch.nn.Module, made: dict[str, torch.Tensor]) -> Outcome:
        own = {k: made[k] if isinstance(v, fx.Node) else v for k, v in given.items()}
        return Outcome(function(model, **own), None)

    record = Runner(runner.tracer, step, runner.device, runner.sizes, _SECONDS).run()
    return record if record.failure is None else None


def _draws_for_itself(bench: Bench, function: Callable[..., Any]) -> bool:
    """Whether a function that the step does not run names a draw, and nothing that trains or that leaves anything behind."""
    code = inspect.unwrap(function).__code__
    places = {(Path(s.file).name, s.line) for n in bench.model.record.nodes for s in n.meta.get("stack") or ()}
    lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
    is_run = any((Path(code.co_filename).name, line) in places for line in lines)
    return not is_run and not _DRAWS.isdisjoint(code.co_names) and _LEAVES.isdisjoint(code.co_names)


def _decoded_noise(record: Record, decoder: set[str], widths: set[int]) -> fx.Node | None:
    """The noise that the decoder's first layer gets."""
    for node in record.nodes:
        layer = ops.op(node) in ops.LAYERS and any(n.op == "get_attr" and str(n.target) in decoder for n in node.all_input_nodes)
        made = [n for n in record.nodes if n in ancestors(node) and ops.op(n) in ("randn", "randn_like", "normal")] if layer else []
        if made and shape(made[0]) and shape(made[0])[-1] in widths:
            return made[0]
    return None


def _broken(bench: Bench, name: str, noise: fx.Node, prior: set[str]) -> Broken:
    names = ", ".join(sorted(prior)[:3])
    found = Found(
        span(noise),
        label=f"{name} decodes this, and asks nothing of the prior that was trained",
        labels=bench.model.labels((bench.model.sites[0].z, "in training the decoder gets draws that the KL holds to the learned prior")),
        why="the posteriors are where the learned prior is: the decoder was never trained on other draws",
        help=f"draw from the learned prior: {names}",
    )
    text = f"{name} draws, decodes, and reads none of the {len(prior)} parameters that the KL alone trains"
    return Broken("generation-differs", found, "what draws and decodes reads the prior's parameters", text)
