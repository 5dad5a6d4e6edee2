"""Law B6, for what is frozen: it stays as it is.

Observed on the model after its step: `module.requires_grad = False` gives the module an attribute that torch knows nothing of, and its
parameters go on learning. Exempt are modules whose code reads that attribute, or has its own way to set it, modules that the loss does
not reach, and those that no optimizer of the step holds. Parameters that are frozen for a turn, and moved by the memory of their
optimizer, are `frozen_steps`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn

from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.frozen_steps import moved_while_frozen
from vaelint.record.record import Record
from vaelint.rule import Found

_NAME = "requires_grad"
_WALKS = frozenset({"children", "modules", "named_children", "named_modules"})


@law("frozen-turns-stay", "an optimizer's step leaves what is frozen for the turn where it was", covered=("VAE921",), cost="all")
def frozen_turns_stay(bench: Bench) -> Iterator[Broken]:
    """Several runs of the step on one model: networks take turns."""
    moved = moved_while_frozen(bench)
    if moved is None:
        return
    found = Found(
        moved.place,
        label="leaves zeros for gradients" if moved.clears else "moves parameters that are frozen, along an old gradient",
        why="the optimizer takes zeros, or what is left of an earlier turn, for a gradient: momentum and weight decay move "
        f"{len(moved.names)} parameters that are frozen in this turn, {moved.names[0]} among them",
        help="zero_grad(set_to_none=True) where they are frozen: what has no gradient is left out; or an optimizer for each part",
        facts={"parameters": moved.names},
    )
    text = f"in run {moved.runs} {len(moved.names)} parameters that are frozen are moved by their optimizer"
    yield Broken("freeze-without-effect", found, "what is frozen for a turn stays", text)


@law("what-is-frozen-stays", "a module that is frozen has no parameter that learns", covered=("VAE921",))
def what_is_frozen_stays(bench: Bench) -> Iterator[Broken]:
    """Modules of the model with an attribute of that name, set to False."""
    record = bench.model.record
    for path, module in record.model.named_modules():
        if vars(module).get(_NAME) is not False or any(
            "__setattr__" in vars(kind) for kind in type(module).__mro__ if kind is not nn.Module and kind is not object
        ):
            continue
        learning = _learning(bench, path)
        places = list(_places(bench, path)) if learning and _is_held(record, module) else []
        if len(places) == 1:
            yield _unfrozen(places[0], path, learning)
            return


def _learning(bench: Bench, path: str) -> list[str]:
    """Parameters of a module that the loss has a gradient for."""
    record, flow = bench.model.record, bench.model.flow
    if record.loss is None:
        return []
    names = [str(n.meta["parameter"]) for n in flow.ancestors(record.loss) if n.meta.get("parameter") and n.meta.get("grad")]
    return sorted(n for n in names if not path or n.startswith(f"{path}."))


def _is_held(record: Record, module: nn.Module) -> bool:
    """Whether an optimizer that the step knows updates it; so may another one where it knows none."""
    own = {id(p) for p in module.parameters()}
    return not record.optimizers or any(own & o.parameters for o in record.optimizers)


def _places(bench: Bench, path: str) -> Iterator[Span]:
    """Where the attribute is set: on what has the module's name, else on whatever it is set on; nothing where the code reads it."""
    name = path.rpartition(".")[2]
    files = {place.file for n in bench.model.record.nodes for place in n.meta.get("stack") or ()}
    trees = {file: bench.model.source.file(file).tree for file in sorted(files)}
    asked = [(f, n) for f, tree in trees.items() for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == _NAME]
    put = [(f, n) for f, n in asked if isinstance(n.ctx, ast.Store)]
    here = [(f, n) for f, n in put if _last(n.value) == name] or put
    names = {_last(n.value) for _, n in here}
    if any(isinstance(n.ctx, ast.Load) and _last(n.value) in names for _, n in asked) or any(map(_asks_modules, trees.values())):
        return
    yield from (bench.model.source.file(f).place(f, n) for f, n in here)


def _asks_modules(tree: ast.Module) -> bool:
    """Whether the code goes through modules and reads the attribute of something: it may be theirs."""
    calls = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    return not calls.isdisjoint(_WALKS) and any(
        isinstance(n, ast.Attribute) and n.attr == _NAME and isinstance(n.ctx, ast.Load) for n in ast.walk(tree)
    )


def _last(owner: ast.expr) -> str:
    """The last name of what an attribute is set on."""
    return owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""


def _unfrozen(place: Span, path: str, learning: list[str]) -> Broken:
    found = Found(
        place,
        label="sets an attribute of the module, and freezes nothing",
        why=f"{len(learning)} parameters of it get a gradient, {learning[0]} among them: requires_grad is a property of tensors, and a "
        "module takes any attribute without a word",
        help=f"{path or 'model'}.requires_grad_(False) sets it for all parameters of the module",
        facts={"parameters": learning},
    )
    return Broken("freeze-without-effect", found, "no parameter of it gets a gradient", f"{len(learning)} parameters get one")
