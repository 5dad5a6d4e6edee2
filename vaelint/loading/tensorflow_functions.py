"""What code written for tensorflow calls, said with Keras 3 on torch. Imported only where Keras is.

Signatures as in TensorFlow's API documentation (tensorflow.org/api_docs/python/tf, version 2.16); what is not here is not stood in for.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch

from vaelint.loading.keras_graph import adding
from vaelint.loading.tensorflow_data import CONFIG, DATA, OPTIONS, SUMMARY, TEST
from vaelint.loading.tensorflow_sizes import Draw, Size, Sized, sizes_of
from vaelint.trace.keras_models import settle

keras: Any = importlib.import_module("keras")
settle()
ops: Any = keras.ops


functional: Any = importlib.import_module("keras.src.models.functional").Functional
if not hasattr(keras.layers.Layer.add_loss, "keeps_symbols"):
    keras.layers.Layer.add_loss = functional.add_loss = adding(keras.layers.Layer.add_loss)


def _as_eager(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Tensor.numpy` and `np.array(tensor)` as tensorflow has them: a tensor gives its values whether gradients are taken or not."""

    def values(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        stands_in = getattr(sys.modules.get("tensorflow"), "stands_in", False)
        return original(self.detach() if stands_in and self.requires_grad else self, *args, **kwargs)

    values.as_eager = True  # type: ignore[attr-defined]
    return values


if not hasattr(torch.Tensor.numpy, "as_eager"):
    torch.Tensor.numpy = _as_eager(torch.Tensor.numpy)  # type: ignore[method-assign]
    torch.Tensor.__array__ = _as_eager(torch.Tensor.__array__)  # type: ignore[method-assign]


def _axis(axis: Any) -> Any:
    """An axis, or several: TensorFlow takes a list or a tensor as well."""
    return tuple(int(a) for a in axis) if isinstance(axis, list | tuple) else axis


def _reducing(of: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None, keep_dims: bool = False) -> Any:
        return of(_values(input_tensor), axis=_axis(axis), keepdims=keepdims or keep_dims)

    return reduce


def _values(value: Any) -> Any:
    """A Python number or list, as a tensor; anything else as it is."""
    return ops.convert_to_tensor(value) if isinstance(value, int | float | list) else value


def _one(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, name=None: of(_values(x))


def _two(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y, name=None: of(_values(x), y)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, name: str | None = None) -> Any:
    """`tf.matmul`."""
    turned = [ops.swapaxes(m, -1, -2) if turn else m for m, turn in ((a, transpose_a), (b, transpose_b))]
    return ops.matmul(*turned)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Any:
    """`tf.reshape`."""
    if not isinstance(shape, list | tuple):
        return ops.reshape(_values(tensor), shape)
    if sum(isinstance(n, Size) or n == -1 for n in shape) > 1:
        return Sized(ops.reshape, shape).on(tensor)
    return ops.reshape(_values(tensor), tuple(-1 if isinstance(n, Size) else n for n in shape))


def split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None, name: str | None = None) -> Any:
    """`tf.split`, into that many equal parts or into parts of these sizes."""
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    ends = [sum(num_or_size_splits[: i + 1]) for i in range(len(num_or_size_splits) - 1)]
    return ops.split(value, ends, axis=axis)


def transpose(a: Any, perm: Sequence[int] | None = None, **_: Any) -> Any:
    """`tf.transpose`."""
    return ops.transpose(a, axes=perm)


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """`tf.cast`."""
    return ops.cast(_values(x), dtype)


def one_hot(indices: Any, depth: int, *_: Any, axis: int = -1, dtype: Any = None, **__: Any) -> Any:
    """`tf.one_hot` of ones and zeros."""
    return ops.one_hot(indices, depth, axis=axis, dtype=dtype or "float32")


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """`tf.constant`."""
    made = ops.convert_to_tensor(value, dtype=dtype)
    return made if shape is None else ops.broadcast_to(made, shape)


def variable(initial_value: Any = None, trainable: bool = True, name: str | None = None, dtype: Any = None, **_: Any) -> Any:
    """`tf.Variable`."""
    value = initial_value() if callable(initial_value) else initial_value
    return keras.Variable(ops.convert_to_tensor(value, dtype=dtype), trainable=trainable, dtype=dtype, name=name)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """`tf.where`."""
    return ops.where(condition, x, y)


def tile(input: Any, multiples: Any, name: str | None = None) -> Any:
    """`tf.tile`."""
    if isinstance(multiples, list | tuple) and any(isinstance(n, Size) for n in multiples):
        return Sized(ops.tile, multiples).on(input)
    return ops.tile(input, tuple(multiples) if isinstance(multiples, list | tuple) else multiples)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Any:
    """`tf.broadcast_to`."""
    sizes = _sizes(shape)
    return Sized(ops.broadcast_to, sizes).on(input) if any(isinstance(n, Size) for n in sizes) else ops.broadcast_to(input, sizes)


def random_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None, name: Any = None, std: Any = None
) -> Any:
    """`tf.random.normal`; an operation's own seed counts on from call to call there, so it leaves the draws as they are.

    `std` is the name of Keras 1.
    """
    stddev = stddev if std is None else std
    made = _drawn(keras.random.normal, shape, dtype or "float32")
    made = made if isinstance(stddev, int | float) and stddev == 1 else made * stddev
    return made if isinstance(mean, int | float) and mean == 0 else made + mean


def random_uniform(shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = None, seed: Any = None, name: str | None = None) -> Any:
    """`tf.random.uniform`."""
    high = 1.0 if maxval is None else maxval
    whole = dtype is not None and "int" in keras.backend.standardize_dtype(dtype)
    if whole:
        return keras.random.randint(_sizes(shape), minval, high, dtype=dtype)
    made = _drawn(keras.random.uniform, shape, dtype or "float32")
    return made if (minval, high) == (0, 1) else made * (high - minval) + minval


def _drawn(draw: Callable[..., Any], shape: Any, dtype: Any) -> Any:
    """A draw of the sizes given; one of the model's graph where one of them is that of a symbolic tensor."""
    sizes = _sizes(shape)
    return Draw(draw, sizes, dtype).of() if any(isinstance(n, Size) for n in sizes) else draw(sizes, dtype=dtype)


def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None, name: Any = None) -> Any:
    """`tf.random.truncated_normal`."""
    return keras.random.truncated_normal(_sizes(shape), mean, stddev, dtype=dtype or "float32")


def categorical(logits: Any, num_samples: int, dtype: Any = None, seed: Any = None, name: str | None = None) -> Any:
    """`tf.random.categorical`."""
    return keras.random.categorical(logits, num_samples, dtype=dtype or "int64")


def shuffle(value: Any, seed: Any = None, name: str | None = None) -> Any:
    """`tf.random.shuffle`, along the first axis."""
    return keras.random.shuffle(value, axis=0)


def _sizes(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list | tuple) else (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)


def sigmoid_cross_entropy_with_logits(labels: Any = None, logits: Any = None, name: str | None = None) -> Any:
    """`tf.nn.sigmoid_cross_entropy_with_logits`: one value an element."""
    return ops.binary_crossentropy(labels, logits, from_logits=True)


def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: int = -1, name: str | None = None) -> Any:
    """`tf.nn.softmax_cross_entropy_with_logits`."""
    return ops.categorical_crossentropy(labels, logits, from_logits=True, axis=axis)


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: str | None = None) -> Any:
    """`tf.nn.sparse_softmax_cross_entropy_with_logits`."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def sequence_loss(logits: Any, targets: Any, weights: Any, average_across_timesteps: bool = True, average_across_batch: bool = True) -> Any:
    """`tf.contrib.seq2seq.sequence_loss`."""
    losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True) * weights
    over = [axis for axis, averaged in enumerate((average_across_batch, average_across_timesteps)) if averaged]
    return ops.sum(losses, axis=over) / ops.sum(weights, axis=over) if over else losses


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """`tf.clip_by_value`."""
    return ops.clip(t, clip_value_min, clip_value_max)


def gather(params: Any, indices: Any, *_: Any, axis: int = 0, **__: Any) -> Any:
    """`tf.gather` along one axis."""
    return ops.take(params, indices, axis=axis)


def l2_loss(t: Any, name: str | None = None) -> Any:
    """`tf.nn.l2_loss`."""
    return ops.sum(ops.square(t)) / 2


def moments(x: Any, axes: Any, keepdims: bool = False, name: str | None = None) -> Any:
    """`tf.nn.moments`: mean and variance."""
    return ops.mean(x, axis=_axis(axes), keepdims=keepdims), ops.var(x, axis=_axis(axes), keepdims=keepdims)


def dropout(x: Any, rate: Any = None, **_: Any) -> Any:
    """`tf.nn.dropout`."""
    return keras.random.dropout(x, rate)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str | None = None) -> Any:
    """`tf.unstack`."""
    return ops.unstack(value, num, axis=axis)


def stack(values: Any, axis: int = 0, name: str | None = None) -> Any:
    """`tf.stack`; sizes stay sizes."""
    return tuple(values) if all(isinstance(v, int | Size) for v in values) else ops.stack(list(map(_values, values)), axis=axis)


def function(func: Any = None, **_: Any) -> Any:
    """`tf.function`: the function as it is."""
    return func if func is not None else (lambda f: f)


@contextlib.contextmanager
def scope(*_: Any, **__: Any) -> Iterator[None]:
    """`tf.name_scope` and its like: nothing."""
    yield


class GradientTape:
    """`tf.GradientTape`: torch records by itself, and is asked for the gradients."""

    _open: ClassVar[list[GradientTape]] = []

    def __init__(self, persistent: bool = False, **_: Any) -> None:
        self._persistent = persistent

    def __enter__(self) -> GradientTape:
        self._open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.remove(self)

    def watch(self, tensor: Any) -> None:
        """Makes a plain tensor one that gradients are taken for."""
        for one in tensor if isinstance(tensor, list | tuple) else [tensor]:
            if isinstance(one, torch.Tensor) and one.is_leaf:
                one.requires_grad_(True)

    def gradient(self, target: Any, sources: Any, **_: Any) -> Any:
        """The gradients of what `target` sums to, in the shape of `sources`; None where it does not depend on one.

        Those of parameters come by `backward`, as they do in a training with torch; another tape that is open records what is asked.
        """
        listed = list(sources) if isinstance(sources, list | tuple) else [sources]
        held = [s.value if hasattr(s, "_value") else s for s in listed]
        total = sum(t.sum() for t in target) if isinstance(target, list | tuple) else target if target.dim() == 0 else target.sum()
        found = self._asked(total, held, any(tape is not self for tape in self._open))
        return list(found) if isinstance(sources, list | tuple) else found[0]

    def _asked(self, total: torch.Tensor, held: Sequence[torch.Tensor], within: bool) -> Sequence[Any]:
        if within or not all(isinstance(p, torch.nn.Parameter) for p in held):
            return torch.autograd.grad(total, held, retain_graph=self._persistent or within or None, create_graph=within, allow_unused=True)
        for parameter in held:
            parameter.grad = None
        torch.autograd.backward(total, inputs=list(held), retain_graph=self._persistent or None)
        return [parameter.grad for parameter in held]


NAMES: dict[str, Any] = {
    **{f"reduce_{n}": _reducing(getattr(ops, n)) for n in ("sum", "mean", "max", "min", "prod", "any", "all")},
    **{n: _one(getattr(ops, n)) for n in (
        "exp", "log", "square", "sqrt", "abs", "sigmoid", "tanh", "sin", "cos", "sign", "floor", "round", "rsqrt", "zeros_like",
        "ones_like", "isfinite", "logical_not",
    )},
    **{n: _two(getattr(ops, n)) for n in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal", "greater",
                                          "greater_equal", "less", "less_equal", "logical_and", "logical_or")},
    "pow": _two(ops.power), "reduce_logsumexp": _reducing(ops.logsumexp), "negative": _one(ops.negative),
    "squared_difference": lambda x, y, name=None: ops.square(x - y), "shape": sizes_of,
    "matmul": matmul, "reshape": reshape, "split": split, "transpose": transpose, "cast": cast, "one_hot": one_hot, "constant": constant,
    "concat": lambda values, axis, name=None: ops.concatenate(list(values), axis=axis), "stack": stack, "unstack": unstack,
    "squeeze": lambda input, axis=None, name=None: ops.squeeze(input, axis=axis), "where": where, "tile": tile, "gather": gather,
    "expand_dims": lambda input, axis, name=None: ops.expand_dims(input, axis), "identity": lambda input, name=None: input,
    "argmax": lambda input, axis=0, **_: ops.argmax(input, axis=axis),
    "argmin": lambda input, axis=0, **_: ops.argmin(input, axis=axis),
    "stop_gradient": lambda input, name=None: ops.stop_gradient(input), "convert_to_tensor": constant, "Variable": variable,
    "zeros": lambda shape, dtype="float32", name=None: ops.zeros(_sizes(shape), dtype=dtype), "clip_by_value": clip_by_value,
    "ones": lambda shape, dtype="float32", name=None: ops.ones(_sizes(shape), dtype=dtype),
    "fill": lambda dims, value, name=None: ops.full(_sizes(dims), value), "eye": lambda n, *a, **k: ops.eye(n),
    "range": lambda *a, **k: ops.arange(*a, dtype=k.get("dtype")), "rank": lambda input, name=None: len(input.shape),
    "size": lambda input, *a, **k: ops.size(input), "cumsum": lambda x, axis=0, **k: ops.cumsum(x, axis=axis),
    "norm": lambda tensor, ord="euclidean", axis=None, **k: ops.norm(tensor, ord=None if ord == "euclidean" else ord, axis=axis),
    "random_normal": random_normal, "random_uniform": random_uniform, "truncated_normal": truncated_normal,
    "einsum": ops.einsum, "broadcast_to": broadcast_to,
    "function": function, "name_scope": scope, "device": scope, "GradientTape": GradientTape, "newaxis": None, "Tensor": torch.Tensor,
    "executing_eagerly": lambda: True, "is_tensor": ops.is_tensor, "Module": torch.nn.Module, "print": lambda *a, **k: None,
    "random_normal_initializer": keras.initializers.RandomNormal, "random_uniform_initializer": keras.initializers.RandomUniform,
    "zeros_initializer": keras.initializers.Zeros, "ones_initializer": keras.initializers.Ones, "as_dtype": lambda d: d,
    "initializers": keras.initializers, "losses": keras.losses, "optimizers": keras.optimizers, "metrics": keras.metrics,
    **OPTIONS, **{n: n for n in ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")},
}  # fmt: skip
"""The names at the top of tensorflow."""


def _of_backend(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis=None, keepdims=False: of(_values(x), axis=_axis(axis), keepdims=keepdims)


BACKEND: dict[str, Any] = {
    **{n: _of_backend(getattr(ops, n)) for n in ("sum", "mean", "max", "min", "prod", "std", "var", "logsumexp")},
    **{n: NAMES[n] for n in (
        "exp", "log", "square", "sqrt", "abs", "sigmoid", "tanh", "shape", "cast", "reshape", "maximum", "minimum", "zeros_like",
        "ones_like", "stop_gradient", "expand_dims", "squeeze", "stack", "concatenate", "one_hot", "constant", "tile", "gather",
    ) if n in NAMES},
    "random_normal": random_normal, "random_uniform": random_uniform, "pow": _two(ops.power), "clip": ops.clip, "dot": ops.matmul,
    "softmax": ops.softmax, "softplus": ops.softplus, "relu": ops.relu, "flatten": lambda x: ops.reshape(x, (-1,)),
    "batch_flatten": lambda x: ops.reshape(x, (x.shape[0], -1)), "int_shape": lambda x: tuple(x.shape), "ndim": lambda x: len(x.shape),
    "concatenate": lambda tensors, axis=-1: ops.concatenate(list(tensors), axis=axis), "in_train_phase": lambda x, *_, **__: x,
    "binary_crossentropy": lambda target, output, from_logits=False: ops.binary_crossentropy(target, output, from_logits=from_logits),
    "set_session": lambda session: None, "learning_phase": lambda: 1, "variable": variable,
    "permute_dimensions": lambda x, pattern: ops.transpose(x, axes=pattern),
}  # fmt: skip
"""Keras 2's backend, as far as models use it (keras.io/2.18/api/utils/backend_utils and the sources of Keras 2.3)."""


def resize(images: Any, size: Any, method: str = "bilinear", *_: Any, **__: Any) -> Any:
    """Images (H, W, C) or (B, H, W, C) in another size, as numbers of float32; only the nearest keeps their type."""
    given = images if method == "nearest" else ops.cast(images, "float32")
    return ops.image.resize(given, tuple(int(n) for n in size), interpolation=method, data_format="channels_last")


def convert_image_dtype(image: Any, dtype: Any, *_: Any, **__: Any) -> Any:
    """Whole numbers become fractions of the largest."""
    wanted, held = keras.backend.standardize_dtype(dtype), keras.backend.standardize_dtype(image.dtype)
    largest = torch.iinfo(getattr(torch, held)).max if "int" in held and "float" in wanted else 1
    return ops.cast(image, wanted) / largest


PARTS: dict[str, dict[str, Any]] = {
    "random": {
        "normal": random_normal, "uniform": random_uniform, "truncated_normal": truncated_normal, "categorical": categorical,
        "shuffle": shuffle, "set_seed": lambda seed: None,
    },
    "math": {
        **NAMES, "softplus": _one(ops.softplus), "log1p": _one(ops.log1p), "lgamma": _one(torch.lgamma), "digamma": _one(torch.digamma),
        "reduce_variance": _reducing(ops.var), "reduce_std": _reducing(ops.std), "erf": _one(ops.erf), "l2_normalize": ops.normalize,
        "log_sigmoid": _one(ops.log_sigmoid), "xlogy": _two(torch.xlogy), "is_finite": _one(ops.isfinite),
    },
    "nn": {
        **{n: (lambda of: lambda features, name=None: of(features))(getattr(ops, n)) for n in (
            "relu", "relu6", "selu", "elu", "gelu", "silu", "softplus", "softsign", "sigmoid", "tanh",
        )},
        "swish": lambda features, beta=1.0: ops.silu(features), "leaky_relu": lambda features, alpha=0.2, name=None: ops.leaky_relu(
            features, alpha), "softmax": lambda logits, axis=-1, name=None: ops.softmax(logits, axis=axis),
        "log_softmax": lambda logits, axis=-1, name=None: ops.log_softmax(logits, axis=axis),
        "sigmoid_cross_entropy_with_logits": sigmoid_cross_entropy_with_logits,
        "softmax_cross_entropy_with_logits": softmax_cross_entropy_with_logits,
        "sparse_softmax_cross_entropy_with_logits": sparse_softmax_cross_entropy_with_logits, "l2_loss": l2_loss, "moments": moments,
        "embedding_lookup": lambda params, ids, *a, **k: ops.take(params, ids, axis=0), "dropout": dropout, "l2_normalize": ops.normalize,
    },
    "linalg": {"matmul": matmul, "norm": NAMES["norm"], "einsum": ops.einsum, "diag_part": ops.diagonal, "trace": ops.trace},
    "image": {
        "resize": resize, "rgb_to_grayscale": lambda images, name=None: ops.image.rgb_to_grayscale(images),
        "grayscale_to_rgb": lambda images, name=None: ops.repeat(images, 3, axis=-1), "convert_image_dtype": convert_image_dtype,
    },
    "types": {}, "dtypes": {}, "data": DATA, "config": CONFIG, "test": TEST, "summary": SUMMARY,
    "contrib": {"seq2seq": SimpleNamespace(sequence_loss=sequence_loss)},
}  # fmt: skip
"""The parts of tensorflow with names of their own."""
