"""What does not fit where shapes do not go together, and which size of the layer would."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from vaelint.record import ops
from vaelint.record.record import Failure, shape

_FLATTENS = frozenset({"flatten", "view", "reshape"})
Named = Callable[[fx.Node], tuple[str, ...]]


def what_fits(name: str, operands: list[fx.Node], failure: Failure, dims: Named, compared: bool) -> tuple[str, str]:
    """Why the shapes do not go together, and the size that would."""
    sizes = [shape(n) for n in operands]
    both = len(sizes) >= 2
    if name == "linear" and both and sizes[0] and len(sizes[1]) == 2:
        return _linear(operands[0], sizes)
    if name.startswith("conv") and both and len(sizes[0]) >= 2 and len(sizes[1]) >= 2:
        return _convolution(sizes, sizes[1][0] if "transpose" in name else sizes[1][1] * _groups(failure))
    if name in ("view", "reshape", "unflatten") and sizes:
        return _refolded(sizes[0], failure)
    if compared and both:
        return _comparison(sizes)
    if name in ops.JOIN and both:
        return (
            f"{_text(dims(operands[0]))} and {_text(dims(operands[1]))} differ in a dimension that is not joined",
            "bring the other dimensions to one size before joining",
        )
    if name in ("matmul", "mm", "bmm") and both and sizes[0] and sizes[1]:
        return (
            f"the inner sizes {sizes[0][-1]} and {sizes[1][-2 if len(sizes[1]) > 1 else -1]} must be equal",
            "transpose one of the two, or change the layer that makes it",
        )
    if name in ("batch_norm", "instance_norm") and sizes:
        one = "position of a map" if name == "instance_norm" else "value for each channel"
        return (
            f"it normalises by the mean and variance of its input, and {'x'.join(map(str, sizes[0]))} has a single {one}",
            "a batch of two or more (drop_last=True in the DataLoader), model.eval() for single samples, or LayerNorm or GroupNorm",
        )
    if both:
        return (
            f"{_text(dims(operands[0]))} and {_text(dims(operands[1]))} cannot be combined",
            "bring both operands to one shape before this line",
        )
    return "", "check the sizes that reach this line"


def _linear(given: fx.Node, sizes: list[tuple[int, ...]]) -> tuple[str, str]:
    got, wants = sizes[0][-1], sizes[1][1]
    return (
        f"the layer takes {wants} features and gets {got}{_factors(given, got)}",
        f"make it nn.Linear({got}, {sizes[1][0]}), or feed it {wants} features",
    )


def _convolution(sizes: list[tuple[int, ...]], channels: int) -> tuple[str, str]:
    got = sizes[0][1] if len(sizes[0]) == len(sizes[1]) else sizes[0][0]
    if len(sizes[0]) < len(sizes[1]) - 1:
        return (
            f"the layer takes {len(sizes[1])} dimensions and gets {len(sizes[0])}",
            "bring the tensor back to channels and positions first: view(-1, C, H, W)",
        )
    if got == channels:
        kernel = "x".join(str(n) for n in sizes[1][2:])
        return (
            f"the map is {'x'.join(str(n) for n in sizes[0][2:])} here, and the kernel {kernel}",
            "use fewer strides or more padding before this layer",
        )
    return f"the layer takes {channels} channels and gets {got}", f"make the layer with {got} input channels, or feed it {channels}"


def _refolded(given: tuple[int, ...], failure: Failure) -> tuple[str, str]:
    each = math.prod(given[1:])
    wanted = [int(a) for a in _whole(failure.args[1:])]
    asked = math.prod(n for n in wanted if n > 0)
    per = f"; the new shape asks for a multiple of {asked}" if asked > 1 else ""
    return (
        f"each sample has {each} = {' x '.join(str(n) for n in given[1:]) or each} values{per}",
        "compute the sizes from the tensor (x.size(0), -1, flatten(1)) instead of fixed numbers",
    )


def _comparison(sizes: list[tuple[int, ...]]) -> tuple[str, str]:
    pairs = [f"{p} against {q}" for p, q in zip(reversed(sizes[0]), reversed(sizes[1]), strict=False) if p != q]
    difference = ", ".join(reversed(pairs)) or f"{len(sizes[0])} dimensions against {len(sizes[1])}"
    return (
        f"reconstruction and target differ: {difference}",
        "make the decoder give back the input's shape (output_padding, kernel sizes, a final crop), or reshape one of the two",
    )


def features_read(name: str, operands: list[fx.Node], failure: Failure) -> tuple[int, int] | None:
    """The axis along which a layer reads its features, and how many it takes; None for what is no affine layer."""
    sizes = [shape(n) for n in operands[:2]]
    if len(sizes) < 2 or not sizes[0]:
        return None
    if name == "linear" and len(sizes[1]) == 2:
        return len(sizes[0]) - 1, sizes[1][1]
    if name.startswith("conv") and len(sizes[0]) == len(sizes[1]) > 2:
        return 1, sizes[1][0] if "transpose" in name else sizes[1][1] * _groups(failure)
    return None


def _text(dims: tuple[str, ...]) -> str:
    return "(" + ", ".join(dims) + ")"


def _factors(node: fx.Node, got: int) -> str:
    """` = 64 x 4 x 4`, where the features were flattened on the way."""
    for _ in range(4):
        sources = ops.value_inputs(node)
        if not sources:
            return ""
        if ops.op(node) in _FLATTENS:
            before = shape(sources[0])[1:]
            return f" = {' x '.join(str(n) for n in before)}" if len(before) > 1 and math.prod(before) == got else ""
        if ops.op(node) not in ops.POINTWISE:
            return ""
        node = sources[0]
    return ""


def _groups(failure: Failure) -> int:
    last = failure.args[-1] if failure.args else 1
    return last if isinstance(last, int) and not isinstance(last, bool) and last > 0 and len(failure.args) > 6 else 1


def _whole(values: Any) -> list[int]:
    found: list[int] = []
    for v in values if isinstance(values, tuple | list) else (values,):
        if isinstance(v, tuple | list):
            found += _whole(v)
        elif isinstance(v, fx.Node) and isinstance(v.meta.get("val"), int):
            found.append(v.meta["val"])
        elif isinstance(v, int) and not isinstance(v, bool):
            found.append(v)
    return found


def image_size_before(node: fx.Node) -> str:
    """`3x3`: height and width of the map that a value is, or was before it was flattened; "" where it was none."""
    for _ in range(6):
        size = shape(node)
        if len(size) == 4:
            return f"{size[2]}x{size[3]}"
        sources = ops.value_inputs(node)
        if not sources or ops.op(node) not in ops.POINTWISE | ops.SHAPE:
            return ""
        node = sources[0]
    return ""
