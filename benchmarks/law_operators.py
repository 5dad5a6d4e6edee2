"""Bugs that break a law of training, of masks or of places, as edits of source text: no bug of the objective's formula."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from spellings import LOSSES, called, code, nodes_of

Edit = tuple[ast.AST, str]

_PADDING = re.compile(r"(src_|tgt_|memory_)?key_padding_mask")
_MASK = re.compile(r"(\w*_)?(mask|masks|present|observed|valid|there)(_\w*)?")
_OPTIMIZERS = frozenset({"Adam", "AdamW", "SGD", "RMSprop", "Adamax", "NAdam", "RAdam"})


def invert_the_padding_mask(s: ast.stmt) -> Iterator[Edit]:
    """A padding mask of an attention that is true where data is."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        for k in n.keywords:
            if k.arg and _PADDING.fullmatch(k.arg) and code(k.value) != "None":
                yield k.value, f"~({code(k.value)})"


def invert_the_length(s: ast.stmt) -> Iterator[Edit]:
    """arange(T) >= lengths."""
    for n in nodes_of(s, ast.Compare):
        assert isinstance(n, ast.Compare)
        if len(n.ops) == 1 and isinstance(n.ops[0], ast.Lt) and "arange" in code(n.left):
            yield n, f"{code(n.left)} >= {code(n.comparators[0])}"


def invert_the_mask(s: ast.stmt) -> Iterator[Edit]:
    """What is there counts for nothing, and what is not there counts."""
    for n in nodes_of(s, ast.BinOp):
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Mult) and _MASK.fullmatch(code(n.right).rpartition(".")[2]):
            yield n.right, f"({code(n.right)} == 0)"


def undo_the_straight_through(s: ast.stmt) -> Iterator[Edit]:
    """z + (q - z)."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) == "detach" and isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.BinOp):
            yield n, f"({code(n.func.value)})"


def stick_the_warm_up(s: ast.stmt) -> Iterator[Edit]:
    """min(1, step // steps)."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) == "min":
            for a in n.args:
                if isinstance(a, ast.BinOp) and isinstance(a.op, ast.Div):
                    yield a, f"{code(a.left)} // {code(a.right)}"


def exchange_the_labels(s: ast.stmt) -> Iterator[Edit]:
    """A loss against ones in place of zeros, or zeros in place of ones."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) in LOSSES:
            for a in n.args[1:]:
                name = called(a) if isinstance(a, ast.Call) else None
                if name in ("ones_like", "zeros_like") and isinstance(a, ast.Call):
                    yield a.func, "torch.zeros_like" if name == "ones_like" else "torch.ones_like"


def clear_no_gradients(s: ast.stmt) -> Iterator[Edit]:
    """No zero_grad()."""
    if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and called(s.value) == "zero_grad":
        yield s.value, "None"


def take_no_step(s: ast.stmt) -> Iterator[Edit]:
    """An optimizer that never steps."""
    if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and code(s.value).endswith(".step()") and "opt" in code(s.value):
        yield s.value, "None"


def leave_a_part_out(s: ast.stmt) -> Iterator[Edit]:
    """An optimizer without the first two parameters."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) in _OPTIMIZERS and n.args and code(n.args[0]).endswith(".parameters()"):
            yield n.args[0], f"list({code(n.args[0])})[2:]"


def forget_to_turn_back(s: ast.stmt) -> Iterator[Edit]:
    """No flip(...): neither `x.flip(1)` nor `torch.flip(x, [1])`."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) == "flip" and isinstance(n.func, ast.Attribute):
            of_torch = code(n.func.value) == "torch"
            yield n, code(n.args[0] if of_torch else n.func.value)


LAW_OPERATORS = (
    invert_the_padding_mask, invert_the_length, invert_the_mask, undo_the_straight_through, stick_the_warm_up, exchange_the_labels,
    clear_no_gradients, take_no_step, leave_a_part_out, forget_to_turn_back,
)  # fmt: skip
