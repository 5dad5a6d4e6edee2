"""How Python code spells the parts of a VAE: the mean, the scale, what is squared and exponentiated, draws, and sums that hold a KL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

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


def code(node: ast.AST) -> str:
    return ast.unparse(node)


def called(node: ast.AST) -> str:
    return code(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def names_in(node: ast.AST) -> list[str]:
    return [n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)]


def nodes_of(statement: ast.AST, *kinds: type) -> Iterator[ast.AST]:
    return (n for n in ast.walk(statement) if isinstance(n, kinds))


def is_mu(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and MU.fullmatch(code(node).rpartition(".")[2].lower()) is not None


def is_scale(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and SCALE.fullmatch(code(node).rpartition(".")[2]) is not None


def squared(node: ast.AST) -> ast.AST | None:
    """What is squared: x ** 2, x.pow(2), x.square(), torch.square(x), x * x."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and code(node.right) in ("2", "2.0"):
        return node.left
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and code(node.left) == code(node.right):
        return node.left
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
        if node.func.attr == "square" or (node.func.attr == "pow" and [code(a) for a in node.args][-1:] == ["2"]):
            return node.args[0] if of_torch and node.args else node.func.value
    return None


def exponent(node: ast.AST) -> ast.expr | None:
    """What is exponentiated: torch.exp(x), x.exp()."""
    if isinstance(node, ast.Call) and called(node) in ("exp", "exp_") and isinstance(node.func, ast.Attribute):
        return node.args[0] if node.args else node.func.value
    return None


def spells_kl(statement: ast.AST) -> bool:
    """A statement that spells the Gaussian KL: something squared, something exponentiated, and a log-variance by itself."""
    nodes = list(ast.walk(statement))
    return any(squared(n) is not None for n in nodes) and any(exponent(n) is not None for n in nodes) and any(is_scale(n) for n in nodes)


def sums_with_kl(statement: ast.AST) -> Iterator[ast.BinOp]:
    """The sums of a statement that hold a term named KL."""
    if isinstance(statement, ast.Return | ast.Assign) and not spells_kl(statement):
        for n in nodes_of(statement, ast.BinOp):
            if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) and any("kl" in x.lower() for x in names_in(n.right)):
                yield n
            elif isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) and any("kl" in x.lower() for x in names_in(n.left)):
                yield ast.copy_location(ast.BinOp(n.right, ast.Add(), n.left), n)


def samples(statement: ast.AST) -> Iterator[ast.BinOp]:
    """mu + std * eps, spelt out with signs or methods: eps.mul(std).add_(mu), torch.addcmul(mu, std, eps)."""
    for n in nodes_of(statement, ast.BinOp, ast.Call):
        pairs = [(n.left, n.right), (n.right, n.left)] if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add) else []
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ("add", "add_") and len(n.args) == 1:
            pairs = [(n.args[0], n.func.value), (n.func.value, n.args[0])]
        if isinstance(n, ast.Call) and code(n.func) == "torch.addcmul" and len(n.args) == 3:
            pairs = [(n.args[0], ast.BinOp(n.args[1], ast.Mult(), n.args[2]))]
        for mu, noise in pairs:
            product = isinstance(noise, ast.BinOp) and isinstance(noise.op, ast.Mult)
            if is_mu(mu) and (product or called(noise) in ("mul", "mul_")):
                yield ast.copy_location(ast.BinOp(mu, ast.Add(), noise), n)


def draws(statement: ast.AST) -> Iterator[ast.Call]:
    """q.rsample(), with nothing in the brackets."""
    return (n for n in ast.walk(statement) if isinstance(n, ast.Call) and called(n) == "rsample" and not n.args and not n.keywords)


def deviations(statement: ast.AST) -> Iterator[tuple[ast.Call, ast.expr]]:
    """std = exp(x): the exponential of one value, and the value."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return
    targets, inner = statement.targets, exponent(statement.value)
    named = len(targets) == 1 and re.search(r"(?<!log)(?<!log_)(?:std|sigma|scale)", code(targets[0]), re.IGNORECASE)
    if named and isinstance(inner, ast.Name | ast.Attribute):
        yield statement.value, inner


def half_of(inner: ast.AST | None) -> ast.expr | None:
    """What is halved: 0.5 * x, x / 2, x.mul(0.5), x.div(2)."""
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult):
        return inner.right if code(inner.left) == "0.5" else inner.left if code(inner.right) == "0.5" else None
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div):
        return inner.left if code(inner.right) in ("2", "2.0") else None
    if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and len(inner.args) == 1:
        told = (inner.func.attr.strip("_"), code(inner.args[0]))
        return inner.func.value if told in (("mul", "0.5"), ("div", "2"), ("div", "2.0")) else None
    return None


def root_of_exp(node: ast.AST) -> ast.expr | None:
    """The exponential under a root: x.exp().sqrt(), torch.sqrt(torch.exp(x)), x.exp() ** 0.5, x.exp().pow(0.5)."""
    inner: ast.expr | None = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and code(node.right) in ("0.5", "1 / 2"):
        inner = node.left
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and called(node).strip("_") in ("sqrt", "pow"):
        of_torch = code(node.func.value) == "torch"
        power = code(node.args[-1]) == "0.5" if called(node).startswith("pow") and node.args else called(node).startswith("sqrt")
        inner = (node.args[0] if of_torch and node.args else node.func.value) if power else None
    return inner if inner is not None and exponent(inner) is not None else None


def makes_kl(statement: ast.AST) -> bool:
    """A statement that spells a KL or asks torch for it."""
    return spells_kl(statement) or any(called(n) == "kl_divergence" for n in ast.walk(statement))
