"""What torch functions do to values: which keep elements apart, which mix them, which draw, which only look at shapes."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from vaelint.record.marks import attribute, effect
from vaelint.record.record import name_of

# The formatter would give each name a line.
# fmt: off
ADD = frozenset({"add", "sub", "rsub", "iadd", "isub", "radd", "subtract"})
MUL = frozenset({"mul", "imul", "rmul", "multiply"})
DIV = frozenset({"div", "truediv", "itruediv", "true_divide", "divide", "idiv"})
ARITHMETIC = (
    ADD
    | MUL
    | DIV
    | {"neg", "negative", "rtruediv", "rdiv", "pow", "rpow", "square", "reciprocal", "addcmul", "addcdiv", "lerp", "positive", "pos"}
)
CAST = frozenset({"float", "double", "half", "bfloat16", "to", "type", "type_as", "cpu", "cuda", "clone", "contiguous", "requires_grad"})
FUNCTIONS = frozenset([
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logsigmoid", "sqrt", "rsqrt", "abs", "absolute", "sign", "sin", "cos",
    "log_sigmoid",
    "tan", "tanh", "sigmoid", "hardsigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "hardtanh", "hardswish", "tanhshrink", "clamp", "clamp_min", "clamp_max", "clip", "maximum", "minimum", "fmax", "fmin",
    "where", "nan_to_num", "rrelu", "prelu", "threshold", "erf", "digamma", "lgamma", "logit", "xlogy", "masked_fill", "floor", "ceil",
    "round", "trunc", "logaddexp", "hypot", "sinh", "cosh", "asinh", "acosh", "atanh", "atan", "atan2", "frac", "dropout",
    "feature_dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
])
POINTWISE = ARITHMETIC | CAST | FUNCTIONS
SHAPE = frozenset([
    "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "movedim", "moveaxis", "swapaxes",
    "swapdims", "expand", "expand_as", "view_as", "reshape_as", "broadcast_to", "t", "T", "mT", "H", "adjoint", "repeat", "ravel",
])
SELECT = frozenset([
    "getitem", "chunk", "split", "split_with_sizes", "tensor_split", "narrow", "select", "unbind", "index_select", "gather",
    "take_along_dim", "diagonal", "diag", "tril", "triu", "masked_select", "split",
])
JOIN = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack"})
LINEAR_REDUCE = frozenset({"sum", "mean", "nansum", "nanmean"})
REDUCE = LINEAR_REDUCE | frozenset([
    "logsumexp", "max", "min", "amax", "amin", "norm", "prod", "var", "std", "median", "mode", "argmax", "argmin", "cumsum", "cumprod",
    "all", "any", "softmax", "log_softmax", "normalize", "logcumsumexp", "trace", "logdet", "slogdet", "vector_norm", "einsum",
    "linalg_norm", "linalg_vector_norm",
])
PRODUCT = frozenset(
    ["matmul", "bmm", "mm", "mv", "dot", "einsum", "baddbmm", "addmm", "addbmm", "rmatmul", "tensordot", "outer", "ger", "inner", "cdist"]
)
LINEAR_ALGEBRA = frozenset([
    "solve_triangular", "linalg_solve_triangular", "triangular_solve", "cholesky", "cholesky_ex", "cholesky_solve", "cholesky_inverse",
    "det", "inverse", "inv", "solve", "diag_embed", "logdet", "slogdet", "linalg_cholesky", "linalg_det", "linalg_slogdet", "linalg_inv",
    "linalg_solve", "linalg_cholesky_ex",
])
COMPARE = frozenset([
    "lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_not", "and", "or", "invert", "isnan", "isinf",
])
LOSSES = frozenset([
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy",
    "nll_loss", "gaussian_nll_loss", "poisson_nll_loss", "kl_div", "cosine_similarity", "cosine_embedding_loss",
])
RANDOM = frozenset([
    "randn", "randn_like", "rand", "rand_like", "normal", "uniform", "randint", "randint_like", "bernoulli", "exponential", "cauchy",
    "log_normal", "geometric", "poisson", "multinomial", "standard_gamma", "sample_dirichlet", "binomial", "rand_mask", "randperm",
    "gumbel_softmax", "random",
])
"""Names without underscores at the ends, so `normal_` and `_standard_gamma` are in it."""

LAYERS = frozenset(
    {"linear", "bilinear", "addmm", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
)
"""Affine layers: their output has no sign and no bound."""

FLAT = frozenset({"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "bernoulli"})
"""Steps, and a draw of 0 or 1 for which torch gives zeros: their gradient is 0 everywhere."""

OVERWRITES = frozenset(
    {"normal_", "uniform_", "bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_", "random_", "zero_", "fill_", "copy_"}
)
SHAPE_FROM_FIRST = frozenset([
    "randn_like", "rand_like", "zeros_like", "ones_like", "empty_like", "full_like", "randint_like", "new", "new_zeros", "new_ones",
    "new_empty", "new_full", "new_tensor", "size", "numel", "nelement", "empty_strided", "new_empty_strided",
])
SHAPE_FROM_SECOND = frozenset({"expand_as", "view_as", "reshape_as", "type_as"})
# fmt: on


def op(node: fx.Node) -> str:
    """The node's operation by name, without underscores: `add` for `+`, `add_`, `torch.add` and `Tensor.__radd__`."""
    if node.op != "call_function":
        return node.op
    if node.target is attribute:
        return str(node.args[1])
    if node.target is effect:
        return "effect"
    name = name_of(node.target)
    if name == "getitem" and node.args and isinstance(node.args[0], fx.Node) and op(node.args[0]) == "broadcast_tensors":
        return "expand"
    return name


def part(node: fx.Node) -> int | None:
    """Which part `x[0]` or `pair[1]` takes, by a whole number; None for any other operation or index (an array cannot be compared)."""
    index = node.args[1] if op(node) == "getitem" and len(node.args) == 2 else None
    return index if type(index) is int else None


def is_position(node: fx.Node) -> bool:
    """Whether the node is a place of an extreme: `argmin`, `argsort`, or the second result of `min`, `max`, `topk`, `sort`."""
    if op(node) in ("argmin", "argmax", "argsort"):
        return True
    source = node.args[0] if op(node) == "getitem" and node.args else None
    return isinstance(source, fx.Node) and op(source) in ("min", "max", "topk", "sort") and part(node) == 1


def raw_name(node: fx.Node) -> str:
    """The node's operation with its underscores: `normal_`."""
    return str(getattr(node.target, "__name__", node.target))


def changes_in_place(name: str) -> bool:
    """Whether an operation of this name, as torch writes it, changes its first operand: `add_`, `__iadd__`, `__setitem__`."""
    return (name.endswith("_") and not name.endswith("__")) or name.startswith("__i") or name == "__setitem__"


def value_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose *values* the node depends on, through numpy as well; inputs that only lend their shape are left out."""
    carried: tuple[fx.Node, ...] | None = node.meta.get("carried")
    return _value_inputs(node) + list(carried) if carried else _value_inputs(node)


def _value_inputs(node: fx.Node) -> list[fx.Node]:
    if node.op != "call_function":
        return []
    name = op(node)
    ins = node.all_input_nodes
    if name == "expand" and node.target is operator.getitem and isinstance(node.args[1], int):
        parts = tensors(ins[0].args)  # each result holds the values of its own operand
        return [parts[node.args[1]]] if node.args[1] < len(parts) else ins
    if node.meta.get("scalar") and name != "item":
        return [] if name in SHAPE_FROM_FIRST else ins
    if name in SHAPE_FROM_FIRST:
        return [n for n in ins if n is not node.args[0]] if node.args else []
    if raw_name(node) in OVERWRITES:
        first = node.args[0] if node.args else None
        return [n for n in ins if n is not first]
    if name in SHAPE_FROM_SECOND and len(node.args) > 1:
        return [n for n in ins if n is not node.args[1] or n is node.args[0]]
    return ins


def tensors(args: Any) -> list[fx.Node]:
    """The tensor nodes among some arguments, in order."""
    found: list[fx.Node] = []

    def visit(a: Any) -> None:
        if isinstance(a, fx.Node):
            if isinstance(a.meta.get("val"), torch.Tensor) or a.meta.get("val") is None:
                found.append(a)
        elif isinstance(a, tuple | list):
            for x in a:
                visit(x)
        elif isinstance(a, dict):
            for x in a.values():
                visit(x)

    visit(args)
    return found


def is_random(node: fx.Node) -> bool:
    """Whether the node draws. Dropout does not count: it is a layer's business."""
    return bool(node.meta.get("random")) or (node.op == "call_function" and op(node) in RANDOM)


def is_opaque(node: fx.Node) -> bool:
    """Whether a node's value is not one tensor and not a mere selection: the several results of a layer such as an LSTM."""
    return node.op == "call_function" and node.meta.get("val") is None and op(node) not in SELECT | JOIN | {"broadcast_tensors", "meshgrid"}


def uses_parameter(node: fx.Node) -> bool:
    """Whether a parameter is a direct argument (or reaches the node through views and casts of it): a layer's operation."""
    return any(is_parameter(n) for n in node.all_input_nodes)


def is_parameter(node: fx.Node) -> bool:
    """Whether a node is a parameter, or a view, a cast or a part of one; also after a step has moved it in place (`p.add_(e)`)."""
    hops = 0
    while node.op == "call_function" and (op(node) in SHAPE | CAST | SELECT or _is_moved(node)) and node.all_input_nodes and hops < 6:
        node, hops = node.all_input_nodes[0], hops + 1
    return node.op == "get_attr" and bool(node.meta.get("parameter"))


def _is_moved(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.nn.Parameter) and changes_in_place(raw_name(node))


def dims_of(node: fx.Node) -> tuple[int, ...] | None:
    """The axes a reduction reduces, normalised to be non-negative; all of them when none is given."""
    args = list(node.args)
    source = args[0] if args else None
    rank = len(source.meta["val"].shape) if isinstance(source, fx.Node) and isinstance(source.meta.get("val"), torch.Tensor) else 0
    at = 2 if "norm" in op(node) and op(node) != "normalize" else 1  # of norms, the order comes first
    dim = node.kwargs.get("dim", node.kwargs.get("axis", args[at] if len(args) > at else None))
    if dim is None or dim == () or dim == []:
        return tuple(range(rank))
    if isinstance(dim, int):
        dim = (dim,)
    if not isinstance(dim, tuple | list) or not all(isinstance(d, int) for d in dim):
        return None
    return tuple(int(d) % rank for d in dim) if rank else ()


def is_square(product: fx.Node) -> bool:
    """Whether a product is r * r, of one operand twice."""
    return len(product.args) == 2 and product.args[0] is product.args[1]
