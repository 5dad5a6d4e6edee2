"""Law B1, for limits on gradients: what `clip_grad_norm_` and its relatives limit is what an optimizer then uses.

Observed on the step as it runs: a limit that finds no gradient waiting for a step, though a later or an earlier pass of the same step
gives these parameters one and their optimizer uses it, changes nothing. So does one that is given no parameters, or only such as neither
get a gradient nor belong to an optimizer, where the step has no other limit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import GradientUse, Record
from vaelint.rule import Found


@law("limits-reach-the-step", "a limit on gradients finds those that the optimizer uses", covered=("VAE511", "VAE909"), cost="all")
def limits_reach_the_step(bench: Bench) -> Iterator[Broken]:
    """Limits by torch's own functions; the step that is given must hold both the limit and the optimizer's step.

    Exempt is a call whose result, the norm of the gradients, is read: it may be called for that alone; parameters that are frozen, or
    another optimizer's. Copies of weights in full precision are given their gradients by hand: the record follows those.
    """
    if not any(u.kind == "limitless" for u in bench.model.record.uses):
        return
    record = bench.trained
    if not any(u.kind == "limited" for u in record.uses) and (lost := next((u for u in record.uses if _is_lost(record, u)), None)):
        told = not lost.of and bool(record.used_up)  # by the law on loops, which knows where they came from
        if lost.place is not None and not told and _for_its_effect(bench, lost.place):
            yield _nothing(record, lost.place, len(lost.of))
        return
    for number, use in enumerate(record.uses):
        if use.kind == "limitless" and use.place is not None and _never_limits(record, use) and _for_its_effect(bench, use.place):
            yield _broken(record, number, use.place, use)
            return


def _never_limits(record: Record, use: GradientUse) -> bool:
    """Whether nothing limits the gradients that a step uses of these parameters."""
    limited = frozenset[int]().union(*(u.of for u in record.uses if u.kind == "limited"))
    filled = frozenset[int]().union(*(c.moved for c in record.backwards))
    used = use.of & filled
    return bool(used) and not used & limited and not any(u.kind == "limited" and u.place == use.place for u in record.uses)


def _is_lost(record: Record, use: GradientUse) -> bool:
    """Whether a limit was put on nothing that learns, and a step used the gradients of others."""
    filled = frozenset[int]().union(*(c.moved for c in record.backwards))
    steps = any(u.kind == "stepped" and u.of & filled for u in record.uses)
    held = frozenset[int]().union(*(o.parameters for o in record.optimizers))
    frozen = {id(p) for p in record.model.parameters() if not p.requires_grad}
    return use.kind == "limitless" and steps and not use.of & (filled | held | frozen)


def _for_its_effect(bench: Bench, place: Span) -> bool:
    """Whether a call is a statement of its own: its result, the norm, is not read."""
    statements = [
        n for n in ast.walk(bench.model.source.file(place.file).tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
    ]
    return any(n.lineno <= place.line <= (n.end_lineno or n.lineno) for n in statements)


def _broken(record: Record, number: int, place: Span, use: GradientUse) -> Broken:
    step = next((u.place for u in record.uses if u.kind == "stepped" and u.of & use.of), None)
    passed = next((c.span for c in record.backwards if c.moved & use.of), None)
    late = any(u.kind == "stepped" and u.of & use.of for u in record.uses[:number])
    when = "after the step has used them" if late else "before backward() has computed them"
    labels = [Label(span, text) for span, text in ((passed, "computes the gradients"), (step, "uses them as they are")) if span is not None]
    found = Found(
        place,
        label=f"limits the gradients {when}",
        labels=tuple(labels),
        why="the limit has no effect: each step follows the gradients as they were computed, however large they are",
        help="limit the gradients between backward() and step()",
    )
    text = f"of the gradients that the step uses of {len(use.of)} parameters, none was there when the limit was put on them"
    return Broken("limit-without-effect", found, "a limit finds the gradients that the step uses", text)


def _nothing(record: Record, place: Span, many: int) -> Broken:
    step = next((u.place for u in record.uses if u.kind == "stepped" and u.place is not None), None)
    passed = next((c.span for c in record.backwards if c.moved and c.span is not None), None)
    labels = [Label(span, text) for span, text in ((passed, "computes the gradients"), (step, "uses them as they are")) if span is not None]
    found = Found(
        place,
        label="limits no gradient: " + (f"none of its {many} parameters has one" if many else "it is given no parameters"),
        labels=tuple(labels),
        why="the limit has no effect: each step follows the gradients as they were computed, however large they are",
        help="give it the parameters that the optimizer holds"
        + ("" if many else ", in a list: what an iterator gives can be gone through once"),
    )
    text = f"it was given {many} parameters, and a gradient was computed for none of them"
    return Broken("limit-without-effect", found, "a limit finds the gradients that the step uses", text)
