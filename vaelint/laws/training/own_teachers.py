"""Law B5, for teachers: a network that is held still to teach another one has weights of its own.

Observed on the step as it runs: what a loss learns from is put out, without a gradient, by the very parameters that the loss moves, and
the code calls them by another name there, an attribute that was bound to the network. Exempt is a network that teaches itself by its own
name (self-distillation, codes that are encoded again), and a name that is an operand of the gradient elsewhere in the step.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.second_names import second_names
from vaelint.record.record import BackwardCall, route
from vaelint.rule import Found


@dataclass(frozen=True)
class _Teacher:
    """A second name of a network, where it was bound, and a value that it puts out."""

    name: str
    student: str
    bound: Span
    answer: fx.Node
    weights: frozenset[int]


@law("teachers-are-apart", "a network that is held still to teach another has weights of its own", covered=("VAE902", "VAE916"), cost="all")
def teachers_are_apart(bench: Bench) -> Iterator[Broken]:
    """Every backward pass that moves something, as a teacher may be asked from the second turn on."""
    for call in bench.model.record.backwards:
        teacher = _teacher(bench, call) if call.moved else None
        if teacher is not None:
            changed = _changed(bench, teacher)
            if changed:
                yield _same(bench, teacher, changed)
            return


def _teacher(bench: Bench, call: BackwardCall) -> _Teacher | None:
    flow = bench.model.flow
    way, live = flow.ancestors(call.node), gradients_of(bench.model).reach(call.node)
    taught = {n: own for n in live if (own := _weights(n, call)) and n.op == "call_function"}
    still = {n: own for n in flow.sorted(way - live) if (own := _weights(n, call)) and n.op == "call_function"}
    learning = frozenset[int]().union(*taught.values())
    named = set().union(*(_receivers(bench, n) for n in taught))
    for node in (n for n, own in still.items() if own <= learning):
        for name in sorted(n for n in _receivers(bench, node) - named if "." in n):
            files = sorted({place.file for place in route(node)})
            found = next((s for s in second_names(bench.model.source, files) if s.is_called(name) and s.beside & named), None)
            if found is not None:
                weights = frozenset[int]().union(*(own for n, own in still.items() if name in _receivers(bench, n)))
                return _Teacher(name, min(found.beside & named), found.place, node, weights)
    return None


def _weights(node: fx.Node, call: BackwardCall) -> frozenset[int]:
    """The parameters that an operation reads and the pass moves."""
    return frozenset(id(i.meta.get("val")) for i in node.all_input_nodes if i.op == "get_attr") & call.moved


def _receivers(bench: Bench, node: fx.Node) -> set[str]:
    """What the calls that led to an operation were made on, as they are written."""
    found: set[str] = set()
    for place in route(node):
        made = bench.model.source.file(place.file).at(place)
        if isinstance(made, ast.Call):
            found.add(ast.unparse(made.func))
            found |= {ast.unparse(made.func.value)} if isinstance(made.func, ast.Attribute) else set()
    return found


def _changed(bench: Bench, teacher: _Teacher) -> int:
    """How many of the teacher's parameters one run of the step moves. Raises CannotMeasureError."""
    names = {name for name, p in bench.model.record.model.named_parameters() if id(p) in teacher.weights}
    seen: list[tuple[torch.nn.Module, dict[str, torch.Tensor]]] = []

    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        seen.append((model, {n: p.detach().clone() for n, p in model.named_parameters() if n in names}))

    run = bench.base.again(as_is=True, prepare=put)
    if run.record.failure is not None or not seen:
        raise CannotMeasureError("the step does not run with its optimizers")
    model, before = seen[-1]
    return sum(not torch.equal(p.detach(), before[n]) for n, p in model.named_parameters() if n in before)


def _same(bench: Bench, teacher: _Teacher, changed: int) -> Broken:
    found = Found(
        teacher.bound,
        label=f"{teacher.student} itself, not a copy of it",
        labels=bench.model.labels((teacher.answer, f"{teacher.name} answers here, and the loss learns from it")),
        why="the two names are one network: each step moves the teacher with the student, which learns what it says itself, and what the "
        "teacher was to keep is forgotten",
        help=f"keep a copy: copy.deepcopy({teacher.student})",
    )
    text = f"the step moves {changed} parameters that {teacher.name} answers with"
    return Broken("teacher-of-itself", found, "what teaches stays as it is", text)
