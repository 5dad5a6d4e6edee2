"""Law B1, for weights that are kept: what is put back into a parameter is what it was then, not what it is now.

Observed on the step: a copy into parameters whose source shares their memory copies a parameter on itself. `state_dict()`, `.data` and
`detach()` give the parameter itself; an optimizer that has moved it since has moved what was kept as well.

Exempt are copies of a state on itself between which nothing was written (one state handed on in one expression), those that put back at
least one tensor of other memory at the same place (networks that share a part), and what was taken to the CPU: on a GPU that is a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.experiment.recompute import in_place
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import SHARING, root_of
from vaelint.record import ops
from vaelint.record.record import Record, route, span
from vaelint.rule import Found
from vaelint.trace.torch_private import storage_of

_TAKES = frozenset({"cpu", "to", "cuda", "numpy"})


@law("what-is-put-back-is-of-then", "weights that are put back are those of when they were kept", covered=("VAE916", "VAE927"))
def what_is_put_back_is_of_then(bench: Bench) -> Iterator[Broken]:
    """Copies into parameters that an optimizer moves within the step."""
    record = bench.model.record
    if not record.objectives:
        return
    moved = {i for o in record.objectives for i in o.moved} | {i for u in record.uses if u.kind == "stepped" for i in u.of}
    copies: dict[tuple[Span, ...], list[fx.Node]] = {}
    for node in record.nodes:
        if ops.raw_name(node) == "copy_" and len(node.args) > 1 and all(isinstance(a, fx.Node) for a in node.args[:2]):
            copies.setdefault(route(node), []).append(node)
    for nodes in copies.values():
        own = [n for n in nodes if id(_root(n, 0)) in moved]
        taken = next((t for n in own if (t := _taken(record, n)) is not None), None)
        if own and taken is not None and all(_is_on_itself(n) for n in nodes):
            yield _broken(record, own, taken)
            return


def _root(node: fx.Node, position: int) -> torch.Tensor | None:
    source = node.args[position]
    val = root_of(source).meta.get("val") if isinstance(source, fx.Node) else None
    return val if isinstance(val, torch.Tensor) else None


def _is_on_itself(node: fx.Node) -> bool:
    """Whether a copy reads the very memory that it writes."""
    to, of = (a.meta.get("val") if isinstance(a, fx.Node) else None for a in node.args[:2])
    if not isinstance(to, torch.Tensor) or not isinstance(of, torch.Tensor) or to.shape != of.shape:
        return False
    return (place := storage_of(to)) is not None and place == storage_of(of)


def _taken(record: Record, copy: fx.Node) -> fx.Node | None:
    """Where the parameter was kept, before something wrote to it that the copy was to undo; None where it was not, or kept as a copy."""
    parameter, nodes = _root(copy, 0), record.nodes
    before = [n for n in nodes[: nodes.index(copy)] if n.op == "call_function" and _reads(n, parameter)]
    kept = [n for n in before if _is_it(n) and route(n) != route(copy)]
    kept = [n for n in kept if not any(_is_written(u, parameter) and span(u) == span(n) for u in n.users) and not _is_of_loop(n, copy)]
    if not kept or any(ops.raw_name(n) in _TAKES for n in kept):
        return None
    stepped = [b.at for b in record.backwards if id(parameter) in b.moved and b.at <= nodes.index(copy)]
    last = max([*stepped, *(nodes.index(n) for n in before if _is_written(n, parameter) and n not in kept)], default=-1)
    return next((n for n in reversed(kept) if nodes.index(n) < last), None)


def _is_it(node: fx.Node) -> bool:
    """Whether a node is the parameter under another name, or may be a copy of it."""
    name = ops.raw_name(node)
    return name in _TAKES or (name in SHARING and (name != "attribute" or "data" in node.args))


def _is_of_loop(node: fx.Node, copy: fx.Node) -> bool:
    """Whether a view of the parameter is only made to be written to: the first operand of a copy."""
    return bool(node.users) and all(in_place(u) and u.args and u.args[0] is node for u in node.users if u is not copy)


def _reads(node: fx.Node, parameter: torch.Tensor | None) -> bool:
    return parameter is not None and any(root_of(i).meta.get("val") is parameter for i in node.all_input_nodes)


def _is_written(node: fx.Node, parameter: torch.Tensor | None) -> bool:
    """Whether an operation changes a parameter in place; the lists of an optimizer's fused operations too."""
    if not in_place(node) or not node.args:
        return False
    first = node.args[0]
    changed = first if isinstance(first, list | tuple) else [first]
    return any(isinstance(n, fx.Node) and root_of(n).meta.get("val") is parameter for n in changed)


def _broken(record: Record, copies: list[fx.Node], taken: fx.Node) -> Broken:
    names = [name for name, p in record.model.named_parameters() if any(_root(n, 0) is p for n in copies)]
    back = span(copies[0])
    found = Found(
        span(taken),
        label="the parameters themselves, not a copy of them",
        labels=(Label(back, "put back here: each parameter is copied on itself"),) if back is not None else (),
        why="what is kept moves with the model at every step: what is put back is the last state, not the one that was kept",
        help="keep a copy: copy.deepcopy(model.state_dict()), or {name: value.clone() for name, value in model.state_dict().items()}",
    )
    text = f"{len(names) or len(copies)} parameters are copied on themselves, after something has moved them"
    return Broken("kept-weights-move", found, "weights that are put back are those of when they were kept", text)
