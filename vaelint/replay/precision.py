"""In which type of numbers a value really is: as recorded, or as automatic precision on a GPU would have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import dtype

if TYPE_CHECKING:
    from vaelint.replay.traced import Traced

_NARROW = (torch.float16, torch.bfloat16)
# torch.autocast on CUDA, "Autocast Op Reference" of torch's documentation: these run in the region's type, those in float32,
# all others in the widest type that they are given.
# fmt: off
_TO_HALF = frozenset([
    "matmul", "rmatmul", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "multi_dot", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "mm", "mv", "prelu", "gru_cell", "lstm_cell", "rnn_tanh_cell",
    "rnn_relu_cell", "gru", "lstm", "rnn_tanh", "rnn_relu", "scaled_dot_product_attention", "einsum", "tensordot", "bilinear",
])
_TO_FLOAT = frozenset([
    "pow", "rpow", "square", "rdiv", "rtruediv", "acos", "asin", "binary_cross_entropy_with_logits", "cosh", "cdist", "cosine_similarity",
    "cross_entropy", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm", "kl_div", "l1_loss", "layer_norm", "log", "log10",
    "log_softmax", "log1p", "log2", "mse_loss", "huber_loss", "nll_loss", "norm", "normalize", "poisson_nll_loss", "prod", "reciprocal",
    "rsqrt", "sinh", "smooth_l1_loss", "softmax", "softmin", "softplus", "logsigmoid", "sum", "renorm", "tan", "logsumexp", "vector_norm",
])
# fmt: on


class Precision:
    """The type of each value of one record, worked out in the order they were made."""

    def __init__(self, model: Traced) -> None:
        self._known: dict[fx.Node, torch.dtype | None] = {}
        for node in model.record.graph.nodes:
            self._known[node] = self._type(node)

    def of(self, node: fx.Node) -> torch.dtype | None:
        """The type of a tensor's numbers; None for what is no tensor."""
        return self._known.get(node)

    def _type(self, node: fx.Node) -> torch.dtype | None:
        own = dtype(node)
        region = node.meta.get("autocast")
        if own is not torch.float32 or node.op != "call_function":
            return own
        name = ops.op(node)
        parts = [self._known.get(n) for n in ops.tensors(node.args) + ops.tensors(dict(node.kwargs))]
        floats = [t for t in parts if t is not None and t.is_floating_point]
        narrow = region is not None and region.device == "cuda" and region.dtype in _NARROW
        if narrow and name in _TO_HALF:
            return region.dtype if region is not None else own
        if (narrow and name in _TO_FLOAT) or name in ("float", "to", "type", "type_as", "double") or not floats:
            return own
        return floats[0] if len(set(floats)) == 1 and floats[0] in _NARROW else own


def rounded(value: float, kind: torch.dtype | None) -> float:
    """The number that a type holds in the place of `value`: 1e-8 is 0 in float16, and 1 - 1e-10 is 1 in float32."""
    return value if kind is None or not kind.is_floating_point else float(torch.tensor(value, dtype=torch.float64).to(kind))


def computed_in(kind: torch.dtype | None) -> torch.dtype | None:
    """The type that plain numbers of an operation are brought to: float32 for all narrower ones, which are rounded afterwards."""
    return torch.float32 if kind in (*_NARROW, torch.float32) else kind
