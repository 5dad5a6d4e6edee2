"""Law D2: the batch is left alone. What is written into a second name of the data is written into the data.

Observed on the real run: what an input was when the step was handed it, and what it is where the reconstruction is held to it. A draw that
the code writes into `noisy`, where `noisy` is the data itself and no copy, stands in the target too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Span
from vaelint.experiment.recompute import in_place
from vaelint.experiment.runs import calm
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.rule import Found
from vaelint.trace.torch_private import storage_of

_SAME = frozenset({"detach", "view", "reshape", "flatten", "contiguous", "float", "to", "view_as", "squeeze", "unsqueeze"})
_TINY = 0.05  # of the data's own spread: noise that fills the steps of whole numbers is meant


@dataclass(frozen=True)
class _Written:
    """A change in place of an input, by what was drawn, through another name than that of the target."""

    fact: ReconFact
    change: fx.Node
    entry: fx.Node
    alias: str
    name: str


@law("batches-are-left-alone", "the reconstruction is held to the data as they were handed over", covered=("VAE306",))
def batches_are_left_alone(bench: Bench) -> Iterator[Broken]:
    """Changes by a draw alone: scaling the data in place is another unit, and holds for the target as well.

    Exempt is a change under the data's own name: whoever writes `x.mul_(mask)` and compares with `x` has said so.
    """
    written = next(_writings(bench), None)
    if written is None:
        return
    share = _change(bench, written.entry)
    if share <= _TINY:
        return
    model = bench.model
    found = Found(
        model.where(written.change),
        label=f"{written.alias} is {written.name} itself, not a copy: {written.name} is changed too",
        labels=model.labels((written.fact.pair.meet, f"compared with {written.name} as it is now")),
        why="the reconstruction is held to the corrupted data: the model is rewarded for reproducing what was to be removed, "
        "and the caller's batch is changed",
        help=f"corrupt a copy: {written.alias} = {written.name}.clone(), or use the form that makes a new tensor",
    )
    text = f"the target is {share:.2g} times the data's own spread away from what the step was handed"
    yield Broken("batch-overwritten", found, "an input is the same at the comparison as when it was handed over", text)


def _writings(bench: Bench) -> Iterator[_Written]:
    model = bench.model
    flow, inputs = model.flow, set(model.record.inputs.values())
    for fact in model.recons:
        if fact.pair.target is None:
            continue
        for change in (n for n in flow.sorted({fact.pair.target, *flow.ancestors(fact.pair.target)}) if in_place(n) or n.target is effect):
            operands = ops.value_inputs(change)
            entry = next((n for n in flow.ancestors(change) if n in inputs and _is_same_tensor(n, change)), None)
            place = model.where(change)
            drawn = any(m in flow.random for o in operands[1:] for m in (o, *flow.ancestors(o)))
            if entry is not None and drawn and place is not None and (names := _two_names(bench, place)) is not None:
                yield _Written(fact, change, entry, *names)


def _is_same_tensor(entry: fx.Node, change: fx.Node) -> bool:
    """Whether a change reaches the memory of an input."""
    mine, other = entry.meta.get("val"), change.meta.get("val")
    if not isinstance(mine, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return mine is other or ((key := storage_of(other)) is not None and key == storage_of(mine))


def _two_names(bench: Bench, place: Span) -> tuple[str, str] | None:
    """The name that is written to, and the name that it stands for: `noisy = x`, both in one function, the second one read later."""
    tree = bench.model.source.file(place.file).tree
    around = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    if not around:
        return None
    function = max(around, key=lambda f: f.lineno)
    here = [n for n in ast.walk(function) if isinstance(n, ast.stmt) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    written = _root(here[-1]) if here else None
    bound = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno < place.line]
    stands_for = next((_stands_for(n.value) for n in reversed(bound) if any(_named(t) == written for t in n.targets)), None)
    if written is None or stands_for is None or stands_for == written:
        return None
    read = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == stands_for and n.lineno > place.line]
    return (written, stands_for) if read and isinstance(read[0].ctx, ast.Load) else None


def _root(statement: ast.stmt) -> str | None:
    """The name whose value a statement changes: `y[...] = 0`, `y += n`, `y.mul_(m)`."""
    if isinstance(statement, ast.Assign):
        within = [t for t in statement.targets if isinstance(t, ast.Subscript)]
        return _stands_for(within[0].value) if within else _root_of_call(statement.value)
    if isinstance(statement, ast.AugAssign):
        return _stands_for(statement.target.value if isinstance(statement.target, ast.Subscript) else statement.target)
    return _root_of_call(statement.value) if isinstance(statement, ast.Expr) else None


def _root_of_call(value: ast.expr) -> str | None:
    """The name at the front of `y.mul_(m).add_(n)`."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        value = value.func.value
    return _named(value)


def _stands_for(value: ast.expr) -> str | None:
    """The name that an expression gives another view of: `x`, `x.detach()`, `x.view(-1, 784)`, `x[:, 0]` is none."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SAME:
        value = value.func.value
    return _named(value)


def _named(value: ast.expr) -> str | None:
    return value.id if isinstance(value, ast.Name) else None


def _change(bench: Bench, entry: fx.Node) -> float:
    """How far an input is from what the step was handed, in units of its own spread."""
    name, handed = str(entry.meta["input"]), dict[str, torch.Tensor]()

    def keep(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        calm(model)
        handed[name] = inputs[name].clone()
        now[name] = inputs[name]

    now = dict[str, torch.Tensor]()
    run = bench.base.again(prepare=keep)
    if run.record.failure is not None or name not in handed:
        raise CannotMeasureError("the step cannot be run again")
    before, after = handed[name].double(), now[name].detach().double()
    spread = float(before.std())
    return float((after - before).pow(2).mean().sqrt()) / spread if spread else 0.0
