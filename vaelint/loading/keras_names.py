"""What is put right in Keras for files that were written for it: data sets that cannot be fetched, functions of Keras 2's backend.

Imported only where Keras is.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
from collections.abc import Callable
from typing import Any

import numpy as np

from vaelint.trace.keras_models import settle

_IMAGES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
_COUNT = 256
_NOT_FETCHED = (Exception,)  # what Keras raises for a data set that it cannot fetch


def put_right(note: Callable[[str], None], stand_in: Callable[[], Any]) -> None:
    """Once `keras` is imported. `note` is told where data is made up; `stand_in` gives tensorflow's."""
    settle()
    for name, shape in _IMAGES.items():
        module: Any = importlib.import_module(f"keras.datasets.{name}")
        if not hasattr(module.load_data, "or_made_up"):
            module.load_data = _or_made_up(module.load_data, name, shape, note)
    if importlib.machinery.PathFinder.find_spec("tensorflow") is None:
        lazy: Any = importlib.import_module("keras.src.utils.module_utils").tensorflow
        lazy.module, lazy._available = stand_in(), False  # what Keras 2's backend calls
    with contextlib.suppress(ImportError):
        _as_before()


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
    for part in ("losses", "metrics", "layers"):
        new, tf = (importlib.import_module(f"{top}.{part}") for top in ("keras", "keras._tf_keras.keras"))
        for name in set(dir(new)) - set(dir(tf)):
            setattr(tf, name, getattr(new, name))


def _or_made_up(original: Callable[..., Any], name: str, shape: tuple[int, ...], note: Callable[[str], None]) -> Callable[..., Any]:
    def load_data(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except _NOT_FETCHED:
            note(f"Keras' {name} cannot be fetched; {_COUNT} made-up images stand for it")
            draw = np.random.RandomState(0)
            return tuple(
                (draw.randint(0, 256, (_COUNT, *shape)).astype("uint8"), draw.randint(0, 10, _COUNT).astype("uint8")) for _ in range(2)
            )

    load_data.or_made_up = True  # type: ignore[attr-defined]
    return load_data


def spare(name: str) -> Any:
    """What Keras has under a name that a file uses and does not import; None where it has nothing."""
    keras: Any = importlib.import_module("keras")
    known = {"layers": keras.layers, "ops": keras.ops, "keras": keras, "K": keras.backend, "Model": keras.Model, "Input": keras.Input}
    return known.get(name, getattr(keras.layers, name, None))
