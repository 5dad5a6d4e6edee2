"""Bugs of VAEs as edits of source text: each operator finds the places in a file where it applies."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MU = re.compile(r"(?:[a-z]+_)?(?:mu|mean|means|loc|m)\d?(?:_[a-z0-9]+)?")
SCALE = re.compile(
    r"(?:[a-z]+_)?(?:log_?vars?|log_?sigma\w*|log_?std\w*|log_?scale|lv|ls|lnvar|log_variance)\d?(?:_[a-z0-9]+)?", re.IGNORECASE
)
BATCH = re.compile(r"[\w.]+\.(?:size\(0\)|shape\[0\])|len\(\w+\)|batch_?size|bs")
LOSSES = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
)
MODULES = {
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
}


@dataclass(frozen=True)
class Mutant:
    """A file with one bug: the operator, the lines of the statement that holds it, and the whole new text."""

    operator: str
    line: int
    end_line: int
    text: str


Edit = tuple[ast.AST, str]  # the node and what stands in its place
Operator = Callable[[ast.stmt], Iterator[Edit]]


def mutants(source: str, most: int = 2) -> list[Mutant]:
    """Every operator at the first places where it applies, at most `most` of each."""
    tree, found = ast.parse(source), []
    statements = sorted((s for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for s in _plain(f)), key=lambda s: s.lineno)
    for operator in OPERATORS:
        count = 0
        for statement in statements:
            for node, text in operator(statement):
                if count < most and (changed := _edited(source, node, text)) is not None:
                    shift = changed.count("\n") - source.count("\n")
                    end = (statement.end_lineno or statement.lineno) + shift
                    found.append(Mutant(operator.__name__, statement.lineno, max(end, statement.lineno), changed))
                    count += 1
    return found


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


# --- what code shows -------------------------------------------------------------------------------------------------


def _u(node: ast.AST) -> str:
    return ast.unparse(node)


def _called(node: ast.AST) -> str:
    return _u(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _names(node: ast.AST) -> list[str]:
    return [n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)]


def _walk(statement: ast.AST, *kinds: type) -> Iterator[ast.AST]:
    return (n for n in ast.walk(statement) if isinstance(n, kinds))


def _is_mu(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and MU.fullmatch(_u(node).rpartition(".")[2].lower()) is not None


def _is_scale(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and SCALE.fullmatch(_u(node).rpartition(".")[2]) is not None


def _squares(node: ast.AST) -> ast.AST | None:
    """What is squared: x ** 2, x.pow(2), x.square(), torch.square(x), x * x."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _u(node.right) in ("2", "2.0"):
        return node.left
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and _u(node.left) == _u(node.right):
        return node.left
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
        if node.func.attr == "square" or (node.func.attr == "pow" and [_u(a) for a in node.args][-1:] == ["2"]):
            return node.args[0] if of_torch and node.args else node.func.value
    return None


def _exps(node: ast.AST) -> ast.expr | None:
    """What is exponentiated: torch.exp(x), x.exp()."""
    if isinstance(node, ast.Call) and _called(node) in ("exp", "exp_") and isinstance(node.func, ast.Attribute):
        return node.args[0] if node.args else node.func.value
    return None


def _kl(statement: ast.AST) -> bool:
    """A statement that spells the Gaussian KL: something squared, something exponentiated, and a log-variance by itself."""
    nodes = list(ast.walk(statement))
    return any(_squares(n) is not None for n in nodes) and any(_exps(n) is not None for n in nodes) and any(_is_scale(n) for n in nodes)


def _total(statement: ast.AST) -> Iterator[ast.BinOp]:
    """The sums of a statement that hold a term named KL."""
    if isinstance(statement, ast.Return | ast.Assign) and not _kl(statement):
        for n in _walk(statement, ast.BinOp):
            if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) and any("kl" in x.lower() for x in _names(n.right)):
                yield n


def _sampling(statement: ast.AST) -> Iterator[ast.BinOp]:
    """mu + std * eps, spelt out with signs or methods: eps.mul(std).add_(mu), torch.addcmul(mu, std, eps)."""
    for n in _walk(statement, ast.BinOp, ast.Call):
        pairs = [(n.left, n.right), (n.right, n.left)] if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) else []
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ("add", "add_") and len(n.args) == 1:
            pairs = [(n.args[0], n.func.value), (n.func.value, n.args[0])]
        if isinstance(n, ast.Call) and _u(n.func) == "torch.addcmul" and len(n.args) == 3:
            pairs = [(n.args[0], ast.BinOp(n.args[1], ast.Mult(), n.args[2]))]
        for mu, noise in pairs:
            product = isinstance(noise, ast.BinOp) and isinstance(noise.op, ast.Mult)
            if _is_mu(mu) and (product or _called(noise) in ("mul", "mul_")):
                yield ast.copy_location(ast.BinOp(mu, ast.Add(), noise), n)


def _draws(statement: ast.AST) -> Iterator[ast.Call]:
    """q.rsample(), with nothing in the brackets."""
    return (n for n in ast.walk(statement) if isinstance(n, ast.Call) and _called(n) == "rsample" and not n.args and not n.keywords)


def _deviation(statement: ast.AST) -> Iterator[tuple[ast.Call, ast.expr]]:
    """std = exp(x): the exponential of one value, and the value."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return
    targets, inner = statement.targets, _exps(statement.value)
    named = len(targets) == 1 and re.search(r"(?<!log)(?<!log_)(?:std|sigma|scale)", _u(targets[0]), re.IGNORECASE)
    if named and isinstance(inner, ast.Name | ast.Attribute):
        yield statement.value, inner


# --- the operators: KL -------------------------------------------------------------------------------------------------


def drop_the_half(s: ast.stmt) -> Iterator[Edit]:
    """The factor 1/2 of the KL."""
    if not _kl(s):
        return
    for n in _walk(s, ast.BinOp):
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Mult) and _u(n.left) in ("0.5", "-0.5"):
            yield n.left, "-1.0" if _u(n.left).startswith("-") else "1.0"
        elif isinstance(n.op, ast.Div) and _u(n.right) in ("2", "2.0") and _exps(n.left) is None:
            yield n.right, "1"


def flip_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """The sign of the KL's leading factor."""
    for n in _walk(s, ast.BinOp) if _kl(s) else ():
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Mult) and _u(n.left) in ("0.5", "-0.5"):
            yield n.left, "0.5" if _u(n.left).startswith("-") else "-0.5"


def subtract_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec - kl."""
    for n in _total(s):
        yield n, f"{_u(n.left)} - {_u(n.right)}"


def forget_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec alone."""
    for n in _total(s):
        yield n, _u(n.left)


def detach_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """rec + kl.detach()."""
    for n in _total(s):
        yield n.right, f"({_u(n.right)}).detach()"


def forget_the_exp(s: ast.stmt) -> Iterator[Edit]:
    """The variance of the KL is the log-variance."""
    for n in _walk(s, ast.Call) if _kl(s) else ():
        inner = _exps(n)
        if inner is not None and _is_scale(inner):
            yield n, _u(inner)


def forget_the_square(s: ast.stmt) -> Iterator[Edit]:
    """The mean of the KL is not squared."""
    for n in ast.walk(s) if _kl(s) else ():
        inner = _squares(n)
        if inner is not None and _is_mu(inner):
            yield n, _u(inner)


def forget_the_logvar(s: ast.stmt) -> Iterator[Edit]:
    """The KL without its log-determinant: 1 + logvar becomes 1."""
    for n in _walk(s, ast.BinOp) if _kl(s) else ():
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Add) and _u(n.left) in ("1", "1.0") and _is_scale(n.right):
            yield n, _u(n.left)


def swap_in_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """mu and logvar change places in the KL."""
    if not _kl(s) or not isinstance(s, ast.Assign | ast.Return) or s.value is None:
        return
    mus = {_u(n) for n in ast.walk(s.value) if _is_mu(n) and isinstance(n, ast.Name)}
    scales = {_u(n) for n in ast.walk(s.value) if _is_scale(n) and isinstance(n, ast.Name)}
    if len(mus) == 1 and len(scales) == 1:
        (a,), (b,) = mus, scales
        yield s.value, re.sub(rf"\b({a}|{b})\b", lambda m: b if m[0] == a else a, _u(s.value))


def sum_over_the_batch(s: ast.stmt) -> Iterator[Edit]:
    """The KL is summed over axis 0 in place of the latent."""
    for n in _walk(s, ast.Call) if _kl(s) else ():
        assert isinstance(n, ast.Call)
        if _called(n) in ("sum", "mean"):
            for a in (*n.args, *(k.value for k in n.keywords if k.arg in ("dim", "axis"))):
                if _u(a) in ("1", "-1"):
                    yield a, "0"


def reverse_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """kl_divergence(prior, posterior)."""
    for n in _walk(s, ast.Call):
        assert isinstance(n, ast.Call)
        if _called(n) == "kl_divergence" and len(n.args) == 2:
            yield n, f"{_u(n.func)}({_u(n.args[1])}, {_u(n.args[0])})"


def mean_the_kl(s: ast.stmt) -> Iterator[Edit]:
    """mean in place of sum in the KL."""
    for n in _walk(s, ast.Call) if _kl(s) else ():
        assert isinstance(n, ast.Call)
        if _called(n) == "sum" and isinstance(n.func, ast.Attribute):
            yield n.func, f"{_u(n.func.value)}.mean"


# --- reparameterisation -------------------------------------------------------------------------------------------------


def variance_for_std(s: ast.stmt) -> Iterator[Edit]:
    """exp(logvar) in place of exp(logvar / 2)."""
    for n in _walk(s, ast.Call):
        inner = _exps(n)
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult | ast.Div):
            if _u(inner.left) == "0.5" and _is_scale(inner.right):
                yield inner, _u(inner.right)
            elif _u(inner.right) in ("0.5", "2", "2.0") and _is_scale(inner.left):
                yield inner, _u(inner.left)


def std_without_exp(s: ast.stmt) -> Iterator[Edit]:
    """The scale is logvar / 2, with no exponential."""
    for n in _walk(s, ast.Call):
        inner = _exps(n)
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult | ast.Div) and any(_is_scale(x) for x in ast.walk(inner)):
            yield n, f"({_u(inner)})"
    for whole, inner in _deviation(s):
        yield whole, _u(inner)


def _like(s: ast.stmt) -> Iterator[ast.Call]:
    return (n for n in ast.walk(s) if isinstance(n, ast.Call) and _u(n.func) == "torch.randn_like" and len(n.args) == 1)


def noise_without_batch(s: ast.stmt) -> Iterator[Edit]:
    """One draw for the whole batch."""
    for n in _like(s):
        yield n.args[0], f"{_u(n.args[0])}[0]"
    for call in _walk(s, ast.Call):
        assert isinstance(call, ast.Call)
        if _u(call.func) == "torch.randn" and len(call.args) > 1 and BATCH.fullmatch(_u(call.args[0])):
            yield call.args[0], "1"


def uniform_noise(s: ast.stmt) -> Iterator[Edit]:
    """rand in place of randn."""
    for n in _walk(s, ast.Call):
        assert isinstance(n, ast.Call)
        if _u(n.func) in ("torch.randn_like", "torch.randn"):
            yield n.func, _u(n.func).replace("randn", "rand")


def skip_the_noise(s: ast.stmt) -> Iterator[Edit]:
    """z = mu."""
    for n in _sampling(s):
        yield n, _u(n.left)
    for d in _draws(s):
        assert isinstance(d.func, ast.Attribute)
        yield d, f"{_u(d.func.value)}.mean"


def subtract_no_mean(s: ast.stmt) -> Iterator[Edit]:
    """z = std * eps."""
    for n in _sampling(s):
        yield n, _u(n.right)


def detach_the_sample(s: ast.stmt) -> Iterator[Edit]:
    """z = (mu + std * eps).detach()."""
    for n in _sampling(s):
        yield n, f"({_u(n)}).detach()"
    for d in _draws(s):
        assert isinstance(d.func, ast.Attribute)
        yield d.func, f"{_u(d.func.value)}.sample"


def detach_the_scale(s: ast.stmt) -> Iterator[Edit]:
    """z = mu + (std * eps).detach()."""
    for n in _sampling(s):
        yield n, f"{_u(n.left)} + ({_u(n.right)}).detach()"


def swap_the_heads(s: ast.stmt) -> Iterator[Edit]:
    """reparameterize(logvar, mu)."""
    for n in _walk(s, ast.Call):
        assert isinstance(n, ast.Call)
        if len(n.args) == 2 and _is_mu(n.args[0]) and _is_scale(n.args[1]) and "kl" not in _called(n).lower():
            yield n, f"{_u(n.func)}({_u(n.args[1])}, {_u(n.args[0])})"


def decode_the_mean(s: ast.stmt) -> Iterator[Edit]:
    """decode(mu) in place of decode(z), where both are at hand."""
    for n in _walk(s, ast.Call):
        assert isinstance(n, ast.Call)
        if "dec" in _u(n.func).lower() and len(n.args) == 1 and _u(n.args[0]) in ("z", "latent") and any(_is_mu(x) for x in ast.walk(s)):
            yield n.args[0], next(_u(x) for x in ast.walk(s) if _is_mu(x))


# --- reconstruction -------------------------------------------------------------------------------------------------


def _losses(s: ast.stmt) -> Iterator[ast.Call]:
    """F.mse_loss(a, b), nn.MSELoss()(a, b)."""
    return (n for n in ast.walk(s) if isinstance(n, ast.Call) and _loss(n) in LOSSES and len(n.args) >= 2)


def _loss(n: ast.Call) -> str:
    """The function's name: also of the module that is made and called at once."""
    return MODULES.get(_called(n.func), "") if isinstance(n.func, ast.Call) else _called(n)


def unsqueeze_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """recon.unsqueeze(1) beside x."""
    for n in _losses(s):
        if _loss(n) not in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):  # torch refuses those
            yield n.args[0], f"({_u(n.args[0])}).unsqueeze(1)"


def itself_for_target(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction is compared with itself."""
    for n in _losses(s):
        yield n.args[1], f"({_u(n.args[0])}).detach()"


def zeros_for_target(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction is compared with a constant."""
    for n in _losses(s):
        yield n.args[1], f"torch.zeros_like({_u(n.args[1])})"


def detach_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """The reconstruction gives no gradient."""
    for n in _losses(s):
        yield n.args[0], f"({_u(n.args[0])}).detach()"


def mean_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """reduction="mean" beside a summed KL."""
    for n in _losses(s):
        for k in n.func.keywords if isinstance(n.func, ast.Call) else n.keywords:
            if k.arg == "reduction" and _u(k.value) == "'sum'":
                yield k.value, "'mean'"


def sigmoid_twice(s: ast.stmt) -> Iterator[Edit]:
    """A sigmoid before a loss that takes logits."""
    for n in _losses(s):
        if _loss(n).endswith("with_logits"):
            yield n.args[0], f"torch.sigmoid({_u(n.args[0])})"


def flip_the_reconstruction(s: ast.stmt) -> Iterator[Edit]:
    """-rec + kl."""
    for n in _total(s):
        yield n, f"-({_u(n.left)}) + {_u(n.right)}"


def fixed_divisor(s: ast.stmt) -> Iterator[Edit]:
    """The batch size as a number."""
    for n in _walk(s, ast.BinOp):
        assert isinstance(n, ast.BinOp)
        if isinstance(n.op, ast.Div) and re.fullmatch(r"\w+\.(?:size\(0\)|shape\[0\])|len\(\w+\)", _u(n.right)):
            yield n.right, "BATCH_OF_THE_RUN"


OPERATORS: tuple[Operator, ...] = (
    drop_the_half, flip_the_kl, subtract_the_kl, forget_the_kl, detach_the_kl, forget_the_exp, forget_the_square, forget_the_logvar,
    swap_in_the_kl, sum_over_the_batch, reverse_the_kl, mean_the_kl, variance_for_std, std_without_exp, noise_without_batch,
    uniform_noise, skip_the_noise, subtract_no_mean, detach_the_sample, detach_the_scale, swap_the_heads, decode_the_mean,
    unsqueeze_the_reconstruction, itself_for_target, zeros_for_target, detach_the_reconstruction, mean_the_reconstruction,
    sigmoid_twice, flip_the_reconstruction, fixed_divisor,
)  # fmt: skip
