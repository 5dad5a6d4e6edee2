"""What is put right in Keras for files that were written for it: data sets that cannot be fetched, functions of Keras 2's backend.

Imported only where Keras is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vaelint.trace.keras_models import is_users, settle

_IMAGES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
_TEXTS = {"imdb": 2, "reuters": 46}
"""Data sets of texts, and how many classes theirs have."""
_COUNT = 256
_COUNTS = {"mnist": (60000, 10000), "fashion_mnist": (60000, 10000)}
"""As many as there are, where code may reshape to them; the others are larger."""
_NOT_FETCHED = (Exception,)  # what Keras raises for a data set that it cannot fetch


def put_right(note: Callable[[str], None], stand_in: Callable[[], Any], trains: bool) -> None:
    """Once `keras` is imported. `note` is told where data is made up; `stand_in` gives tensorflow's; `trains`: whether `fit` is to run."""
    settle()
    makers: dict[str, Callable[[Any], Any]] = {name: functools.partial(_images, shape=shape) for name, shape in _IMAGES.items()}
    makers |= {name: functools.partial(_texts, classes=classes) for name, classes in _TEXTS.items()}
    for name, make in makers.items():
        module: Any = importlib.import_module(f"keras.datasets.{name}")
        if not hasattr(module.load_data, "or_made_up"):
            module.load_data = _or_made_up(module.load_data, name, make, note)
    if importlib.machinery.PathFinder.find_spec("tensorflow") is None:
        lazy: Any = importlib.import_module("keras.src.utils.module_utils").tensorflow
        lazy.module, lazy._available = stand_in(), False  # what Keras 2's backend calls
    trainer: Any = importlib.import_module("keras.src.trainers.trainer").Trainer
    if not hasattr(trainer._symbolic_build, "put_off"):
        trainer._symbolic_build = _put_off(trainer._symbolic_build)
        compiling: Any = importlib.import_module("vaelint.loading.keras_compile").compiling
        trainer.compile = compiling(trainer.compile, note, trains)
        taking, layers = (importlib.import_module(m) for m in ("vaelint.loading.keras_graph", "keras.layers"))
        layers.Lambda.__call__ = taking.taking(layers.Lambda.__call__, note)
        layers.Layer.__call__ = taking.taking_more(layers.Layer.__call__, note)
    for utils in (importlib.import_module(f"{top}.utils") for top in ("keras", "keras._tf_keras.keras")):
        if not hasattr(utils.plot_model, "or_not"):
            vars(utils)["plot_model"] = _or_not(utils.plot_model, note)
    with contextlib.suppress(ImportError):
        _as_before()


def _or_not(original: Callable[..., Any], note: Callable[[str], None]) -> Callable[..., Any]:
    """`plot_model`, which draws nothing where what draws is not installed: a picture is no part of a training."""

    @functools.wraps(original)
    def plot_model(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except ImportError:
            note("plot_model is left out: pydot and graphviz are not installed")

    plot_model.or_not = True  # type: ignore[attr-defined]
    return plot_model


def _put_off(original: Callable[..., None]) -> Callable[..., None]:
    """`fit` of code for tensorflow builds a model in its own `train_step`: Keras calls nothing before, there."""

    @functools.wraps(original)
    def symbolic_build(self: Any, *args: Any, **kwargs: Any) -> None:
        if getattr(sys.modules.get("tensorflow"), "stands_in", False) and is_users(self, "train_step"):
            return
        original(self, *args, **kwargs)

    symbolic_build.put_off = True  # type: ignore[attr-defined]
    return symbolic_build


def _as_before() -> None:
    """Functions that Keras 2 had: those of its backend, and losses and layers under the names of tensorflow."""
    functions: Any = importlib.import_module("vaelint.loading.tensorflow_functions")
    known = [importlib.import_module(f"{top}.backend") for top in ("keras", "keras._tf_keras.keras")]
    old: Any = importlib.import_module("keras.src.legacy.backend")
    legacy = {k: v for k, v in vars(old).items() if callable(v) and getattr(v, "__module__", "") == old.__name__}
    for backend in known:
        for name, function in {**legacy, **functions.BACKEND}.items():
            if name in functions.BACKEND or not hasattr(backend, name):
                setattr(backend, name, function)
    for part in ("losses", "metrics", "layers", "preprocessing.image", "preprocessing.sequence"):
        new, tf = (importlib.import_module(f"{top}.{part}") for top in ("keras", "keras._tf_keras.keras"))
        for one, other in ((new, tf), (tf, new)):
            for name in set(dir(one)) - set(dir(other)):
                setattr(other, name, getattr(one, name))
    optimizer, operation = (importlib.import_module(f"keras.src.{m}") for m in ("optimizers.base_optimizer", "ops.operation"))
    if not hasattr(optimizer.BaseOptimizer.__init__, "as_before"):
        optimizer.BaseOptimizer.__init__ = _with_lr(optimizer.BaseOptimizer.__init__)
        operation.Operation.__init__ = _without_slashes(operation.Operation.__init__)
        dense: Any = importlib.import_module("keras.src.layers.core.dense").Dense
        dense.__init__ = _of_whole_units(dense.__init__)
        embedding: Any = importlib.import_module("keras.src.layers.core.embedding").Embedding
        embedding.__init__ = _with_input_length(embedding.__init__)
        first: Any = importlib.import_module("keras.src.layers.core.input_layer").InputLayer
        first.__init__ = _of_one_size(first.__init__)
        layer: Any = importlib.import_module("keras.src.layers.layer").Layer
        layer.__new__ = staticmethod(_with_own_quantize(layer.__new__))
        layer.losses = property(_as_losses(layer.losses.fget))
        layer.add_metric = lambda *_, **__: None  # what Keras 2 shows beside the loss; Keras 3 raises
        variable: Any = importlib.import_module("keras.src.backend.common.variables").Variable
        variable.read_value = lambda self: self.value  # as a variable of tensorflow has it
        checkpoint: Any = importlib.import_module("keras.src.callbacks.model_checkpoint").ModelCheckpoint
        checkpoint.__init__ = _to_any_path(checkpoint.__init__)
        _write_no_board()
        keras_tensor: Any = importlib.import_module("keras").KerasTensor
        keras_tensor.get_shape = lambda self: _Sizes(self.shape)
        trainer: Any = importlib.import_module("keras.src.models.model").Model
        trainer.fit = _with_nb_epoch(trainer.fit)
        trainer.fit_generator = _fit_generator
    whole, losses = (importlib.import_module(name) for name in ("keras", "keras.losses"))
    vars(whole)["objectives"] = sys.modules["keras.objectives"] = losses


class _Losses(list[Any]):
    """What layers add to the loss. A tensor plus such a list is one for each of its entries, as tensorflow has it."""

    def __radd__(self, other: Any) -> Any:
        return other + torch.stack(self) if isinstance(other, torch.Tensor) and self else NotImplemented


def _as_losses(original: Callable[[Any], list[Any]]) -> Callable[[Any], _Losses]:
    return lambda layer: _Losses(original(layer))


def _fit_generator(self: Any, generator: Any, steps_per_epoch: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`fit` over a generator, whose steps may be a quotient: Keras 2 counted up to it."""
    kwargs.update(zip(("epochs", "verbose", "callbacks", "validation_data", "validation_steps"), args, strict=False))
    counts = {"steps_per_epoch": steps_per_epoch} | {k: kwargs.pop(k) for k in ("validation_steps",) if k in kwargs}
    return self.fit(generator, **{k: v if v is None else math.ceil(v) for k, v in counts.items()}, **kwargs)


def _with_lr(original: Callable[..., None]) -> Callable[..., None]:
    """An optimizer that takes `lr` for its learning rate; `decay`, which it took as well, changes nothing in the first steps."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("decay", None)
        if "lr" in kwargs:
            kwargs["learning_rate"] = kwargs.pop("lr")
        original(self, *args, **kwargs)

    init.as_before = True  # type: ignore[attr-defined]
    return init


def _without_slashes(original: Callable[..., None]) -> Callable[..., None]:
    """A layer whose name may hold slashes. Keras reads the arguments off the signature, so it is the same."""

    def init(self: Any, name: Any = None) -> None:
        original(self, name=name.replace("/", "_") if isinstance(name, str) else name)

    return init


def _of_whole_units(original: Callable[..., None]) -> Callable[..., None]:
    """A `Dense` whose units may be a whole number of numpy's, as `np.prod` gives it."""

    @functools.wraps(original)
    def init(self: Any, units: Any, *args: Any, **kwargs: Any) -> None:
        original(self, int(units) if isinstance(units, np.integer) else units, *args, **kwargs)

    init.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return init


def _with_own_quantize(original: Callable[..., Any]) -> Callable[..., Any]:
    """A layer whose `quantize` is the user's, as a codebook has one: Keras 3 puts its own meaning before that name."""

    @functools.wraps(original)
    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        made = original(cls, *args, **kwargs)
        if is_users(made, "quantize"):
            vars(made).pop("quantize", None)
        return made

    return new


def _with_nb_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    """A `fit` that takes `nb_epoch` for its epochs, as Keras 1 did."""

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "nb_epoch" in kwargs:
            kwargs["epochs"] = kwargs.pop("nb_epoch")
        return original(self, *args, **kwargs)

    return fit


class _Sizes(tuple[Any, ...]):
    """The sizes of a symbolic tensor, as those of tensorflow's were asked for."""

    def as_list(self) -> list[Any]:
        """None where a size is open."""
        return list(self)


def _write_no_board() -> None:
    """`TensorBoard` writes nothing: it needs the whole of tensorflow, and a watched training keeps nothing."""
    board: Any = importlib.import_module("keras.src.callbacks.tensorboard").TensorBoard
    for name in [n for n in vars(board) if n.startswith("on_") or n == "set_model"]:
        delattr(board, name)


def _to_any_path(original: Callable[..., None]) -> Callable[..., None]:
    """A `ModelCheckpoint` that may be told a folder or another ending, and a `period`, as in Keras 2."""

    @functools.wraps(original)
    def init(self: Any, filepath: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("period", None)
        ending = ".weights.h5" if kwargs.get("save_weights_only") else ".keras"
        path = str(filepath)
        original(self, path if path.endswith(ending) else f"{path}{ending}", *args, **kwargs)

    return init


def _with_input_length(original: Callable[..., None]) -> Callable[..., None]:
    """An `Embedding` that is told the length of its input, which it finds out by itself."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("input_length", None)
        original(self, *args, **kwargs)

    init.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return init


def _of_one_size(original: Callable[..., None]) -> Callable[..., None]:
    """An `Input` whose shape may be one whole number, as in `shape=(8)`."""

    @functools.wraps(original)
    def init(self: Any, shape: Any = None, *args: Any, **kwargs: Any) -> None:
        original(self, (shape,) if isinstance(shape, int) else shape, *args, **kwargs)

    init.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return init


def _or_made_up(original: Callable[..., Any], name: str, make: Callable[..., Any], note: Callable[[str], None]) -> Callable[..., Any]:
    def load_data(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except _NOT_FETCHED:
            what = "texts" if name in _TEXTS else "images"
            counts = _COUNTS.get(name, (_COUNT, _COUNT))
            note(f"Keras' {name} cannot be fetched; {counts[0]} made-up {what} stand for it")
            draw = np.random.RandomState(0)
            return tuple(make(draw, count, words=kwargs.get("num_words")) for count in counts)

    load_data.or_made_up = True  # type: ignore[attr-defined]
    return load_data


def _images(draw: Any, count: int, shape: tuple[int, ...], words: int | None) -> Any:
    return draw.randint(0, 256, (count, *shape), dtype="uint8"), draw.randint(0, 10, count, dtype="uint8")


def _texts(draw: Any, count: int, classes: int, words: int | None) -> Any:
    """Texts of numbers, each of a length of its own: 1 begins one, 0 is padding."""
    made = np.empty(count, dtype=object)
    for i in range(count):
        made[i] = [1, *draw.randint(2, words or 20000, draw.randint(20, 200)).tolist()]
    return made, draw.randint(0, classes, count)


def spare(name: str) -> Any:
    """What Keras has under a name that a file uses and does not import; None where it has nothing."""
    keras: Any = importlib.import_module("keras")
    known = {"layers": keras.layers, "ops": keras.ops, "keras": keras, "K": keras.backend, "Model": keras.Model, "Input": keras.Input}
    return known.get(name, getattr(keras.layers, name, None))
