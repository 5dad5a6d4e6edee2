"""Law B4, for the top: a schedule arrives at the bound that it is cut off at.

Intervention: the expression that a KL's weight is reckoned by is evaluated at many values of the counter that moves in training. What is
bounded by 1 there, as a share of a top that it is multiplied with, or as the phase of a cycle divided by its length, comes near 1 at some
of them. Exempt are other bounds that multiply nothing, which may be there for safety alone, and numbers that no code moves.

Source: Fu et al. 2019, Cyclical Annealing Schedule, section 3.2.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.schedules.counted import changes_in_place
from vaelint.laws.schedules.reckoned import Reckoned, Scope, reckoned_weights
from vaelint.rule import Found
from vaelint.source.arithmetic import Bounds, NotArithmetic

_BUILDS = ("__init__", "__post_init__")
_APART = (0.37, 7.31, 131.7, 2511.3, 48611.7, 913001.3, 17212345.7)  # every phase of a cycle of up to a billion steps comes up
_STEPS = tuple(k * by for by in _APART for k in range(60))
_FAR_BELOW = 0.75


@law("schedules-reach-their-top", "a share that is bounded by 1 comes near 1 at some step", covered=("VAE416", "VAE903"), cost="all")
def schedules_reach_their_top(bench: Bench) -> Iterator[Broken]:
    """Weights of a KL that the user's code reckons from a counter."""
    for weight in reckoned_weights(bench):
        for counter, now in weight.counters():
            if not _moves(bench, weight, counter) or not any(
                weight.follows(counter, at) for at in (now, 0.0)
            ):  # the end of a loop, or its start
                continue
            for text, most in _never_reached(weight, counter):
                if (place := _share_of_a_top(weight, text) or _share_of_a_cycle(weight, text)) is not None:
                    yield _short(weight, counter, place, text, most)
                    return


def _moves(bench: Bench, weight: Reckoned, counter: str) -> bool:
    """Whether code counts a number on, or goes through a loop by it."""
    name = counter.rpartition(".")[2]
    trees = [bench.model.source.file(weight.scope.file).tree] if weight.scope.file else []
    for tree in (*trees, weight.scope.function):
        if "." in counter and ("add_", name) in changes_in_place(tree):
            return True
        built = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name in _BUILDS for n in ast.walk(f)}
        for node in ast.walk(tree):
            target = node.target if isinstance(node, ast.AugAssign | ast.For) and node not in built else None
            if isinstance(target, ast.Attribute) and "." in counter and target.attr == name:
                return True
            if isinstance(target, ast.Name) and target.id == counter:
                return True
    return False


def _never_reached(weight: Reckoned, counter: str) -> Iterator[tuple[str, float]]:
    """The calls of `min` with 1 and a value that moves with a counter and stays far below, and the most that it comes to."""
    heard: dict[str, list[float]] = {}
    for step in _STEPS:
        bounds: Bounds = []
        try:
            weight.at(counter, step, bounds)
        except NotArithmetic:
            return
        for text, given in bounds:
            if len(given) == 2 and given.count(1.0) == 1:
                heard.setdefault(text, []).append(next(v for v in given if v != 1.0))
            else:
                heard.setdefault(text, []).append(1.0)
    for text, values in heard.items():
        if len(values) >= len(_STEPS) and 0 < max(values) < _FAR_BELOW and min(values) < max(values):
            yield text, max(values)


def _share_of_a_top(weight: Reckoned, text: str) -> Span | None:
    """Where a call is written that a named number is multiplied with."""
    scopes: list[Scope] = [weight.scope, *weight.scopes]
    for scope in scopes:
        for node in ast.walk(scope.function):
            if scope.file and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                sides = (node.left, node.right)
                if any(ast.unparse(s) == text for s in sides) and any(isinstance(s, ast.Name | ast.Attribute) for s in sides):
                    return Span(scope.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _share_of_a_cycle(weight: Reckoned, text: str) -> Span | None:
    """Where the phase of a cycle is divided, if what is bounded is a quotient made of it: not there for safety, as the rest says."""
    for scope in (weight.scope, *weight.scopes):
        called = next((n for n in ast.walk(scope.function) if isinstance(n, ast.Call) and ast.unparse(n) == text), None)
        share = next((a for a in called.args if not isinstance(a, ast.Constant)), None) if called is not None else None
        if not scope.file or not isinstance(share, ast.BinOp) or not isinstance(share.op, ast.Div):
            continue
        read = {n.id for n in ast.walk(share) if isinstance(n, ast.Name)}
        made = [n for n in ast.walk(scope.function) if isinstance(n, ast.Assign) and read & {ast.unparse(t) for t in n.targets}]
        for node in (n for tree in (share, *(m.value for m in made)) for n in ast.walk(tree)):
            rest = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _has_rest(node.left)
            if rest and isinstance(node, ast.BinOp):
                return Span(scope.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _has_rest(tree: ast.expr) -> bool:
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in ast.walk(tree))


def _short(weight: Reckoned, counter: str, place: Span, text: str, most: float) -> Broken:
    found = Found(
        place,
        label=f"comes to {most:.3g} of its top, at most",
        when=f"{counter} moves on in training",
        why="the bound is never met: the KL never has the weight that the schedule is to end at, and another objective is trained",
        help="divide the phase by the share of the cycle in which it rises",
    )
    measured = f"{text} is {most:.3g} at most, for {len(_STEPS)} values of {counter} from 0 to 1e9"
    return Broken("kl-weight-stuck", found, "a share that is bounded by 1 comes near 1 at some step", measured)
