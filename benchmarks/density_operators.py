"""Bugs of densities, flows, experts, mixtures and relaxed draws, as edits of source text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from spellings import called, code, names_in, nodes_of, spells_kl

Edit = tuple[ast.AST, str]

_LOG_Q = re.compile(r"\w*(log_?q|lq[zw])\w*", re.IGNORECASE)
_VOLUME = re.compile(r"\w*(log_?det\w*|ldj|log_?jac\w*|ar\w*_logsd)", re.IGNORECASE)
_SHARES = re.compile(r"\w*(probs?|logits|qy|pi|shares|gamma)", re.IGNORECASE)


def _calls(s: ast.stmt) -> Iterator[ast.Call]:
    return (n for n in ast.walk(s) if isinstance(n, ast.Call))


def _named(node: ast.AST, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(name) for name in names_in(node))


def posterior_for_prior(s: ast.stmt) -> Iterator[Edit]:
    """kl_divergence(q, q)."""
    for n in _calls(s):
        if called(n) == "kl_divergence" and len(n.args) == 2:
            yield n.args[1], code(n.args[0])
        elif re.search(r"kl|kld", called(n), re.IGNORECASE) and len(n.args) == 4 and all(isinstance(a, ast.Name) for a in n.args):
            yield n.args[2], code(n.args[0])


def forget_log_q(s: ast.stmt) -> Iterator[Edit]:
    """log p without log q."""
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub):
            if _named(n.right, _LOG_Q) and not _named(n.left, _LOG_Q):
                yield n, f"({code(n.left)})"
            elif _named(n.left, _LOG_Q) and not _named(n.right, _LOG_Q):
                yield n, f"(-({code(n.right)}))"


def log_q_of_a_held_draw(s: ast.stmt) -> Iterator[Edit]:
    """log q(z.detach())."""
    for n in _calls(s):
        if called(n) == "log_prob" and len(n.args) == 1 and isinstance(n.args[0], ast.Name) and re.match(r"q", code(n.func)):
            yield n.args[0], f"{code(n.args[0])}.detach()"


def forget_the_log_scale(s: ast.stmt) -> Iterator[Edit]:
    """A Gaussian density without its log-scale."""
    if spells_kl(s) or not any("square" in code(n) or "** 2" in code(n) or "pow(2)" in code(n) for n in nodes_of(s, ast.Call, ast.BinOp)):
        return
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add | ast.Sub):
            logarithm = re.fullmatch(r"-?(torch\.log\((std|sigma|scale)\w*.*\)|log_?(var|sigma|std|scale)\w*|\w*logvar\w*)", code(n.left))
            if logarithm is not None:
                yield n, f"({'-' if isinstance(n.op, ast.Sub) else ''}{code(n.right)})"


def forget_the_log_det(s: ast.stmt) -> Iterator[Edit]:
    """A flow's volume is not counted."""
    if isinstance(s, ast.AugAssign) and _named(s.value, _VOLUME):
        yield s.value, f"0 * ({code(s.value)})"
        return
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add | ast.Sub) and _named(n.right, _VOLUME) and not _named(n.left, _VOLUME):
            yield n, f"({code(n.left)})"


def variance_for_precision(s: ast.stmt) -> Iterator[Edit]:
    """An expert weighs by its variance."""
    for n in nodes_of(s, ast.BinOp):
        inverse = isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div) and code(n.left) in ("1", "1.0") and isinstance(s, ast.Assign)
        if inverse and isinstance(n, ast.BinOp) and re.fullmatch(r"\(?(var|variance|sigma2)\w*( \+ .*)?\)?", code(n.right)):
            yield n, f"({code(n.right)})"


def log_of_the_square(s: ast.stmt) -> Iterator[Edit]:
    """log(mse) for half of it: the variance's logarithm for the deviation's."""
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult) and code(n.left) == "0.5" and code(n.right).startswith("torch.log("):
            yield n, code(n.right)
    for c in _calls(s):
        if called(c) == "log" and isinstance(c.func, ast.Attribute) and code(c.func.value).endswith(".sqrt()"):
            yield c.func.value, code(c.func.value).removesuffix(".sqrt()")


def subtract_the_other_class(s: ast.stmt) -> Iterator[Edit]:
    """x log p - (1 - x) log(1 - p)."""
    for n in nodes_of(s, ast.BinOp):
        if (
            isinstance(n, ast.BinOp)
            and isinstance(n.op, ast.Add)
            and "log" in code(n.left)
            and re.search(r"log\(.*1(\.0?)? - ", code(n.right))
        ):
            yield n, f"{code(n.left)} - {code(n.right)}"


def sum_over_the_draws(s: ast.stmt) -> Iterator[Edit]:
    """logsumexp over the draws, not over the posteriors."""
    for n in _calls(s):
        if called(n) == "logsumexp" and isinstance(n.func, ast.Attribute):
            for a in (*n.args, *(k.value for k in n.keywords if k.arg == "dim")):
                if code(a) == "1":
                    yield a, "0"


def flip_the_entropy(s: ast.stmt) -> Iterator[Edit]:
    """sum(p log p) for -sum(p log p)."""
    for n in nodes_of(s, ast.UnaryOp):
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub) and re.search(r"(\w+) \* torch\.log\(\1\b", code(n.operand)):
            yield n, code(n.operand)


def forget_the_shares(s: ast.stmt) -> Iterator[Edit]:
    """The bounds of all classes added up without their shares."""
    for n in _calls(s):
        product = n.func.value if called(n) == "sum" and isinstance(n.func, ast.Attribute) else None
        if not isinstance(product, ast.BinOp) or not isinstance(product.op, ast.Mult):
            continue
        if _SHARES.fullmatch(code(product.left)) and "log" not in code(product.right):
            yield product, f"({code(product.right)})"


def shares_with_a_gradient(s: ast.stmt) -> Iterator[Edit]:
    """Shares of an importance-weighted bound that are not detached."""
    for n in _calls(s):
        if called(n) == "detach" and isinstance(n.func, ast.Attribute) and re.match(r"(w|weights?|shares?|iw)(_|$)", code(n.func.value)):
            yield n, code(n.func.value)


def gumbel_the_wrong_way(s: ast.stmt) -> Iterator[Edit]:
    """log(-log(u))."""
    for n in nodes_of(s, ast.UnaryOp):
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub) and re.match(r"torch\.log\(-torch\.log\(", code(n.operand)):
            yield n, code(n.operand)


def probabilities_for_logits(s: ast.stmt) -> Iterator[Edit]:
    """gumbel_softmax of probabilities."""
    for n in _calls(s):
        if code(n.func) in ("F.gumbel_softmax", "torch.nn.functional.gumbel_softmax") and n.args:
            yield n.args[0], f"torch.softmax({code(n.args[0])}, -1)"


def codes_not_divided(s: ast.stmt) -> Iterator[Edit]:
    """A code as the sum of its vectors."""
    for n in nodes_of(s, ast.BinOp):
        if not isinstance(n, ast.BinOp) or not isinstance(n.op, ast.Div):
            continue
        if re.search(r"cluster_size|counts?\b", code(n.right)) and re.search(r"avg|ema|embed|sum", code(n.left)):
            yield n, f"({code(n.left)})"


def exchange_the_commitment(s: ast.stmt) -> Iterator[Edit]:
    """beta on the codebook's half: mse(q.detach(), z) becomes mse(q, z.detach())."""
    for n in _calls(s):
        if called(n) == "mse_loss" and len(n.args) == 2 and code(n.args[0]).endswith(".detach()"):
            yield n, f"{code(n.func)}({code(n.args[0]).removesuffix('.detach()')}, ({code(n.args[1])}).detach())"


DENSITY_OPERATORS = (
    posterior_for_prior, forget_log_q, log_q_of_a_held_draw, forget_the_log_scale, forget_the_log_det, variance_for_precision,
    log_of_the_square, subtract_the_other_class, sum_over_the_draws, flip_the_entropy, forget_the_shares, shares_with_a_gradient,
    gumbel_the_wrong_way, probabilities_for_logits, codes_not_divided, exchange_the_commitment,
)  # fmt: skip
