"""Bugs of VAEs as edits of source text: each operator finds the places in a file where it applies."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from law_operators import LAW_OPERATORS
from spellings import (
    BATCH,
    LOSSES,
    MODULES,
    called,
    code,
    deviations,
    draws,
    exponent,
    half_of,
    is_mu,
    is_scale,
    makes_kl,
    nodes_of,
    root_of_exp,
    samples,
    spells_kl,
    squared,
    sums_with_kl,
)
from training_operators import clear_no_gradients, forget_to_count, take_no_step


@dataclass(frozen=True)
class Mutant:
    """A file with one bug: the operator, the lines of the statement that holds it, and the whole new text."""

    operator: str
    line: int
    end_line: int
    text: str


Edit = tuple[ast.AST, str]  # the node and what stands in its place
Operator = Callable[[ast.stmt], Iterator[Edit]]


def mutants(source: str, most: int = 2, lines: Collection[int] | None = None) -> list[Mutant]:
    """Every operator at the first places where it applies, at most `most` of each. `lines`: only statements that have one of these."""
    tree, found = ast.parse(source), []
    by_torch = "kl_divergence(" in source  # then the KL follows the scale, whatever that is made of: no bug
    found_in = {id(s): s for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for s in _plain(f) if lines is None or _at(s, lines)}
    statements = sorted(found_in.values(), key=lambda s: s.lineno)
    for operator in OPERATORS:
        count = most if by_torch and operator is variance_for_std else 0
        for statement in statements:
            for node, text in operator(statement):
                if count < most and (changed := _edited(source, node, text)) is not None:
                    shift = changed.count("\n") - source.count("\n")
                    place = _function_of(tree, statement) if operator in TAKE_AWAY else statement
                    end = (place.end_lineno or place.lineno) + shift
                    found.append(Mutant(operator.__name__, place.lineno, max(end, place.lineno), changed))
                    count += 1
    return found


def _function_of(tree: ast.Module, statement: ast.stmt) -> ast.stmt:
    """The innermost function around a statement."""
    around = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and any(s is statement for s in ast.walk(f))]
    return max(around, key=lambda f: f.lineno)


def _at(statement: ast.stmt, lines: Collection[int]) -> bool:
    return any(n in lines for n in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))


def _plain(function: ast.FunctionDef) -> list[ast.stmt]:
    return [s for s in ast.walk(function) if isinstance(s, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.AnnAssign)]


def _edited(source: str, node: ast.AST, text: str) -> str | None:
    """The text with a node's source replaced, if it is still Python and says something else."""
    lines = source.split("\n")
    start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
    before = "\n".join([*lines[: start[0] - 1], lines[start[0] - 1].encode()[: start[1]].decode()])
    after = "\n".join([lines[end[0] - 1].encode()[end[1] :].decode(), *lines[end[0] :]])
    new = before + text + after
    try:
        ast.parse(new)
    except SyntaxError:
        return None
    return new if new != source else None


# --- the operators: KL -------------------------------------------------------------------------------------------------


def drop_the_half(s: ast.stmt) -> Iterator[Edit]:
    """The factor 1/2 of the KL."""
    if not spells_kl(s):
        return
    for call in nodes_of(s, ast.Call):
        if called(call) in ("mul", "mul_") and isinstance(call, ast.Call) and [code(a) for a in call.args] in (["0.5"], ["-0.5"]):
            yield call.args[0], "-1.0" if code(call.args[0]).startswith("-") else "1.0"
    for n in nodes_of(s, ast.BinOp):
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Mult) and code(n.left) in ("0.5", "-0.5"):
            yield n.left, "-1.0" if code(n.left).startswith("-") else "1.0"
        elif isinstance(n.op, ast.Div) and code(n.right) in ("2", "2.0") and exponent(n.left) is None:
            yield n.right, "1"


def flip_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """The sign of the KL's leading factor."""
    for n in nodes_of(s, ast.BinOp) if spells_kl(s) else ():
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Mult) and code(n.left) in ("0.5", "-0.5"):
            yield n.left, "0.5" if code(n.left).startswith("-") else "-0.5"


def subtract_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec - kl."""
    for n in sums_with_kl(s):
        yield n, f"{code(n.left)} - {code(n.right)}"


def forget_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec alone."""
    for n in sums_with_kl(s):
        yield n, code(n.left)


def detach_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec + kl.detach()."""
    for n in sums_with_kl(s):
        yield n.right, f"({code(n.right)}).detach()"


def forget_the_exp(s: ast.stmt) -> Iterator[Edit]:
    """The variance of the KL is the log-variance."""
    for n in nodes_of(s, ast.Call) if spells_kl(s) else ():
        inner = exponent(n)
        if inner is not None and is_scale(inner):
            yield n, code(inner)


def forget_the_square(s: ast.stmt) -> Iterator[Edit]:
    """The mean of the KL is not squared."""
    for n in ast.walk(s) if spells_kl(s) else ():
        inner = squared(n)
        if inner is not None and is_mu(inner):
            yield n, code(inner)


def forget_the_logvar(s: ast.stmt) -> Iterator[Edit]:
    """The KL without its log-determinant: 1 + logvar becomes 1."""
    for n in nodes_of(s, ast.BinOp) if spells_kl(s) else ():
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Add) and code(n.left) in ("1", "1.0") and is_scale(n.right):
            yield n, code(n.left)


def swap_in_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """mu and logvar change places in the KL."""
    if not spells_kl(s) or not isinstance(s, ast.Assign | ast.Return) or s.value is None:
        return
    mus = {code(n) for n in ast.walk(s.value) if is_mu(n) and isinstance(n, ast.Name)}
    scales = {code(n) for n in ast.walk(s.value) if is_scale(n) and isinstance(n, ast.Name)}
    if len(mus) == 1 and len(scales) == 1:
        (a,), (b,) = mus, scales
        yield s.value, re.sub(rf"\b({a}|{b})\b", lambda m: b if m[0] == a else a, code(s.value))


def sum_over_the_batch(s: ast.stmt) -> Iterator[Edit]:
    """The KL is summed over axis 0 in place of the latent."""
    for n in nodes_of(s, ast.Call) if makes_kl(s) else ():
        assert isinstance(n, ast.Call)
        if called(n) in ("sum", "mean"):
            for a in (*n.args, *(k.value for k in n.keywords if k.arg in ("dim", "axis"))):
                if code(a) in ("1", "-1"):
                    yield a, "0"


def reverse_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """kl_divergence(prior, posterior)."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if called(n) == "kl_divergence" and len(n.args) == 2:
            yield n, f"{code(n.func)}({code(n.args[1])}, {code(n.args[0])})"


def mean_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """mean in place of sum in the KL."""
    for n in nodes_of(s, ast.Call) if makes_kl(s) else ():
        assert isinstance(n, ast.Call)
        if called(n) == "sum" and isinstance(n.func, ast.Attribute):
            yield n.func, f"{code(n.func.value)}.mean"


# --- reparameterisation -------------------------------------------------------------------------------------------------


def variance_for_std(s: ast.stmt) -> Iterator[Edit]:
    """exp(logvar) in place of exp(logvar / 2), or of its root."""
    for n in nodes_of(s, ast.Call, ast.BinOp):
        inner = half_of(exponent(n))
        if inner is not None and is_scale(inner):
            yield n, code(ast.Call(ast.Attribute(ast.Name("torch"), "exp"), [inner], []))
        root = root_of_exp(n)
        if root is not None and is_scale(exponent(root) or root):
            yield n, code(root)


def std_without_exp(s: ast.stmt) -> Iterator[Edit]:
    """The scale is logvar / 2, with no exponential."""
    for n in nodes_of(s, ast.Call):
        inner = exponent(n)
        if inner is not None and half_of(inner) is not None and any(is_scale(x) for x in ast.walk(inner)):
            yield n, f"({code(inner)})"
    for whole, inner in deviations(s):
        yield whole, code(inner)


def _like(s: ast.stmt) -> Iterator[ast.Call]:
    return (n for n in ast.walk(s) if isinstance(n, ast.Call) and code(n.func) == "torch.randn_like" and len(n.args) == 1)


def noise_without_batch(s: ast.stmt) -> Iterator[Edit]:
    """One draw for the whole batch."""
    for n in _like(s):
        yield n.args[0], f"{code(n.args[0])}[0]"
    for call in nodes_of(s, ast.Call):
        assert isinstance(call, ast.Call)
        if code(call.func) == "torch.randn" and len(call.args) > 1 and BATCH.fullmatch(code(call.args[0])):
            yield call.args[0], "1"


def uniform_noise(s: ast.stmt) -> Iterator[Edit]:
    """rand in place of randn."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if code(n.func) in ("torch.randn_like", "torch.randn"):
            yield n.func, code(n.func).replace("randn", "rand")


def skip_the_noise(s: ast.stmt) -> Iterator[Edit]:
    """z = mu."""
    for n in samples(s):
        yield n, code(n.left)
    for d in draws(s):
        assert isinstance(d.func, ast.Attribute)
        yield d, f"{code(d.func.value)}.mean"


def subtract_no_mean(s: ast.stmt) -> Iterator[Edit]:
    """z = std * eps."""
    for n in samples(s):
        yield n, code(n.right)


def detach_the_sample(s: ast.stmt) -> Iterator[Edit]:
    """z = (mu + std * eps).detach()."""
    for n in samples(s):
        yield n, f"({code(n)}).detach()"
    for d in draws(s):
        assert isinstance(d.func, ast.Attribute)
        yield d.func, f"{code(d.func.value)}.sample"


def detach_the_scale(s: ast.stmt) -> Iterator[Edit]:
    """z = mu + (std * eps).detach()."""
    for n in samples(s):
        yield n, f"{code(n.left)} + ({code(n.right)}).detach()"


def swap_the_heads(s: ast.stmt) -> Iterator[Edit]:
    """reparameterize(logvar, mu)."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if len(n.args) == 2 and is_mu(n.args[0]) and is_scale(n.args[1]) and "kl" not in called(n).lower():
            yield n, f"{code(n.func)}({code(n.args[1])}, {code(n.args[0])})"


def decode_the_mean(s: ast.stmt) -> Iterator[Edit]:
    """decode(mu) in place of decode(z), where both are at hand."""
    for n in nodes_of(s, ast.Call):
        assert isinstance(n, ast.Call)
        if "dec" in code(n.func).lower() and len(n.args) == 1 and code(n.args[0]) in ("z", "latent") and any(is_mu(x) for x in ast.walk(s)):
            yield n.args[0], next(code(x) for x in ast.walk(s) if is_mu(x))


# --- reconstruction -------------------------------------------------------------------------------------------------


def _losses(s: ast.stmt) -> Iterator[ast.Call]:
    """F.mse_loss(a, b), nn.MSELoss()(a, b)."""
    return (n for n in ast.walk(s) if isinstance(n, ast.Call) and _loss(n) in LOSSES and len(n.args) >= 2)


def _loss(n: ast.Call) -> str:
    """The function's name: also of the module that is made and called at once."""
    return MODULES.get(called(n.func), "") if isinstance(n.func, ast.Call) else called(n)


def unsqueeze_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """recon.unsqueeze(1) beside x."""
    for n in _losses(s):
        if _loss(n) not in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):  # torch refuses those
            yield n.args[0], f"({code(n.args[0])}).unsqueeze(1)"


def itself_for_target(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction is compared with itself."""
    for n in _losses(s):
        yield n.args[1], f"({code(n.args[0])}).detach()"


def zeros_for_target(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction is compared with a constant."""
    for n in _losses(s):
        yield n.args[1], f"torch.zeros_like({code(n.args[1])})"


def detach_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction gives no gradient."""
    for n in _losses(s):
        yield n.args[0], f"({code(n.args[0])}).detach()"


def mean_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """reduction="mean" beside a summed KL."""
    for n in _losses(s):
        for k in n.func.keywords if isinstance(n.func, ast.Call) else n.keywords:
            if k.arg == "reduction" and code(k.value) == "'sum'":
                yield k.value, "'mean'"


def sigmoid_twice(s: ast.stmt) -> Iterator[Edit]:
    """A sigmoid before a loss that takes logits."""
    for n in _losses(s):
        if _loss(n).endswith("with_logits"):
            yield n.args[0], f"torch.sigmoid({code(n.args[0])})"


def flip_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """-rec + kl."""
    for n in sums_with_kl(s):
        yield n, f"-({code(n.left)}) + {code(n.right)}"


def fixed_divisor(s: ast.stmt) -> Iterator[Edit]:
    """The batch size as a number."""
    for n in nodes_of(s, ast.BinOp):
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Div) and re.fullmatch(r"\w+\.(?:size\(0\)|shape\[0\])|len\(\w+\)", code(n.right)):
            yield n.right, "BATCH_OF_THE_RUN"


OPERATORS: tuple[Operator, ...] = (
    drop_the_half, flip_the_kl, subtract_the_kl, forget_the_kl, detach_the_kl, forget_the_exp, forget_the_square, forget_the_logvar,
    swap_in_the_kl, sum_over_the_batch, reverse_the_kl, mean_the_kl, variance_for_std, std_without_exp, noise_without_batch,
    uniform_noise, skip_the_noise, subtract_no_mean, detach_the_sample, detach_the_scale, swap_the_heads, decode_the_mean,
    unsqueeze_the_reconstruction, itself_for_target, zeros_for_target, detach_the_reconstruction, mean_the_reconstruction,
    sigmoid_twice, flip_the_reconstruction, fixed_divisor, *LAW_OPERATORS,
)  # fmt: skip

TAKE_AWAY: frozenset[Operator] = frozenset({clear_no_gradients, take_no_step, forget_to_count})
"""Operators that leave no line to name: what they take away is missing in the whole function."""
