"""Bugs of training as edits of source text: optimizers, modes, gradients, schedules, moving averages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from spellings import called, code, nodes_of

Edit = tuple[ast.AST, str]

_OPTIMIZERS = frozenset({"Adam", "AdamW", "SGD", "RMSprop", "Adamax", "NAdam", "RAdam"})
_TERM = re.compile(r"\w*(loss|kl|kld|nll|rec|recon|elbo)\w*", re.IGNORECASE)
_COUNTER = re.compile(r"\w*(count|counter|step|steps|iter|iters|iteration|update)\w*", re.IGNORECASE)
_WEIGHT = re.compile(r"\w*(beta|anneal|kl_weight|kl_coeff|kld_weight|weight_kl|gamma)\w*", re.IGNORECASE)


def _calls(s: ast.stmt) -> Iterator[ast.Call]:
    return (n for n in ast.walk(s) if isinstance(n, ast.Call))


def _does(s: ast.stmt) -> ast.Call | None:
    """The call that a statement is."""
    return s.value if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) else None


def clear_no_gradients(s: ast.stmt) -> Iterator[Edit]:
    """No zero_grad()."""
    if (call := _does(s)) is not None and called(call) == "zero_grad":
        yield call, "None"


def take_no_step(s: ast.stmt) -> Iterator[Edit]:
    """An optimizer that never steps."""
    if (call := _does(s)) is not None and code(call).endswith(".step()") and "opt" in code(call):
        yield call, "None"


def leave_a_part_out(s: ast.stmt) -> Iterator[Edit]:
    """An optimizer without the first two parameters."""
    for n in _calls(s):
        if called(n) in _OPTIMIZERS and n.args and code(n.args[0]).endswith(".parameters()"):
            yield n.args[0], f"list({code(n.args[0])})[2:]"


def train_in_evaluation(s: ast.stmt) -> Iterator[Edit]:
    """model.eval() where model.train() was."""
    call = _does(s)
    if call is not None and called(call) == "train" and not call.args and isinstance(call.func, ast.Attribute):
        yield call, f"{code(call.func.value)}.eval()"


def limit_no_gradients(s: ast.stmt) -> Iterator[Edit]:
    """clip_grad_norm_ of nothing."""
    for n in _calls(s):
        if called(n) in ("clip_grad_norm_", "clip_grad_value_") and n.args:
            yield n.args[0], "[]"


def penalty_without_graph(s: ast.stmt) -> Iterator[Edit]:
    """create_graph=False."""
    for n in _calls(s):
        for k in n.keywords:
            if k.arg == "create_graph" and code(k.value) == "True":
                yield k.value, "False"


def stick_the_warm_up(s: ast.stmt) -> Iterator[Edit]:
    """min(1, step // steps)."""
    for n in _calls(s):
        if called(n) == "min":
            for a in n.args:
                if isinstance(a, ast.BinOp) and isinstance(a.op, ast.Div):
                    yield a, f"{code(a.left)} // {code(a.right)}"


def warm_up_without_end(s: ast.stmt) -> Iterator[Edit]:
    """max(1, step / steps)."""
    for n in _calls(s):
        ratio = any(isinstance(a, ast.BinOp) and isinstance(a.op, ast.Div) for a in n.args)
        if ratio and isinstance(n.func, ast.Name) and n.func.id == "min":
            yield n.func, "max"


def forget_to_count(s: ast.stmt) -> Iterator[Edit]:
    """No step += 1."""
    if isinstance(s, ast.AugAssign) and code(s.value) == "1" and _COUNTER.fullmatch(code(s.target).rpartition(".")[2]):
        yield s, f"{code(s.target)} += 0"


def keep_the_last_term(s: ast.stmt) -> Iterator[Edit]:
    """loss = term for loss += term."""
    if isinstance(s, ast.AugAssign) and isinstance(s.op, ast.Add) and _TERM.fullmatch(code(s.target).rpartition(".")[2]):
        yield s, f"{code(s.target)} = {code(s.value)}"


def average_the_wrong_way(s: ast.stmt) -> Iterator[Edit]:
    """(1 - decay) of the average, and decay of what is new."""
    for n in _calls(s):
        for k in n.keywords:
            rest = re.fullmatch(r"1(?:\.0)? - ([\w.]+)", code(k.value)) if k.arg == "alpha" else None
            if rest is not None and f"mul_({rest[1]})" in code(n):
                swapped = code(n).replace(f"mul_({rest[1]})", "mul_(\0)").replace(rest[0], rest[1]).replace("\0", rest[0])
                yield n, swapped
    for b in nodes_of(s, ast.BinOp):
        match = re.fullmatch(r"(?P<a>[\w.]+) \* (?P<g>[\w.]+) \+ \(1 - (?P=g)\) \* (?P<b>.+)", code(b))
        match = match or re.fullmatch(r"(?P<g>[\w.]+) \* (?P<a>[\w.]+) \+ \(1 - (?P=g)\) \* (?P<b>.+)", code(b))
        if match is not None:
            yield b, f"(1 - {match['g']}) * {match['a']} + {match['g']} * {match['b']}"


def _weighed(n: ast.AST) -> tuple[str, str, ast.BinOp] | None:
    """beta * kl: the weight, the term, the product."""
    if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult):
        for weight, term in ((n.left, n.right), (n.right, n.left)):
            named = isinstance(weight, ast.Name | ast.Attribute) and _WEIGHT.fullmatch(code(weight).rpartition(".")[2])
            if named and re.search(r"kl|diverg", code(term), re.IGNORECASE):
                return code(weight), code(term), n
    return None


def weigh_the_whole(s: ast.stmt) -> Iterator[Edit]:
    """beta * (rec + kl)."""
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) and (part := _weighed(n.right)) is not None:
            yield n, f"{part[0]} * ({code(n.left)} + {part[1]})"


def weigh_twice(s: ast.stmt) -> Iterator[Edit]:
    """beta * beta * kl."""
    for n in nodes_of(s, ast.BinOp):
        if (part := _weighed(n)) is not None:
            yield n, f"{part[0]} * {part[0]} * {part[1]}"


TRAINING_OPERATORS = (
    clear_no_gradients, take_no_step, leave_a_part_out, train_in_evaluation, limit_no_gradients, penalty_without_graph,
    stick_the_warm_up, warm_up_without_end, forget_to_count, keep_the_last_term, average_the_wrong_way, weigh_the_whole, weigh_twice,
)  # fmt: skip
