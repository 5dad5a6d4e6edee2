"""Bugs that break a law, as edits of source text: of rows, masks, places, conditions and codes. `LAWS_OF` names the laws of each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from density_operators import DENSITY_OPERATORS
from spellings import LOSSES, MODULES, called, code, nodes_of
from training_operators import TRAINING_OPERATORS

Edit = tuple[ast.AST, str]

_PADDING = re.compile(r"(src_|tgt_|memory_)?key_padding_mask")
_MASK = re.compile(r"(\w*_)?(mask|masks|present|observed|valid|there)(_\w*)?")
_LATENT = re.compile(r"(z|zs|latents?|z_\w+|\w+_z|sample)")
_RECURRENT = frozenset({"GRU", "LSTM", "RNN", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"})


def _calls(s: ast.stmt) -> Iterator[ast.Call]:
    return (n for n in ast.walk(s) if isinstance(n, ast.Call))


def _axis(call: ast.Call) -> ast.expr | None:
    """The axis that a call is given: `dim=1`, or its last argument."""
    named = [k.value for k in call.keywords if k.arg in ("dim", "axis")]
    return named[0] if named else call.args[-1] if call.args else None


def invert_the_padding_mask(s: ast.stmt) -> Iterator[Edit]:
    """A padding mask of an attention that is true where data is."""
    for n in _calls(s):
        for k in n.keywords:
            if k.arg and _PADDING.fullmatch(k.arg) and code(k.value) != "None":
                yield k.value, f"~({code(k.value)})"


def forget_the_padding_mask(s: ast.stmt) -> Iterator[Edit]:
    """An attention that reads padding."""
    for n in _calls(s):
        for k in n.keywords:
            if k.arg and _PADDING.fullmatch(k.arg) and code(k.value) != "None":
                yield k.value, "None"


def invert_the_length(s: ast.stmt) -> Iterator[Edit]:
    """arange(T) >= lengths."""
    for n in nodes_of(s, ast.Compare):
        assert isinstance(n, ast.Compare)
        if len(n.ops) == 1 and isinstance(n.ops[0], ast.Lt) and "arange" in code(n.left):
            yield n, f"{code(n.left)} >= {code(n.comparators[0])}"


def _masked(s: ast.stmt) -> Iterator[ast.BinOp]:
    """x * mask."""
    for n in nodes_of(s, ast.BinOp):
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult) and _MASK.fullmatch(code(n.right).rpartition(".")[2]):
            yield n


def invert_the_mask(s: ast.stmt) -> Iterator[Edit]:
    """What is there counts for nothing, and what is not there counts."""
    for n in _masked(s):
        yield n.right, f"({code(n.right)} == 0)"


def forget_the_mask(s: ast.stmt) -> Iterator[Edit]:
    """What is not there counts as well."""
    for n in _masked(s):
        yield n, code(n.left)


def exchange_the_blend(s: ast.stmt) -> Iterator[Edit]:
    """a * (1 - mask) + b * mask for a * mask + b * (1 - mask)."""
    for n in _masked(s):
        if f"1 - {code(n.right)}" in code(s) or f"~{code(n.right)}" in code(s):
            yield n.right, f"(1 - {code(n.right)})"


def undo_the_straight_through(s: ast.stmt) -> Iterator[Edit]:
    """z + (q - z)."""
    for n in _calls(s):
        if called(n) == "detach" and isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.BinOp):
            yield n, f"({code(n.func.value)})"


def exchange_the_labels(s: ast.stmt) -> Iterator[Edit]:
    """A loss against ones in place of zeros, or zeros in place of ones."""
    for n in _calls(s):
        if called(n) in LOSSES:
            for a in n.args[1:]:
                name = called(a) if isinstance(a, ast.Call) else None
                if name in ("ones_like", "zeros_like") and isinstance(a, ast.Call):
                    yield a.func, "torch.zeros_like" if name == "ones_like" else "torch.ones_like"


def forget_to_turn_back(s: ast.stmt) -> Iterator[Edit]:
    """No flip(...): neither `x.flip(1)` nor `torch.flip(x, [1])`."""
    for n in _calls(s):
        if called(n) == "flip" and isinstance(n.func, ast.Attribute):
            of_torch = code(n.func.value) == "torch"
            yield n, code(n.args[0] if of_torch else n.func.value)


def softmax_over_the_batch(s: ast.stmt) -> Iterator[Edit]:
    """softmax(x, dim=0)."""
    for n in _calls(s):
        axis = _axis(n) if called(n) in ("softmax", "log_softmax", "normalize") else None
        if axis is not None and code(axis) in ("1", "-1"):
            yield axis, "0"


def softmax_over_the_queries(s: ast.stmt) -> Iterator[Edit]:
    """softmax(scores, dim=-2)."""
    for n in _calls(s):
        axis = _axis(n) if called(n) == "softmax" else None
        if axis is not None and code(axis) == "-1":
            yield axis, "-2"


def normalise_over_the_places(s: ast.stmt) -> Iterator[Edit]:
    """F.normalize(codes, dim=1), for dim=-1."""
    for n in _calls(s):
        axis = _axis(n) if called(n) == "normalize" else None
        if axis is not None and code(axis) in ("-1", "2"):
            yield axis, "1"


def read_the_batch_as_time(s: ast.stmt) -> Iterator[Edit]:
    """A recurrent layer or an attention without batch_first."""
    for n in _calls(s):
        for k in n.keywords:
            if called(n) in _RECURRENT and k.arg == "batch_first" and code(k.value) == "True":
                yield k.value, "False"


def shuffle_the_partners(s: ast.stmt) -> Iterator[Edit]:
    """model(x, y) with the rows of y in another order."""
    for n in _calls(s):
        if code(n.func) in ("model", "self.model", "net", "self.net") and len(n.args) > 1 and isinstance(n.args[1], ast.Name):
            yield n.args[1], f"{code(n.args[1])}[torch.randperm(len({code(n.args[1])}))]"


def first_for_last(s: ast.stmt) -> Iterator[Edit]:
    """out[:, 0] for out[:, -1]."""
    for n in nodes_of(s, ast.Subscript):
        if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Tuple) and len(n.slice.elts) > 1 and code(n.slice.elts[1]) == "-1":
            yield n.slice.elts[1], "0"


def same_columns_twice(s: ast.stmt) -> Iterator[Edit]:
    """h[:, :k] for h[:, k:], beside h[:, :k]."""
    for n in nodes_of(s, ast.Subscript):
        if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Tuple) and len(n.slice.elts) == 2:
            last = n.slice.elts[1]
            if isinstance(last, ast.Slice) and last.lower is not None and last.upper is None and not code(last.lower).isdigit():
                yield last, f":{code(last.lower)}"


def zeros_for_the_condition(s: ast.stmt) -> Iterator[Edit]:
    """cat((z, zeros)) for cat((z, y))."""
    for n in _calls(s):
        parts = n.args[0].elts if called(n) in ("cat", "concat") and n.args and isinstance(n.args[0], ast.Tuple | ast.List) else []
        if len(parts) == 2 and _LATENT.fullmatch(code(parts[0])) and isinstance(parts[1], ast.Name):
            yield parts[1], f"torch.zeros_like({code(parts[1])})"


def forget_the_clone(s: ast.stmt) -> Iterator[Edit]:
    """noisy = x for noisy = x.clone()."""
    for n in _calls(s):
        if called(n) == "clone" and not n.args and isinstance(n.func, ast.Attribute):
            yield n, code(n.func.value)


def same_noise_at_each_step(s: ast.stmt) -> Iterator[Edit]:
    """Noise of a generator that begins anew."""
    for n in _calls(s):
        if code(n.func) == "torch.randn_like" and len(n.args) == 1:
            yield n, f"torch.randn({code(n.args[0])}.shape, generator=torch.Generator().manual_seed(0))"


def drop_in_evaluation(s: ast.stmt) -> Iterator[Edit]:
    """F.dropout(h, p) without training=self.training."""
    for n in _calls(s):
        if code(n.func) == "F.dropout":
            for k in n.keywords:
                if k.arg == "training":
                    yield k.value, "True"
            if len(n.args) == 3 and code(n.args[2]) == "self.training":
                yield n.args[2], "True"


def drop_everything(s: ast.stmt) -> Iterator[Edit]:
    """F.dropout(h, self.training): the rate is 1."""
    for n in _calls(s):
        given = [k for k in n.keywords if k.arg in ("training", "p")]
        if code(n.func) == "F.dropout" and any(k.arg == "training" for k in given):
            yield n, f"F.dropout({code(n.args[0])}, self.training)"


def forget_the_sigmoid(s: ast.stmt) -> Iterator[Edit]:
    """Logits where probabilities are asked for."""
    for n in _calls(s):
        if code(n.func) in ("torch.sigmoid", "F.sigmoid") and len(n.args) == 1:
            yield n, code(n.args[0])
        if code(n) == "nn.Sigmoid()" or code(n) == "torch.nn.Sigmoid()":
            yield n, "nn.Identity()" if code(n).startswith("nn") else "torch.nn.Identity()"


def tanh_for_the_data(s: ast.stmt) -> Iterator[Edit]:
    """A tanh for data in [0, 1]."""
    for n in _calls(s):
        if code(n.func) in ("torch.sigmoid", "F.sigmoid"):
            yield n.func, "torch.tanh"
        if code(n) in ("nn.Sigmoid()", "torch.nn.Sigmoid()"):
            yield n, code(n).replace("Sigmoid", "Tanh")


def reshape_for_permute(s: ast.stmt) -> Iterator[Edit]:
    """x.reshape(B, C, H, W) for x.permute(0, 3, 1, 2)."""
    for n in _calls(s):
        if called(n) == "permute" and isinstance(n.func, ast.Attribute) and len(n.args) in (3, 4) and code(n.args[0]) == "0":
            sizes = ", ".join(f"_.shape[{code(a)}]" for a in n.args)
            yield n, f"(lambda _: _.reshape({sizes}))({code(n.func.value)})"


def farthest_code(s: ast.stmt) -> Iterator[Edit]:
    """argmax of distances."""
    for n in _calls(s):
        if called(n) == "argmin" and isinstance(n.func, ast.Attribute):
            yield n.func, f"{code(n.func.value)}.argmax"


def same_layer_again(s: ast.stmt) -> Iterator[Edit]:
    """nn.ModuleList([Block()] * n)."""
    for n in _calls(s):
        made = n.args[0] if called(n) in ("ModuleList", "Sequential") and len(n.args) == 1 else None
        made = made.value if isinstance(made, ast.Starred) else made
        if isinstance(made, ast.ListComp) and len(made.generators) == 1 and not made.generators[0].ifs:
            target = made.generators[0].target
            if isinstance(target, ast.Name) and target.id not in {x.id for x in ast.walk(made.elt) if isinstance(x, ast.Name)}:
                yield made, f"[{code(made.elt)}] * len(list({code(made.generators[0].iter)}))"


def exchange_the_target(s: ast.stmt) -> Iterator[Edit]:
    """The loss's two sides change places."""
    for n in _calls(s):
        name = MODULES.get(called(n.func), "") if isinstance(n.func, ast.Call) else called(n)
        if name in ("binary_cross_entropy", "binary_cross_entropy_with_logits") and len(n.args) >= 2:
            yield n, code(n).replace(f"{code(n.args[0])}, {code(n.args[1])}", f"{code(n.args[1])}, {code(n.args[0])}", 1)


LAW_OPERATORS = (
    invert_the_padding_mask, forget_the_padding_mask, invert_the_length, invert_the_mask, forget_the_mask, exchange_the_blend,
    undo_the_straight_through, exchange_the_labels, forget_to_turn_back, softmax_over_the_batch, softmax_over_the_queries,
    normalise_over_the_places,
    read_the_batch_as_time, shuffle_the_partners, first_for_last, same_columns_twice, zeros_for_the_condition, forget_the_clone,
    same_noise_at_each_step, drop_in_evaluation, drop_everything, forget_the_sigmoid, tanh_for_the_data, reshape_for_permute, farthest_code,
    same_layer_again, exchange_the_target, *DENSITY_OPERATORS, *TRAINING_OPERATORS,
)  # fmt: skip
