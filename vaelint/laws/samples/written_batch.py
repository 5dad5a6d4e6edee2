"""Law D2: the batch is left alone. What is written into a second name of the data is written into the data.

Observed on the real run: what an input was when the step was handed it, and what it is where the reconstruction is held to it. A draw that
the code writes into `noisy`, where `noisy` is the data itself and no copy, stands in the target too. The same of what the step makes of
its inputs without layers and draws, as the tokens with a first one in front: a part of it that is handed on is the same memory.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Span
from vaelint.experiment.recompute import in_place
from vaelint.experiment.runs import calm
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import route, shape
from vaelint.rule import Found
from vaelint.trace.torch_private import storage_of

_SAME = frozenset({"detach", "view", "reshape", "flatten", "contiguous", "float", "to", "view_as", "squeeze", "unsqueeze"})
_CALLERS = 4
_TINY = 0.05  # of the data's own spread: noise that fills the steps of whole numbers is meant


@dataclass(frozen=True)
class _Written:
    """A change in place of an input, by what was drawn, through another name than that of the target."""

    fact: ReconFact
    change: fx.Node
    entry: fx.Node
    alias: str
    name: str
    listed: bool = False  # it takes the place of an input in a list or dictionary that the step was handed


@law("batches-are-left-alone", "the reconstruction is held to the data as they were handed over", covered=("VAE306",))
def batches_are_left_alone(bench: Bench) -> Iterator[Broken]:
    """Changes by a draw alone: scaling the data in place is another unit, and holds for the target as well.

    Exempt is a change under the data's own name: whoever writes `x.mul_(mask)` and compares with `x` has said so.
    """
    first = next(((written, share) for written in _writings(bench) if (share := _share(bench, written)) > _TINY), None)
    if first is None:
        return
    written, share = first
    model = bench.model
    found = Found(
        model.where(written.change),
        label=f"{written.name} is changed in place, for the caller as well"
        if written.alias == written.name
        else f"{written.alias} is {written.name} itself, not a copy: {written.name} is changed too",
        labels=model.labels((written.fact.pair.meet, f"compared with {written.name} as it is now")),
        why="the reconstruction is held to the corrupted data: the model is rewarded for reproducing what was to be removed"
        + (", and the caller's batch is changed" if written.entry in _handed_over(bench) else ""),
        help=f"corrupt a copy: {written.alias} = {written.name}.clone(), or use the form that makes a new tensor",
    )
    text = f"the target is {share:.2g} times the data's own spread away from what the step was handed"
    yield Broken("batch-overwritten", found, "an input is the same at the comparison as when it was handed over", text)


def _share(bench: Bench, written: _Written) -> float:
    """How far the target is from the data, in units of their spread."""
    if written.listed:
        return _exchanged(bench, written)
    return _change(bench, written.entry) if written.entry in _handed_over(bench) else _written_into(bench, written)


def _writings(bench: Bench) -> Iterator[_Written]:
    model = bench.model
    flow, inputs = model.flow, _handed_over(bench)
    for fact in model.recons:
        if fact.pair.target is None:
            continue
        for change in (n for n in flow.sorted({fact.pair.target, *flow.ancestors(fact.pair.target)}) if in_place(n) or n.target is effect):
            operands = ops.value_inputs(change)
            entry = next((n for n in flow.ancestors(change) if n in inputs and _is_same_tensor(n, change)), None) or _made(bench, change)
            place = model.where(change)
            drawn = any(m in flow.random for o in operands[1:] for m in (o, *flow.ancestors(o)))
            if entry is None or not drawn or place is None or (entry not in inputs and _is_bound_anew(bench, place)):
                continue
            if (names := _two_names(bench, change, place, fact)) is not None:
                yield _Written(fact, change, entry, *names)
        yield from _put_in_place(bench, fact)


def _put_in_place(bench: Bench, fact: ReconFact) -> Iterator[_Written]:
    """A target that took an input's place in a list or dictionary: `shown = views; shown[i] = shown[i] * keep`."""
    flow, target = bench.model.flow, fact.pair.target
    place = bench.model.where(target)
    if target is None or place is None or in_place(target) or target.target is effect or target not in flow.noisy:
        return
    entries = [n for n in bench.model.record.inputs.values() if n in flow.ancestors(target) and shape(n) == shape(target)]
    function = _around(bench, place)
    here = _statements(function, place.line) if function is not None else []
    put = here[-1] if here else None
    items = [t for t in put.targets if isinstance(t, ast.Subscript) and not _is_part(t.slice)] if isinstance(put, ast.Assign) else []
    if len(entries) == 1 and items and (names := _two_names(bench, target, place, fact)) is not None:
        yield _Written(fact, target, entries[0], *names, listed=True)


def _handed_over(bench: Bench) -> set[fx.Node]:
    """The inputs, and copies of them that the step makes before the user's code begins."""
    inputs = set(bench.model.record.inputs.values())
    return inputs | {n for n in bench.model.record.nodes if ops.op(n) == "clone" and n.args[0] in inputs and not n.meta.get("stack")}


def _made(bench: Bench, change: fx.Node) -> fx.Node | None:
    """What a change reaches of the values that the step makes of its inputs without layers and draws: the first of that memory."""
    flow = bench.model.flow
    own = {n for n in flow.ancestors(change) & flow.data - flow.learned - flow.noisy if n.op == "call_function" and n.meta.get("stack")}
    return next((n for n in flow.sorted(own) if _is_same_tensor(n, change)), None)


def _is_bound_anew(bench: Bench, place: Span) -> bool:
    """Whether the function that writes has given the name another value before: what its caller holds is another tensor then."""
    function = _around(bench, place)
    here = _statements(function, place.line) if function is not None else []
    written = _root(here[-1]) if here else None
    if function is None or written is None or written not in {a.arg for a in function.args.args}:
        return False
    bound = (n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.lineno < place.line)
    return any(n.id == written for n in bound)


def _is_same_tensor(entry: fx.Node, change: fx.Node) -> bool:
    """Whether a change reaches the memory of an input."""
    mine, other = entry.meta.get("val"), change.meta.get("val")
    if not isinstance(mine, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return mine is other or ((key := storage_of(other)) is not None and key == storage_of(mine))


def _two_names(bench: Bench, change: fx.Node, place: Span, fact: ReconFact) -> tuple[str, str] | None:
    """The name that is written to, and the name that it stands for: `noisy = x`, both in one function, the second one read later; or
    `noisy = corrupt(x)`, where the function writes into what it was handed."""
    function = _around(bench, place)
    here = _statements(function, place.line) if function is not None else []
    written = _root(here[-1]) if here else None
    if function is None or written is None:
        return None
    bound = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno < place.line]
    stands_for = next((_stands_for(n.value) for n in reversed(bound) if any(_named(t) == written for t in n.targets)), None)
    if stands_for is not None and stands_for != written and _read_next(function, stands_for, place.line):
        return (written, stands_for) if _is_read(function, written, place.line) else None
    way = route(change)
    callers = [at for at in way[1:] if (at.file, at.line) != (place.file, place.line)]
    position = next((k for k, a in enumerate(function.args.args) if a.arg == (stands_for or written)), None)
    alias = written if stands_for is not None and stands_for != written else None
    met = bench.model.where(fact.pair.meet)
    compares = _around(bench, met) if met is not None else None
    return _handed(bench, function, position, callers, alias, compares) if position is not None else None


def _handed(
    bench: Bench, function: ast.FunctionDef, position: int, way: Sequence[Span], alias: str | None, compares: ast.FunctionDef | None
) -> tuple[str, str] | None:
    """What the value is called that a parameter is, by a caller that reads it again under that name; and the name that was written to,
    `alias` within the function, else what the caller calls the result.

    A caller that gives the result the name of what it handed over (`x = self.corrupt(x)`) knows the one tensor only; further out, where
    the two are compared, the name stands for the data.
    """
    bound_anew = False
    for k, caller in enumerate(way):
        outer = _around(bench, caller)
        statement = next(iter(_statements(outer, caller.line)[-1:]), None) if outer is not None else None
        if outer is None or statement is None or (call := _call_of(statement, function)) is None:
            return None
        source = _argument(call, function, position)
        alias = alias or _bound_to(statement, call)
        if source is None or alias is None:
            return None
        if _read_next(outer, source, statement.end_lineno or statement.lineno):
            if alias != source or (bound_anew and outer is compares):
                return alias, source
            if bound_anew:
                return None
            bound_anew = True
        position = next((j for j, a in enumerate(outer.args.args) if a.arg == source), -1)
        if position < 0 or k > _CALLERS:
            return None
        function = outer
    return None


def _bound_to(statement: ast.stmt, call: ast.Call) -> str | None:
    """The name that an assignment gives a call's result, also as one of several: `words, target = self.drop(tokens), tokens`."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return next((_named(t) for t, v in zip(target.elts, value.elts, strict=True) if v is call), None)
    return _named(target)


def _call_of(statement: ast.stmt, function: ast.FunctionDef) -> ast.Call | None:
    """The call of a function, or of a module's forward, in a statement."""
    calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call)]
    own = [c for c in calls if (c.func.attr if isinstance(c.func, ast.Attribute) else _named(c.func)) == function.name]
    return next(iter(own or (calls if function.name == "forward" and len(calls) == 1 else [])), None)


def _argument(call: ast.Call, function: ast.FunctionDef, position: int) -> str | None:
    """The name that is handed to a parameter."""
    first = function.args.args[0].arg if function.args.args else ""
    bare = position - (first == "self")
    keyword = {k.arg: k.value for k in call.keywords}
    given = call.args[bare] if 0 <= bare < len(call.args) else keyword.get(function.args.args[position].arg)
    return _stands_for(given) if given is not None else None


def _around(bench: Bench, place: Span) -> ast.FunctionDef | None:
    """The innermost function that holds a place."""
    tree = bench.model.source.file(place.file).tree
    around = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    return max(around, key=lambda f: f.lineno, default=None)


def _statements(function: ast.FunctionDef, line: int) -> list[ast.stmt]:
    return [n for n in ast.walk(function) if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or n.lineno)]


def _read_next(function: ast.FunctionDef, name: str, line: int) -> bool:
    """Whether the next thing that a function does with a name, below a line, is to read it."""
    below = sorted((n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and n.lineno > line), key=lambda n: n.lineno)
    return bool(below) and isinstance(below[0].ctx, ast.Load)


def _is_read(function: ast.FunctionDef, name: str, line: int) -> bool:
    """Whether a function reads a name below a line: what is written through a name that is not read again is the data, augmented."""
    return any(isinstance(n, ast.Name) and n.id == name and n.lineno > line and isinstance(n.ctx, ast.Load) for n in ast.walk(function))


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
    """The name that an expression gives another view of: `x`, `x.detach()`, `x.view(-1, 784)`, `x[:, :-1]`."""
    while True:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SAME:
            value = value.func.value
        elif isinstance(value, ast.Subscript) and _is_part(value.slice):
            value = value.value
        else:
            return _named(value)


def _is_part(index: ast.expr) -> bool:
    """Whether an index gives a view of a tensor: `[:, :-1]`, `[..., 0]`. A number or a key alone is that of a list or a dictionary."""
    each = index.elts if isinstance(index, ast.Tuple) else [index]
    whole = any(isinstance(i, ast.Slice) or (isinstance(i, ast.Constant) and i.value is ...) for i in each)
    return whole and all(isinstance(i, ast.Slice | ast.Constant) for i in each)


def _named(value: ast.expr) -> str | None:
    return value.id if isinstance(value, ast.Name) else None


def _exchanged(bench: Bench, written: _Written) -> float:
    """How far what took an input's place is from it, in units of the input's own spread."""
    if not bench.knows(written.change) or not bench.knows(written.entry):
        raise CannotMeasureError("the run has no value of what was put instead of an input")
    before, after = bench.value(written.entry).double(), bench.value(written.change).double()
    spread = float(before.std())
    return float((after - before).pow(2).mean().sqrt()) / spread if spread else 0.0


def _written_into(bench: Bench, written: _Written) -> float:
    """How far what the step has made of its inputs is from what it made, in units of its own spread."""
    inputs = [n for n in bench.model.record.inputs.values() if n in bench.model.flow.ancestors(written.entry) and bench.knows(n)]
    before = bench.base.recompute([written.entry], bench.same(inputs))[written.entry].double()
    after = bench.base.like(written.change).detach().double()
    spread = float(before.std())
    return float((after - before).pow(2).mean().sqrt()) / spread if spread and before.shape == after.shape else 0.0


def _change(bench: Bench, entry: fx.Node) -> float:
    """How far an input is from what the step was handed, in units of its own spread."""
    source = entry.args[0] if entry.op == "call_function" else entry
    assert isinstance(source, fx.Node)
    name, handed, now = str(source.meta["input"]), dict[str, torch.Tensor](), dict[str, torch.Tensor]()

    def keep(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        calm(model)
        handed[name] = inputs[name].clone()
        now[name] = inputs[name]

    run = bench.base.again(prepare=keep)
    if run.record.failure is not None or name not in handed:
        raise CannotMeasureError("the step cannot be run again")
    twin = run.pairs.get(entry) if entry is not source else None
    left = twin.meta["val"] if twin is not None else now[name]
    before, after = handed[name].double(), left.detach().double()
    spread = float(before.std())
    return float((after - before).pow(2).mean().sqrt()) / spread if spread else 0.0
